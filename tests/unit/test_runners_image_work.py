"""Which pictures are made together, when a picture's making is shown, and what becomes of a batch
that fails.
"""

import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.runners import image_work
from modelry.runners.image_drafts import Draft, Made, Step
from modelry.runners.image_requests import Task
from modelry.runners.image_work import (
    Finished,
    Job,
    Preview,
    Worker,
    one_by_one,
    preview_steps,
    take,
)
from modelry.runners.refusals import Cancelled, Refused

DRAFT = Draft("a cat", None, 1, steps=20, guidance=None, strength=None, size=(64, 64))


def job(count: int = 1, draft: Draft = DRAFT) -> Job:
    return Job("generate", [replace(draft, seed=at) for at in range(count)], threading.Event())


def taken(jobs: "deque[Job]", most: int, names: dict[Job, str]) -> str:
    return " ".join(f"{names[each]}{number}" for each, number in take(jobs, most))


def test_all_of_a_picture_comes_before_anything_of_the_next() -> None:
    def shown(number: int, index: int) -> Preview:
        return Preview(number, index, None)

    def done(number: int) -> Finished:
        return Finished(number, None)

    made: list[Preview | Finished] = [shown(1, 0), shown(0, 0), shown(1, 1), shown(0, 1)]
    made += [done(1), done(0), shown(2, 0), done(2)]
    told = [
        (part.number, part.index if isinstance(part, Preview) else "done")
        for part in one_by_one(made)
    ]
    expected = [(number, at) for number in (0, 1) for at in (0, 1, "done")]
    assert told == [*expected, (2, 0), (2, "done")]
    assert next(one_by_one(iter(made[1:2]))) == shown(0, 0), "as soon as it is there"


def test_requests_that_are_alike_are_one_batch() -> None:
    a, b, c = job(), job(draft=replace(DRAFT, prompt="a dog")), job()
    jobs = deque([a, b, c])
    assert taken(jobs, 4, {a: "a", b: "b", c: "c"}) == "a0 b0 c0"
    assert not jobs


def test_others_wait_for_their_own_batch() -> None:
    a, other, b = job(), job(draft=replace(DRAFT, steps=21)), job()
    names = {a: "a", b: "b", other: "o"}
    jobs = deque([a, other, b])
    assert taken(jobs, 4, names) == "a0 b0"
    assert taken(jobs, 4, names) == "o0"


def test_a_request_for_many_does_not_keep_one_for_few_waiting() -> None:
    many, few = job(10), job(1)
    names = {many: "m", few: "f"}
    jobs = deque([many, few])
    assert taken(jobs, 4, names) == "m0 f0 m1 m2"
    assert taken(jobs, 4, names) == "m3 m4 m5 m6"


def test_kinds_take_turns() -> None:
    many, other = job(6), job(2, replace(DRAFT, size=(128, 128)))
    names = {many: "m", other: "o"}
    jobs = deque([many, other])
    assert [taken(jobs, 2, names) for _ in range(4)] == ["m0 m1", "o0 o1", "m2 m3", "m4 m5"]


def test_with_and_without_a_negative_prompt_are_not_alike() -> None:
    assert job().kind != job(draft=replace(DRAFT, negative_prompt="dogs")).kind
    assert job(draft=replace(DRAFT, negative_prompt="cats")).kind == (
        job(draft=replace(DRAFT, negative_prompt="dogs")).kind
    )


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 3)), max_size=8), st.integers(1, 8))
def test_every_picture_is_made_once(wanted: list[tuple[int, int]], most: int) -> None:
    jobs = [job(count, replace(DRAFT, steps=steps)) for count, steps in wanted]
    waiting = deque(jobs)
    made: list[tuple[Job, int]] = []
    while waiting:
        batch = take(waiting, most)
        assert 0 < len(batch) <= most
        assert len({each.kind for each, _ in batch}) == 1
        made += batch
    assert len(made) == len(set(made)) == sum(count for count, _ in wanted)


@given(st.integers(1, 150), st.integers(0, 3))
def test_previews_are_spread_evenly_and_never_the_picture_itself(steps: int, count: int) -> None:
    due = preview_steps(steps, count)
    assert len(due) == min(count, steps - 1)
    assert all(0 < step < steps for step in due)


