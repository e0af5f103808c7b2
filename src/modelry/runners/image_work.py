"""Pictures that wait are made by one thread, those that can be together in one batch.

A batch goes round the jobs whose pictures are alike, one of each at a time, so that somebody who
wants one picture does not wait for the ten of another. Each picture has its own seed, so what else
is in its batch does not change it.
"""

import gc
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelry.runners.image_drafts import Draft, Look, Made, Picture, Step
from modelry.runners.image_requests import Task
from modelry.runners.refusals import Cancelled, Refused

log = logging.getLogger("runner")

_LOOK_S = 0.1
"""How often a caller who waits is looked after."""

_GATHER_S = 0.01
"""How long a batch that is not full is held open: little beside a picture's making."""

_BROKEN = ("AcceleratorError",)
"""Errors after which a GPU does nothing more for this process."""
_NO_MEMORY = ("OutOfMemoryError", "MemoryError")


@dataclass(frozen=True)
class Preview:
    """`index`: which of the previews of the picture `number`, both from 0."""

    number: int
    index: int
    picture: Picture


@dataclass(frozen=True)
class Finished:
    number: int
    picture: Picture


@dataclass(eq=False)
class Job:
    """One request's pictures. `previews`: how many of each one's making are wanted; `gone` is set
    once nobody waits for it.
    """

    task: Task
    drafts: Sequence[Draft]
    gone: threading.Event
    previews: int = 0
    waiting: deque[int] = field(init=False)
    parts: "queue.SimpleQueue[Preview | Finished | BaseException]" = field(init=False)

    _shown: set[tuple[int, int]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.drafts)))
        self.parts = queue.SimpleQueue()

    @property
    def kind(self) -> tuple[object, ...]:
        """What pictures that are made together have in common."""
        first = self.drafts[0]
        alone = id(self) if len(first.pictures) > 1 else None
        guided = first.negative_prompt is not None
        return (
            self.task, first.size, first.steps, first.guidance, first.strength, guided, alone
        )  # fmt: skip

    def results(self) -> Iterator[Preview | Finished]:
        """As they come, until all are finished. Raises what went wrong, or `Cancelled`."""
        left = len(self.drafts)
        while left:
            try:
                part = self.parts.get(timeout=_LOOK_S)
            except queue.Empty:
                if not self.gone.is_set():
                    continue
                part = self._last()
            if isinstance(part, BaseException):
                raise part
            left -= isinstance(part, Finished)
            yield part

    def _last(self) -> Preview | Finished | BaseException:
        """What came between the last look and `gone`: whoever ends a job says why first."""
        try:
            return self.parts.get_nowait()
        except queue.Empty:
            return Cancelled()

    def show(self, preview: Preview) -> None:
        """Once: a picture may have to be begun anew."""
        if (preview.number, preview.index) not in self._shown:
            self._shown.add((preview.number, preview.index))
            self.parts.put(preview)

    def end(self, problem: BaseException) -> None:
        """None of its pictures is made any more."""
        self.waiting.clear()
        self.parts.put(problem)
        # Last: whoever waits would otherwise take it that nobody does.
        self.gone.set()


def one_by_one(parts: Iterable[Preview | Finished]) -> Iterator[Preview | Finished]:
    """The same with all of a picture before anything of the next: OpenAI's events do not say which
    one they are of.
    """
    later: dict[int, list[Preview | Finished]] = {}
    now = 0
    for part in parts:
        later.setdefault(part.number, []).append(part)
        while now in later:
            for each in later.pop(now):
                yield each
                if isinstance(each, Finished):
                    now += 1


Item = tuple[Job, int]
"""A job, and the number of one of its pictures."""


class Maker(Protocol):
    """What makes the pictures; see `Pipelines`."""

    @property
    def previews(self) -> bool: ...

    def batch_max(self, task: Task, size: tuple[int, int]) -> int: ...

    def run(self, task: Task, drafts: Sequence[Draft], step: Step) -> list[Made]: ...

    def free(self) -> None:
        """Give back the memory that nothing is in any more."""


