"""Which pictures are made together, and when a picture's making is shown."""

import threading
from collections import deque
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modelry.runners.image_drafts import Draft
from modelry.runners.image_work import Job, preview_steps, take

DRAFT = Draft("a cat", None, 1, steps=20, guidance=None, strength=None, size=(64, 64))


def job(count: int = 1, draft: Draft = DRAFT) -> Job:
    return Job("generate", [replace(draft, seed=at) for at in range(count)], threading.Event())


def taken(jobs: "deque[Job]", most: int, names: dict[Job, str]) -> str:
    return " ".join(f"{names[each]}{number}" for each, number in take(jobs, most))


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
