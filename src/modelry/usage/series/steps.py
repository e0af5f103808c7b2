"""Which steps metrics are kept in, and which a question about a period is answered in. Pure.

Times are Unix seconds here: a step is found by a division, the same in every database.
"""

from dataclasses import dataclass
from datetime import datetime

from modelry.errors import InvalidRequest
from modelry.usage.summary import moment_of

MINUTE_S = 60
HOUR_S = 3600
_DAY_S = 24 * HOUR_S

ASKED_S = {MINUTE_S: 2 * _DAY_S, HOUR_S: 31 * _DAY_S}
"""Kept step → how far back a question may reach that is answered from it."""

PERIODS_S = {
    "1h": HOUR_S,
    "6h": 6 * HOUR_S,
    "24h": _DAY_S,
    "7d": 7 * _DAY_S,
    "30d": 30 * _DAY_S,
}
USUAL_PERIOD = "24h"
POINTS_MAX = 200
# What a chart's points may lie apart. Each is a multiple of the kept step it is made of.
_STEPS_S = (60, 120, 300, 600, 1800, 3600, 7200, 14400)

KEPT_S = {step: asked + _STEPS_S[-1] for step, asked in ASKED_S.items()}
"""How long they are kept: a period begins up to a step earlier than was asked for."""


@dataclass(frozen=True)
class Window:
    """From `start` to before `end`, in points of `step`; both lie on the step."""

    start: int
    end: int
    step: int

    @property
    def kept_step(self) -> int:
        """The step of the rows that its points are made of."""
        return HOUR_S if self.step >= HOUR_S else MINUTE_S


def step_start(at: float, step: int) -> int:
    """The start of the step that a time lies in."""
    return int(at // step) * step


def window_of(period: str | None, start: str | None, end: str | None, now: datetime) -> Window:
    """The question in its caller's words: one of `PERIODS_S` up to now, or from and to.

    Steps that the period has a part of count whole; what has not come yet is left out.
    Raises `InvalidRequest`.
    """
    present = now.timestamp()
    if start is None and end is None:
        length = PERIODS_S[period or USUAL_PERIOD]
        step = next(step for step in _STEPS_S if length <= POINTS_MAX * step)
        last = _step_end(present, step)
        return Window(last - length, last, step)
    if period is not None:
        raise InvalidRequest("period is up to now: give it, or from and to", param="period")
    until = present if end is None else min(moment_of(end, "to").timestamp(), present)
    since = until - _DAY_S if start is None else moment_of(start, "from").timestamp()
    if since >= until:
        raise InvalidRequest("from must lie before to, and before now", param="from")
    return _finest(since, until, present)


def _finest(since: float, until: float, present: float) -> Window:
    for step in _STEPS_S:
        window = Window(step_start(since, step), _step_end(until, step), step)
        points = (window.end - window.start) // step
        if points <= POINTS_MAX and since >= present - ASKED_S[window.kept_step]:
            return window
    days = ASKED_S[HOUR_S] // _DAY_S
    raise InvalidRequest(
        f"metrics are kept for {days} days: the period must begin within them",
        hint="`GET /usage` has sums of older hours",
        param="from",
    )


def _step_end(at: float, step: int) -> int:
    """The end of the last step that lies, in part, before a time."""
    return -step_start(-at, step)
