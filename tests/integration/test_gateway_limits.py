"""What keys may use, as their callers see it: refusals, headers, and two gateways that share."""

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from modelry.routing.messages import Limits
from tests.support.data_plane import GatewayProcess, Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, get, post

CHAT = "/v1/chat/completions"
WITH_USAGE = json.dumps({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})


def limited(plane: Plane, **limits: int) -> str:
    return plane.key(limits=Limits(**limits))


def ask(plane: Plane, key: str, path: str, **fake: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(CHAT, key, chat(path, **fake)))


def left(answer: Answer, what: str) -> int:
    return int(answer.headers[f"x-ratelimit-remaining-{what}"])


def assert_over_the_rate(answer: Answer) -> None:
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(answer.headers["retry-after"]) <= 62


@contextmanager
def under_way(plane: Plane, replica: Replica, key: str, path: str) -> Iterator[Wire]:
    """A request that the replica works on until it is let go."""
    busy = replica.seen()["busy"]
    with plane.wire() as wire:
        wire.send(post(CHAT, key, chat(path, gated=True)))
        wait_for(lambda: replica.seen()["busy"] > busy, "the request to reach the replica")
        yield wire


# -- requests ----------------------------------------------------------------


def test_requests_over_the_minute_s_limit_are_refused_and_reach_no_replica(plane: Plane) -> None:
    replica = plane.replica()
    path, key = plane.service(replica), limited(plane, requests_per_minute=3)
    for number in range(3):
        answer = ask(plane, key, path)
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert left(answer, "requests") == 2 - number
    refused = [ask(plane, key, path) for _ in range(2)]
    for answer in refused:
        assert_over_the_rate(answer)
        assert left(answer, "requests") == 0
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    event = plane.event(refused[0])
    assert (event.status, event.prompt_tokens, event.replica_id) == (429, 0, None)
    assert len(replica.requests) == 3
    assert ask(plane, limited(plane, requests_per_minute=3), path).status == 200


def test_a_stream_is_refused_as_a_whole_answer_is(plane: Plane) -> None:
    path, key = plane.service(plane.replica()), limited(plane, requests_per_minute=1)
    body = chat(path, do="stream", chunks=1) | {"stream": True}
    with plane.wire() as wire:
        assert wire.ask(post(CHAT, key, body)).status == 200
        refused = wire.ask(post(CHAT, key, body))
    assert_over_the_rate(refused)
    assert refused.headers["content-type"] == "application/json"


def test_the_official_client_raises_its_typed_error_and_knows_how_long_to_wait(
    plane: Plane,
) -> None:
    path, key = plane.service(plane.replica()), limited(plane, requests_per_minute=1)
    assert ask(plane, key, path).status == 200
    messages: Any = [{"role": "user", "content": "hi"}]
    with plane.openai(key) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=path, messages=messages)
    assert raised.value.code == "rate_limit_exceeded"
    assert int(raised.value.response.headers["retry-after"]) >= 1


def test_what_calls_no_service_is_not_counted(plane: Plane) -> None:
    path, key = plane.service(plane.replica()), limited(plane, requests_per_minute=1)
    with plane.wire() as wire:
        for _ in range(3):
            assert wire.ask(get("/v1/models", key)).status == 200
            assert wire.ask(post(CHAT, key, chat("missing"))).status == 404
            assert wire.ask(post(CHAT, key, b"{")).status == 400
        assert wire.ask(post(CHAT, key, chat(path))).status == 200


def test_a_key_without_limits_a_minute_is_told_of_none(plane: Plane) -> None:
    path = plane.service(plane.replica())
    for key in (plane.owner_key, limited(plane, concurrency=3)):
        answer = ask(plane, key, path)
        assert not [name for name in answer.headers if "ratelimit" in name]


def test_limits_that_change_are_in_force_at_once_and_count_what_was_used(plane: Plane) -> None:
    path = plane.service(plane.replica())
    key = limited(plane, requests_per_minute=2)
    assert [ask(plane, key, path).status for _ in range(3)] == [200, 200, 429]
    plane.change_key(key, limits=Limits(requests_per_minute=3))
    assert [ask(plane, key, path).status for _ in range(2)] == [200, 429]
    plane.change_key(key, limits=None)
    assert [ask(plane, key, path).status for _ in range(5)] == [200] * 5


# -- tokens ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [({}, 256), ({"max_tokens": 40}, 40), ({"max_completion_tokens": 70, "max_tokens": 9}, 70)],
    ids=["unknown", "max_tokens", "max_completion_tokens"],
)
def test_a_request_holds_its_prompt_and_as_many_tokens_as_it_may_get(
    plane: Plane, field: dict[str, int], expected: int
) -> None:
    """A stream's head comes before anybody knows what it uses."""
    path, key = plane.service(plane.replica()), limited(plane, tokens_per_minute=10_000)
    body = json.dumps(chat(path, do="stream", chunks=1) | {"stream": True} | field).encode()
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, key, body))
    assert answer.headers["x-ratelimit-limit-tokens"] == "10000"
    assert left(answer, "tokens") == 10_000 - len(body) // 4 - expected


