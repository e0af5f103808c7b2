"""A full disk under the usage spool: calls are answered as ever, and accounted for once there is
room.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.data_plane import OWNER, Plane, chat
from tests.support.disks import (
    allow_no_more_files,
    fill,
    only_root_mounts,
    resize,
    small_disk,
)
from tests.support.leaks import accounted, accounted_once, at_rest
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

CHAT = "/v1/chat/completions"
# So that a line is long, and a segment soon full.
LONG = f"{OWNER}/{'x' * 4000}"
MORE_THAN_A_SEGMENT = 1600

pytestmark = only_root_mounts


@pytest.fixture
def plane(make_plane: Callable[..., Plane]) -> Iterator[Plane]:
    """A gateway whose spool is on a file system of its own, of 6 MB."""
    plane = make_plane()
    with small_disk(plane.paths.spools, 6):
        plane.restart_gateway()
        plane.await_key(plane.key())
        yield plane
        # It holds a lock there.
        plane.gateway.close()


def calls(plane: Plane, path: str, count: int) -> list[Answer]:
    """So many, by a few callers at once. Fails unless all are answered."""

    def call_on(share: int) -> list[Answer]:
        request = post(CHAT, plane.owner_key, chat(path))
        with plane.wire() as wire:
            return [wire.ask(request) for _ in range(share)]

    with ThreadPoolExecutor(4) as pool:
        found = [each for some in pool.map(call_on, [count // 4] * 4) for each in some]
    assert {answer.status for answer in found} == {200}
    return found


def test_a_full_disk_costs_no_call_and_no_usage(plane: Plane) -> None:
    path = plane.service(plane.replica(slots=8))
    filler = fill(plane.paths.spools)
    early = calls(plane, path, 400)
    assert plane.gateway.process.poll() is None
    filler.unlink()
    late = calls(plane, path, 40)
    at_rest(plane, path)
    accounted_once(plane, early + late)


def test_a_disk_that_fills_up_under_load_costs_no_call_and_no_usage(plane: Plane) -> None:
    """With room for one segment: where the second would begin there is none."""
    path = plane.service(plane.replica(slots=8), name="long", path=LONG)
    plane.control.stop()
    answers = calls(plane, path, 40)
    fill(plane.paths.spools)
    answers += calls(plane, path, MORE_THAN_A_SEGMENT)
    assert segments(plane) == 1
    assert plane.gateway.process.poll() is None
    plane.control.start()
    wait_for(lambda: len(accounted(plane)) > 500, "usage from a disk that is full")
    resize(plane.paths.spools, 20)
    answers += calls(plane, path, 40)
    accounted_once(plane, answers)


def test_room_for_one_segment_is_enough_where_all_of_it_has_been_taken(plane: Plane) -> None:
    path = plane.service(plane.replica(slots=8), name="long", path=LONG)
    answers = calls(plane, path, MORE_THAN_A_SEGMENT)
    assert segments(plane) == 1
    accounted_once(plane, answers)


def segments(plane: Plane) -> int:
    return len(list(plane.paths.spools.glob("*/*.jsonl")))


def test_a_gateway_starts_and_serves_where_the_disk_is_full_already(plane: Plane) -> None:
    path = plane.service(plane.replica())
    assert calls(plane, path, 4)
    fill(plane.paths.spools)
    allow_no_more_files(plane.paths.spools)
    plane.restart_gateway()
    plane.await_key(plane.owner_key)
    early = calls(plane, path, 20)
    resize(plane.paths.spools, 20)
    accounted_once(plane, early + calls(plane, path, 20))
