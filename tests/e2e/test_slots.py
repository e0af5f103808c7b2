"""Requests side by side, what the engine keeps of them, and callers that go away."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.support.calls import begun, finished, streaming
from tests.support.engines import busy_slots, only_replica
from tests.support.instance import Instance
from tests.support.waiting import wait_for

TOKENS = 24


def idle_replica(shared: Instance) -> str:
    """The service's replica, once it works for nobody."""
    replica = only_replica(shared, "demo")
    wait_for(lambda: busy_slots(shared, replica) == 0, "the engine to be idle", 60)
    return replica


def test_more_streams_than_slots_all_finish(
    shared: Instance, demo_key: str, demo_path: str
) -> None:
    assert shared.service("demo")["spec"]["slots"] == 4

    def one_stream(_: int) -> tuple[str | None, int]:
        with streaming(shared, demo_key, demo_path, TOKENS) as stream:
            return finished(stream)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one_stream, range(8)))
    assert ends == [("length", TOKENS)] * 8


def test_a_prompt_sent_again_comes_from_the_cache(
    shared: Instance, demo_key: str, demo_path: str
) -> None:
    prompt = "Name the planets in order. " * 10

    def cached_tokens() -> int:
        with shared.openai(demo_key) as client:
            answer = client.chat.completions.create(
                model=demo_path,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=1,
            )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens_details.cached_tokens or 0

    first, second = cached_tokens(), cached_tokens()
    assert second > max(first, 40)


def test_a_stream_that_nobody_reads_any_more_stops_the_engine(
    shared: Instance, demo_key: str, demo_path: str
) -> None:
    replica = idle_replica(shared)
    with streaming(shared, demo_key, demo_path, 1000) as stream:
        begun(stream)
        assert busy_slots(shared, replica) == 1
    wait_for(lambda: busy_slots(shared, replica) == 0, "the engine to stop", 3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_hangs_up_stops_the_engine(
    shared: Instance, demo_key: str, demo_path: str, stream: bool
) -> None:
    replica = idle_replica(shared)
    body = json.dumps(
        {
            "model": demo_path,
            "messages": [{"role": "user", "content": "Tell me a long story"}],
            "max_tokens": 1000,
            "ignore_eos": True,
            "stream": stream,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        "host: modelry\r\n"
        f"authorization: Bearer {demo_key}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head + body)
        wait_for(lambda: busy_slots(shared, replica) == 1, "the engine to begin")
    wait_for(lambda: busy_slots(shared, replica) == 0, "the engine to stop", 3)