def take(jobs: "deque[Job]", most: int) -> list[Item]:
    """The next batch: of the first job and those like it, a picture of each in turn. Jobs that have
    none left are taken out; the first goes behind the others, so that those unlike it have a turn.
    """
    kind = jobs[0].kind
    alike = [job for job in jobs if job.kind == kind]
    items: list[Item] = []
    while len(items) < most and any(job.waiting for job in alike):
        for job in alike:
            if job.waiting and len(items) < most:
                items.append((job, job.waiting.popleft()))
    left = [job for job in jobs if job.waiting]
    jobs.clear()
    jobs.extend([job for job in left if job.kind != kind])
    jobs.extend([job for job in left if job.kind == kind])
    return items


class Worker:
    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._run, name="pictures", daemon=True).start()

    def submit(self, job: Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
                self._gather()
                for job in [job for job in self._jobs if job.gone.is_set()]:
                    self._jobs.remove(job)
                if not self._jobs:
                    continue
                first = self._jobs[0]
                items = take(self._jobs, self._maker.batch_max(first.task, first.drafts[0].size))
            self._make(items)

    def _gather(self) -> None:
        """Wait a moment for those who come together with the first: alone it would take as long,
        and they would wait for it.
        """
        first = self._jobs[0]
        most = self._maker.batch_max(first.task, first.drafts[0].size)
        until = time.monotonic() + _GATHER_S
        while sum(len(job.waiting) for job in self._jobs) < most:
            left_s = until - time.monotonic()
            if left_s <= 0 or not self._changed.wait(left_s):
                return

    def _make(self, items: list[Item]) -> None:
        """What goes wrong with several is tried with each alone: one request must not spoil
        another, and memory may do for one.
        """
        items = [item for item in items if not item[0].gone.is_set()]
        if not items:
            return
        started = time.monotonic()
        job, number = items[0]
        draft = job.drafts[number]
        try:
            made = self._maker.run(
                job.task,
                [each.drafts[which] for each, which in items],
                lambda step, steps, look: self._after(items, step, steps, look),
            )
        except Cancelled:
            log.info("left off: nobody waits for it any more")
            return
        except Exception as problem:
            name = type(problem).__name__
            if name in _BROKEN:
                _give_up()
            if len(items) == 1:
                log.exception("a picture was not made")
                # Who it is told to may keep it for long, and with it what its frames hold.
                told = problem.with_traceback(None)
                job.end(_no_room(draft) if name in _NO_MEMORY else told)
        else:
            self._hand_out(items, made, time.monotonic() - started)
            return
        # Only out here: in there, the problem's traceback holds all that the batch had in memory.
        self._free()
        if len(items) > 1:
            log.warning("%d at once: %s; each is made alone", len(items), name)
            for item in items:
                self._make([item])

    def _free(self) -> None:
        gc.collect()
        try:
            self._maker.free()
        except Exception:
            # It fails for no other reason; and without this thread nothing is made any more.
            _give_up()

    def _hand_out(self, items: list[Item], made: list[Made], took_s: float) -> None:
        job, number = items[0]
        draft = job.drafts[number]
        log.info(
            "made %d at %dx%d in %d steps, %.2f s",
            len(items), *draft.size, draft.steps, took_s,
        )  # fmt: skip
        for (each, which), one in zip(items, made, strict=True):
            if one.flagged:
                each.end(_flagged())
            else:
                each.parts.put(Finished(which, one.picture))

    def _after(self, items: list[Item], step: int, steps: int, look: Look) -> None:
        if all(job.gone.is_set() for job, _ in items):
            raise Cancelled
        if not self._maker.previews:
            return
        for at, (job, number) in enumerate(items):
            due = preview_steps(steps, job.previews)
            if step in due and not job.gone.is_set():
                job.show(Preview(number, due.index(step), look(at)))


def _give_up() -> None:
    """Logs what is being handled, and ends: a replica that has ended is started anew."""
    log.exception("the GPU is of no use to this process any more")
    os._exit(1)


def preview_steps(steps: int, previews: int) -> list[int]:
    """After which of the steps a preview is due: evenly between nothing and the picture."""
    return sorted(
        {round(steps * at / (previews + 1)) for at in range(1, previews + 1)} - {0, steps}
    )


def _flagged() -> Refused:
    return Refused(
        "The model's safety checker refuses what came out of this prompt: word it otherwise.",
        param="prompt",
        code="content_policy_violation",
    )


def _no_room(draft: Draft) -> Refused:
    width, height = draft.size
    return Refused(
        f"There is not memory enough to make a picture of {width}x{height}: ask for a smaller one.",
        param="size",
    )