def test_three_previews_of_eight_steps() -> None:
    assert preview_steps(8, 3) == [2, 4, 6]


# -- batches that fail ---------------------------------------------------------------------


class Tensor:
    """What a batch has in memory; held by itself too, as hooks and closures do it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest keeps of the log holds what its tracebacks hold."""
    monkeypatch.setattr(logging.getLogger("runner"), "disabled", True)


class Small:
    """A maker whose memory is enough for `room` pictures at once."""

    previews = False

    def __init__(self, room: int) -> None:
        self.room = room
        self.held: list[weakref.ref[Tensor]] = []
        self.said: list[str] = []

    def batch_max(self, task: Task, size: tuple[int, int]) -> int:
        return 4

    def run(self, task: Task, drafts: Sequence[Draft], step: Step) -> list[Made]:
        full = any(each() is not None for each in self.held)
        self.said.append(f"{len(drafts)} into {'full' if full else 'empty'} memory")
        tensor = Tensor()
        self.held.append(weakref.ref(tensor))
        if len(drafts) > self.room:
            raise MemoryError
        # Those that are made leave nothing behind.
        self.held.pop()
        return [Made(draft.seed) for draft in drafts]

    def free(self) -> None:
        full = any(each() is not None for each in self.held)
        self.said.append("nothing to free" if full else "freed")


@pytest.mark.usefixtures("unlogged")
def test_after_a_batch_that_was_too_large_each_picture_has_all_the_memory() -> None:
    maker, several = Small(room=1), job(2)
    worker = Worker(maker)
    worker.submit(several)
    worker.start()
    parts = list(several.results())
    assert [part.number for part in parts if isinstance(part, Finished)] == [0, 1]
    assert maker.said == ["2 into empty memory", "freed", *["1 into empty memory"] * 2]


@pytest.mark.usefixtures("unlogged")
def test_after_a_picture_that_was_too_large_the_next_has_all_the_memory() -> None:
    maker, large, next_one = Small(room=0), job(), job(draft=replace(DRAFT, steps=3))
    worker = Worker(maker)
    worker.submit(large)
    worker.submit(next_one)
    worker.start()
    for each in (large, next_one):
        with pytest.raises(Refused, match="not memory enough"):
            list(each.results())
    assert maker.said[:3] == ["1 into empty memory", "freed", "1 into empty memory"]


def test_where_no_memory_can_be_freed_the_process_ends_and_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statuses: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr("os._exit", statuses.put)
    maker = Small(room=0)
    monkeypatch.setattr(maker, "free", lambda: 1 / 0)
    worker = Worker(maker)
    worker.submit(job())
    worker.start()
    assert statuses.get(timeout=20) == 1


def test_who_comes_a_moment_later_is_in_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # For as long as that, it would wait for the batch to be full, and no longer.
    monkeypatch.setattr(image_work, "_GATHER_S", 60.0)
    maker, jobs = Small(room=9), [job(3), job(1)]
    worker = Worker(maker)
    worker.start()
    for each in jobs:
        worker.submit(each)
    for each in jobs:
        assert len(list(each.results())) == len(each.drafts)
    assert maker.said == ["4 into empty memory"]


class Late(queue.SimpleQueue[object]):
    """Something comes just as the one who waits has given up for this time."""

    def __init__(self, ending: Job, problem: BaseException | None) -> None:
        super().__init__()
        self.ending, self.problem = ending, problem

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        if self.problem is None:
            self.ending.gone.set()
        else:
            self.ending.end(self.problem)
        raise queue.Empty


def test_why_a_job_ended_is_said_however_late_it_comes() -> None:
    ended = job()
    ended.parts = Late(ended, Refused("too large"))  # type: ignore[assignment]
    with pytest.raises(Refused, match="too large"):
        list(ended.results())


def test_of_a_job_that_nobody_waits_for_nothing_is_said() -> None:
    left = job()
    left.parts = Late(left, None)  # type: ignore[assignment]
    with pytest.raises(Cancelled):
        list(left.results())
