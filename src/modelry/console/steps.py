"""How far a service is on its way to its first answer: told by its events. Pure.

The way has up to four steps: what it needs is fetched (weights, an engine's runtime, an adapter),
converted where the engine takes it only so, the engine starts, and it serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal, Protocol

from modelry.services.states import ServiceState

Name = Literal["fetch", "convert", "start", "serve"]
FETCH: Name = "fetch"
CONVERT: Name = "convert"
START: Name = "start"
SERVE: Name = "serve"
Standing = Literal["waiting", "moving", "done", "failed"]

_PHASES: dict[str, Name] = {
    ServiceState.PENDING: FETCH,
    ServiceState.FETCHING: FETCH,
    ServiceState.STARTING: START,
    ServiceState.RUNNING: SERVE,
    ServiceState.UPDATING: SERVE,
    # It waits for its first call, with all that it needs at hand.
    ServiceState.IDLE: SERVE,
}
_CONVERTING = frozenset(
    {
        "converting its weights to GGUF",
        "converting its adapter",
        "holding its adapter against its base",
    }
)
_SETTLED = frozenset(
    {
        ServiceState.RUNNING,
        ServiceState.UPDATING,
        ServiceState.IDLE,
        ServiceState.STOPPED,
        ServiceState.FAILED,
    }
)
_BEGINNING = frozenset({ServiceState.PENDING, ServiceState.FETCHING, ServiceState.STARTING})


class Event(Protocol):
    """A transition of the service itself, as the store has it."""

    @property
    def at(self) -> datetime: ...
    @property
    def state(self) -> str: ...
    @property
    def message(self) -> str: ...


@dataclass(frozen=True)
class Step:
    """`took_s`: how long it took, None where it was not needed; `since`: while it goes on."""

    name: Name
    standing: Standing
    took_s: float | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Way:
    """`whole_s`: from the wish to the first replica that served."""

    steps: tuple[Step, ...]
    began_at: datetime | None
    served_at: datetime | None = None

    @property
    def whole_s(self) -> float | None:
        if self.began_at is None or self.served_at is None:
            return None
        return (self.served_at - self.began_at).total_seconds()

    @property
    def standing(self) -> Standing:
        """Of the whole."""
        standings = [step.standing for step in self.steps]
        if "failed" in standings:
            return "failed"
        return "done" if all(each == "done" for each in standings) else "moving"


def way(events: Sequence[Event], *, converts: bool) -> Way:
    """`events`: of the service itself, the oldest first. What came before it was last begun
    anew counts no more. `converts`: whether there is such a step, as far as is known.
    """
    latest = _latest_run(events)
    spent: dict[Name, float] = {}
    at: Name = FETCH
    since = served_at = None
    failed = False
    for number, event in enumerate(latest):
        failed = event.state == ServiceState.FAILED
        if not failed:
            phase = _phase(event)
            if phase is None:
                break
            if phase != at or since is None:
                since = event.at
            at = phase
        if at == SERVE:
            served_at = event.at
            break
        following = latest[number + 1 : number + 2]
        # Waiting to be looked at is no time of fetching.
        if following and not failed and event.state != ServiceState.PENDING:
            took = (following[0].at - event.at).total_seconds()
            spent[at] = spent.get(at, 0.0) + took
    names: list[Name] = [FETCH, START, SERVE]
    if converts or at == CONVERT or CONVERT in spent:
        names.insert(1, CONVERT)
    reached = names.index(at)
    steps = [
        Step(
            name,
            _standing(number, reached, failed=failed, serving=at == SERVE),
            took_s=spent.get(name),
            since=since if number == reached and not failed and at != SERVE else None,
        )
        for number, name in enumerate(names)
    ]
    return Way(tuple(steps), latest[0].at if latest else None, served_at)


def _standing(number: int, reached: int, *, failed: bool, serving: bool) -> Standing:
    if number < reached or serving:
        return "done"
    if number > reached:
        return "waiting"
    return "failed" if failed else "moving"


def _phase(event: Event) -> Name | None:
    if event.state == ServiceState.FETCHING and event.message in _CONVERTING:
        return CONVERT
    return _PHASES.get(event.state)


def _latest_run(events: Sequence[Event]) -> Sequence[Event]:
    begins = 0
    for number, (before, after) in enumerate(pairwise(events), start=1):
        if before.state in _SETTLED and after.state in _BEGINNING:
            begins = number
    return events[begins:]
