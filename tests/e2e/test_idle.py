"""A service that nobody calls gives its engine up, and a call brings it back."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from modelry.client import Json
from tests.support.calls import ask, begun, streaming
from tests.support.instance import Instance
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def sleeper(shared: Instance) -> Iterator[str]:
    """The access path of a service that falls asleep after a second."""
    yield str(shared.deploy("sleeper", idle_after_s=1)["access_path"])
    shared.api("DELETE", "/services/sleeper")
    gone = "the service to be gone"
    wait_for(lambda: shared.api("GET", "/services/sleeper").status_code == 404, gone)


def asleep(shared: Instance) -> None:
    """Wait until it is idle and nothing of it is left running."""
    service = shared.await_state("sleeper", "idle", 20)
    assert [each for each in service["status"]["replicas"] if each["state"] == "ready"] == []
    only_demo = "the engine to end"
    wait_for(lambda: len(shared.engine_pids()) == 1, only_demo, 20)


def starts(shared: Instance) -> list[Json]:
    """The events of its replicas that became ready, newest first."""
    found = shared.api("GET", "/services/sleeper/events").json()["data"]
    return [event for event in found if event.get("replica")]


def first_token_s(shared: Instance, key: str, path: str) -> float:
    start = time.monotonic()
    with streaming(shared, key, path, 4) as stream:
        begun(stream)
        return time.monotonic() - start


def test_an_idle_service_ends_its_engine_and_a_call_wakes_it(
    shared: Instance, demo_key: str, sleeper: str
) -> None:
    warm_s = first_token_s(shared, demo_key, sleeper)
    asleep(shared)
    known = {event["replica"] for event in starts(shared)}
    woken_s = first_token_s(shared, demo_key, sleeper)
    assert len(shared.engine_pids()) == 2
    events = [event for event in starts(shared) if event["replica"] not in known]
    assert len({event["replica"] for event in events}) == 1
    at = [datetime.fromisoformat(event["at"]) for event in events]
    load_s = (max(at) - min(at)).total_seconds()
    print(
        f"first token: {warm_s:.2f} s warm, {woken_s:.2f} s from idle, {load_s:.2f} s of it until"
        f" the engine was ready: {woken_s / (load_s + warm_s):.2f} times what it needs"
    )
    # Loose, for a busy machine; nothing must wait for a look every few seconds.
    assert woken_s < 1.5 * (load_s + warm_s) + 3
    # And it falls asleep again by itself.
    asleep(shared)


def test_calls_that_come_together_wake_it_once_and_are_all_answered(
    shared: Instance, demo_key: str, sleeper: str
) -> None:
    asleep(shared)
    known = {event["replica"] for event in starts(shared)}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(shared, demo_key, sleeper), range(6)))
    assert all(isinstance(answer, str) for answer in answers)
    assert len({event["replica"] for event in starts(shared)} - known) == 1