def test_once_it_is_over_what_the_engine_said_counts(plane: Plane) -> None:
    path, key = plane.service(plane.replica()), limited(plane, tokens_per_minute=10_000)
    assert left(ask(plane, key, path, text=WITH_USAGE), "tokens") == 10_000 - 15
    assert left(ask(plane, key, path, text=WITH_USAGE), "tokens") == 10_000 - 30


def test_a_stream_is_settled_by_the_usage_in_it(plane: Plane) -> None:
    path, key = plane.service(plane.replica()), limited(plane, tokens_per_minute=10_000)
    frames = ['data: {"choices": [{"delta": {}}]}\n\n', f"data: {WITH_USAGE}\n\n"]
    body = chat(path, do="stream", frames=[*frames, "data: [DONE]\n\n"]) | {"stream": True}
    with plane.wire() as wire:
        assert wire.ask(post(CHAT, key, body)).status == 200
    assert left(ask(plane, key, path, text=WITH_USAGE), "tokens") == 10_000 - 30


@pytest.mark.parametrize(
    ("fake", "status"),
    [({"die_after": 0}, 502), ({"status": 400, "text": '{"error": "no"}'}, 400), ({}, 200)],
    ids=["no-replica", "refused", "no-usage-said"],
)
def test_a_call_that_failed_gives_its_tokens_back(
    plane: Plane, fake: dict[str, Any], status: int
) -> None:
    key = limited(plane, tokens_per_minute=10_000)
    answer = ask(plane, key, plane.service(plane.replica()), **fake)
    assert answer.status == status
    if status == 200:
        # The engine worked and did not say how much: the prompt counts by its length.
        assert 10_000 - 256 < left(answer, "tokens") < 10_000
    else:
        assert left(answer, "tokens") == 10_000


def test_tokens_over_the_minute_s_limit_are_refused(plane: Plane) -> None:
    replica = plane.replica(text=WITH_USAGE)
    path, key = plane.service(replica), limited(plane, tokens_per_minute=400)
    with plane.wire() as wire:
        large = post(CHAT, key, chat(path) | {"max_tokens": 350})
        assert wire.ask(large).status == 200
        assert_over_the_rate(wire.ask(post(CHAT, key, chat(path) | {"max_tokens": 390})))
        assert wire.ask(post(CHAT, key, chat(path) | {"max_tokens": 10})).status == 200
    assert len(replica.requests) == 2


