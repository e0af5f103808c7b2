"""Medians over rounds. Two contestants are compared round by round, because a machine that
is slow for a while is so for both: the median of their ratios is steadier than the ratio of
their medians.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

from bench.gateway.load import CallsDone, Done, StreamsDone

Some = TypeVar("Some", CallsDone, StreamsDone)


def units(done: Done) -> int:
    """Requests or frames."""
    return done.count if isinstance(done, CallsDone) else done.frames


def per_second(done: Done) -> float:
    return units(done) / done.span_s


def cpu_us(done: Done) -> float:
    """The contestant's CPU per request or frame."""
    return done.use.contestant_ns / units(done) / 1000


def per_core_second(done: Done) -> float:
    """Requests or frames that one second of a core's time carries."""
    return units(done) / done.use.contestant_ns * 1e9


def core_share(done: Done) -> float:
    """How much of its core the contestant used."""
    return done.use.contestant_ns / done.span_s / 1e9


def load_share(done: Done) -> float:
    """How much of the other core engine and load used."""
    return (done.use.engine_ns + done.use.load_ns) / done.span_s / 1e9


def middle(rounds: Mapping[int, Some], figure: Callable[[Some], float]) -> float:
    return median(figure(done) for done in rounds.values())


def compared(
    ours: Mapping[int, Some],
    theirs: Mapping[int, Some],
    how: Callable[[Some, Some], float],
) -> float | None:
    """The median over the rounds in which both took part; None where there is none."""
    values = [how(ours[number], theirs[number]) for number in ours if number in theirs]
    return median(values) if values else None
