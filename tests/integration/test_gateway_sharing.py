"""What gateway processes of one machine share: counts of limits, and replicas' slots."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sharing import Sharing

Start = Callable[..., Sharing]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that share a folder."""
    made: list[Sharing] = []

    def start(**limits: int) -> Sharing:
        made.append(Sharing(tmp_path, **limits))
        for each in made:
            if each.process.poll() is None:
                each.do("look")
        return made[-1]

    yield start
    for each in made:
        each.close()


def at_once() -> float:
    """A moment from which several processes can begin together."""
    return time.time() + 0.05


# -- limits ------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["requests_per_minute", "concurrency", "tokens_per_minute"])
def test_a_limit_is_exact_to_one_request_a_process_however_they_race(
    start: Start, limit: str
) -> None:
    processes = [start(**{limit: 120}) for _ in range(3)]
    begin = at_once()
    for process in processes:
        process.begin("admit", times=100, at=begin)
    admitted = sum(process.result() for process in processes)
    assert 120 <= admitted <= 120 + 2


def test_one_after_the_other_it_is_exact(start: Start) -> None:
    processes = [start(requests_per_minute=10) for _ in range(3)]
    admitted = [process.do("admit") for _ in range(5) for process in processes]
    assert admitted == [1] * 10 + [0] * 5


def test_what_was_under_way_in_a_process_that_was_killed_is_over(start: Start) -> None:
    one, other = start(concurrency=4), start(concurrency=4)
    assert one.do("admit", times=3) == 3
    assert other.do("admit", times=3) == 1
    one.kill()
    other.do("look")
    assert other.do("admit", times=9) == 3


def test_it_is_over_also_where_the_next_process_takes_its_place_before_anybody_looked(
    start: Start, tmp_path: Path
) -> None:
    one, other = start(concurrency=4), start(concurrency=4)
    assert one.do("admit", times=3) == 3
    assert other.do("admit", times=3) == 1
    one.kill()
    successor = Sharing(tmp_path, concurrency=4)
    try:
        assert other.do("admit", times=9) == 3
        assert successor.do("admit", times=9) == 0
        other.do("settle", tokens=1)
        assert successor.do("admit", times=9) == 1
    finally:
        successor.close()


def test_the_minute_s_requests_and_tokens_outlive_the_process_that_counted_them(
    start: Start,
) -> None:
    start(requests_per_minute=5).do("admit", times=3)
    first = start(requests_per_minute=5)
    assert first.do("admit", times=5) == 2
    first.kill()
    again = start(requests_per_minute=5)
    assert again.do("admit", times=5) == 0


@pytest.mark.parametrize("killed", [True, False], ids=["one-after-another", "side-by-side"])
def test_a_month_s_tokens_survive_every_process(start: Start, killed: bool) -> None:
    for used in (300, 300, 300, 99):
        process = start(tokens_per_month=1000)
        assert process.do("admit", estimate=1) == 1
        process.do("settle", tokens=used)
        if killed:
            process.kill()
    last = start(tokens_per_month=1000)
    assert last.do("admit", times=3, estimate=1) == 1
    last.kill()
    assert start(tokens_per_month=1000).do("admit") == 0


def test_a_request_that_a_kill_cut_off_is_counted_by_its_estimate(start: Start) -> None:
    """Nobody can say what it used: the engine may have worked on it."""
    start(tokens_per_month=1000).do("admit", estimate=1000)
    start(tokens_per_month=1000).kill()
    for process in (start(tokens_per_month=1000), start(tokens_per_month=1000)):
        assert process.do("admit") == 0


def test_files_do_not_pile_up_with_restarts(start: Start, tmp_path: Path) -> None:
    for _ in range(4):
        process = start(requests_per_minute=5)
        process.do("admit")
        process.kill()
    assert len(list(tmp_path.glob("*.counts"))) == 1


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(start: Start, tmp_path: Path) -> None:
    """A file cut short, as a disk error may leave it."""
    process = start(requests_per_minute=5)
    process.do("admit", times=5)
    process.kill()
    (file,) = tmp_path.glob("*.counts")
    file.write_bytes(file.read_bytes()[:1500])
    assert start(requests_per_minute=5).do("admit", times=9) == 5


# -- slots -------------------------------------------------------------------


def test_processes_that_race_for_slots_get_all_of_them_and_no_more(start: Start) -> None:
    processes = [start() for _ in range(3)]
    for number in range(5):
        begin = at_once()
        for process in processes:
            process.begin("take", replica=f"rep_{number}", slots=64, at=begin)
        assert sum(process.result() for process in processes) == 64


def test_a_slot_is_never_held_twice(start: Start) -> None:
    processes = [start() for _ in range(3)]
    for process in processes:
        process.begin("churn", replica="rep_1", slots=2, times=2000)
    held = [span for process in processes for span in process.result()]
    edges = sorted([(begin, 1) for begin, _ in held] + [(end, -1) for _, end in held])
    holders = most = 0
    for _, step in edges:
        holders += step
        most = max(most, holders)
    assert most <= 2
    assert len(held) == 6000


def test_slots_of_a_process_that_was_killed_are_free_at_once(start: Start) -> None:
    one, other = start(), start()
    assert one.do("take", replica="rep_1", slots=4) == 4
    assert other.do("take", replica="rep_1", slots=4) == 0
    one.kill()
    assert other.do("take", replica="rep_1", slots=4) == 4


def test_a_slot_given_back_is_another_s(start: Start) -> None:
    one, other = start(), start()
    one.do("take", replica="rep_1", slots=2)
    one.do("release", replica="rep_1")
    assert other.do("take", replica="rep_1", slots=2) == 1
    assert one.do("take", replica="rep_1", slots=2) == 0


def test_replicas_have_slots_of_their_own(start: Start) -> None:
    one, other = start(), start()
    assert one.do("take", replica="rep_1", slots=2) == 2
    assert other.do("take", replica="rep_2", slots=3) == 3
    assert other.do("take", replica="rep_1", slots=2) == 0


def test_to_forget_one_replica_is_not_to_let_another_go(start: Start) -> None:
    """Closing a file drops every lock on it: only on it."""
    one, other = start(), start()
    one.do("take", replica="rep_1", slots=2)
    one.do("take", replica="rep_2", slots=2)
    one.do("forget", replica="rep_2")
    assert other.do("take", replica="rep_1", slots=2) == 0