def test_a_month_s_tokens_are_a_quota_that_no_client_tries_again(plane: Plane) -> None:
    replica = plane.replica(text=WITH_USAGE)
    path, key = plane.service(replica), limited(plane, tokens_per_month=20)
    assert [ask(plane, key, path).status for _ in range(2)] == [200, 200]
    answer = ask(plane, key, path)
    assert (answer.status, answer.code) == (429, "insufficient_quota")
    messages: Any = [{"role": "user", "content": "hi"}]
    with (
        plane.openai(key).with_options(max_retries=3) as client,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        client.chat.completions.create(model=path, messages=messages)
    assert raised.value.code == "insufficient_quota"
    assert raised.value.request.headers["x-stainless-retry-count"] == "0"
    assert len(replica.requests) == 2


# -- at a time ---------------------------------------------------------------


def test_requests_over_the_concurrency_are_refused_until_one_has_ended(plane: Plane) -> None:
    replica = plane.replica()
    path, key = plane.service(replica), limited(plane, concurrency=1)
    with under_way(plane, replica, key, path) as wire:
        assert_over_the_rate(ask(plane, key, path))
        assert ask(plane, plane.owner_key, path).status == 200
        replica.go()
        assert wire.answer().status == 200
        assert ask(plane, key, path).status == 200


@pytest.mark.parametrize("state", ["running", "starting"])
def test_a_caller_who_hangs_up_gives_its_place_back(plane: Plane, state: str) -> None:
    replica = plane.replica()
    key = limited(plane, concurrency=1)
    path = plane.service(replica)
    other = plane.service(state=state)
    with plane.wire() as wire:
        wire.send(post(CHAT, key, chat(other)))
        wait_for(lambda: ask(plane, key, path).status == 429, "the request to be let in")
    wait_for(lambda: ask(plane, key, path).status == 200, "its place", 5)


# -- restarts, and two gateways ----------------------------------------------


def test_what_was_used_survives_a_restart_of_the_gateway(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    path = plane.service(plane.replica(text=WITH_USAGE))
    minute, month = limited(plane, requests_per_minute=2), limited(plane, tokens_per_month=20)
    for key in (minute, month):
        assert [ask(plane, key, path).status for _ in range(2)] == [200, 200]
    plane.gateway.terminate()
    assert plane.gateway.wait() == 0
    plane.restart_gateway()
    plane.await_key(plane.owner_key)
    wait_for(lambda: ask(plane, plane.owner_key, path).status == 200, "the service")
    assert ask(plane, minute, path).code == "rate_limit_exceeded"
    assert ask(plane, month, path).code == "insufficient_quota"


def test_what_was_used_survives_a_kill_9_and_what_was_under_way_does_not_count_on(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(gateway_workers="2")
    replica = plane.replica(text=WITH_USAGE)
    path = plane.service(replica)
    month, busy = limited(plane, tokens_per_month=20), limited(plane, concurrency=1)
    assert [ask(plane, month, path).status for _ in range(2)] == [200, 200]
    with under_way(plane, replica, busy, path):
        plane.gateway.process.send_signal(signal.SIGKILL)
        plane.gateway.wait()
    plane.restart_gateway()
    plane.await_key(plane.owner_key)
    wait_for(lambda: ask(plane, plane.owner_key, path).status == 200, "the service")
    assert ask(plane, month, path).code == "insufficient_quota"
    assert ask(plane, busy, path).status == 200


Two = tuple[Plane, GatewayProcess]


def ask_at(gateway: GatewayProcess, key: str, path: str) -> Answer:
    with Wire(gateway.port) as wire:
        return wire.ask(post(CHAT, key, chat(path)))


def test_two_gateways_count_as_one(two_gateways: Two) -> None:
    plane, other = two_gateways
    path, key = plane.service(plane.replica()), limited(plane, requests_per_minute=5)
    gateways = [plane.gateway, other] * 4
    answers = [ask_at(gateway, key, path) for gateway in gateways]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
    assert [left(answer, "requests") for answer in answers] == [4, 3, 2, 1, 0, 0, 0, 0]


def test_two_gateways_that_are_called_at_once_are_exact_to_a_request_each(
    two_gateways: Two,
) -> None:
    plane, other = two_gateways
    path, key = plane.service(plane.replica(slots=16)), limited(plane, requests_per_minute=60)
    request = post(CHAT, key, chat(path))

    def call(number: int) -> int:
        with Wire((plane.gateway, other)[number % 2].port) as wire:
            return sum(wire.ask(request).status == 200 for _ in range(25))

    with ThreadPoolExecutor(6) as pool:
        admitted = sum(pool.map(call, range(6)))
    assert 60 <= admitted <= 61


def test_tokens_and_concurrency_are_shared_too(two_gateways: Two) -> None:
    plane, other = two_gateways
    replica = plane.replica(text=WITH_USAGE)
    path = plane.service(replica)
    tokens, month = limited(plane, tokens_per_minute=300), limited(plane, tokens_per_month=30)
    one = limited(plane, concurrency=1)
    assert left(ask_at(plane.gateway, tokens, path), "tokens") == 285
    assert left(ask_at(other, tokens, path), "tokens") == 270
    assert [ask_at(each, month, path).status for each in (plane.gateway, other, other)] == [
        200,
        200,
        429,
    ]
    with under_way(plane, replica, one, path) as wire:
        assert ask_at(other, one, path).status == 429
        replica.go()
        assert wire.answer().status == 200
        assert ask_at(other, one, path).status == 200


def test_a_gateway_that_was_killed_holds_nobody_s_place(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(gateway_workers="2")
    other = plane.another_gateway()
    replica = plane.replica()
    path, key = plane.service(replica), limited(plane, concurrency=1)
    with under_way(plane, replica, key, path):
        # From here on, the place that the first holds is known to the second.
        wait_for(lambda: ask_at(other, key, path).status == 429, "the gateways to share limits")
        plane.gateway.kill()
        wait_for(lambda: ask_at(other, key, path).status == 200, "the place to be free", 5)


def test_a_schema_s_grammar_is_no_part_of_what_a_request_holds(plane: Plane) -> None:
    replica = plane.replica(do="stream", chunks=1)
    path, key = plane.service(replica, grammars=True), limited(plane, tokens_per_minute=10_000)
    wide = {"type": "object", "properties": {f"n{at}": {"type": "string"} for at in range(60)}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": wide}}
    body = chat(path) | {"stream": True, "max_tokens": 50, "response_format": form}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, key, body))
    assert len(replica.requests[0]["body"]) > 10_000
    assert 10_000 - left(answer, "tokens") < 50 + len(json.dumps(body)) // 4


@pytest.mark.parametrize("api", [CHAT, "/v1/messages", "/v1/responses"])
def test_once_nothing_is_left_a_large_body_is_not_looked_at(plane: Plane, api: str) -> None:
    path, key = plane.service(plane.replica()), limited(plane, requests_per_minute=1)
    assert ask(plane, key, path).status == 200
    body = {"model": path, "max_tokens": 9, "messages": "x" * 20_000, "input": [{"type": "odd"}]}
    with plane.wire() as wire:
        refused = wire.ask(post(api, key, body))
    assert refused.status == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert plane.event(refused).endpoint == api.removeprefix("/v1/")
