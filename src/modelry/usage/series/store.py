"""Rows of metrics over time: what requests came to, and what was seen of services.

Nothing here points at the rows of services: a request that ends while its service is deleted
must not hold the others of its batch up. What is left of a service goes with its age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    String,
    Table,
    case,
    cast,
    delete,
    func,
    select,
)

from modelry.db import Base, Session
from modelry.usage.series.points import Counted, Gauged
from modelry.usage.series.rollup import FIRST_TOKEN, KEYS, SUMS
from modelry.usage.series.steps import KEPT_S, MINUTE_S, Window, step_start
from modelry.usage.store import insert_or

_SECONDS = ("generation_s", "queue_s")
_BIG_COUNTS = tuple(name for name in SUMS if name not in (*_SECONDS, *FIRST_TOKEN))
GAUGES = ("inflight", "waiting", "memory_bytes", "replicas")


def _keys() -> tuple[Column[Any], ...]:
    """`start` is in Unix seconds. One service's rows lie together, in the order of time."""
    return (
        Column("step", Integer, primary_key=True),
        Column("service_id", String, primary_key=True),
        Column("start", BigInteger, primary_key=True),
    )


METRIC_COUNTS = Table(
    "metric_counts",
    Base.metadata,
    *_keys(),
    *(Column(name, BigInteger, nullable=False) for name in _BIG_COUNTS),
    *(Column(name, Double, nullable=False) for name in _SECONDS),
    # Of an hour at most: 32 bits hold half a million requests a second.
    *(Column(name, Integer, nullable=False) for name in FIRST_TOKEN),
    Index(None, "step", "start"),
    sqlite_with_rowid=False,
)
"""Of each service and step that had a request."""

METRIC_GAUGES = Table(
    "metric_gauges",
    Base.metadata,
    *_keys(),
    *(Column(name, BigInteger) for name in GAUGES),
    Index(None, "step", "start"),
    sqlite_with_rowid=False,
)
"""Of each service and step that had replicas or a load: the most that was seen."""


@dataclass(frozen=True)
class Rate:
    requests_per_minute: float
    completion_tokens_per_s: float
    """Of all answers together."""


async def add_counts(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add each row's sums to those of its step, service and start."""
    new = insert_or(session, METRIC_COUNTS)
    added = {name: METRIC_COUNTS.c[name] + new.excluded[name] for name in SUMS}
    await session.execute(new.on_conflict_do_update(index_elements=KEYS, set_=added), rows)


async def note_gauges(session: Session, at: int, seen: Mapping[str, Gauged]) -> None:
    """Note what was seen of services, by id, in the steps that `at` lies in."""
    if not seen:
        return
    rows = [
        {"step": step, "service_id": service_id, "start": step_start(at, step), **vars(gauged)}
        for step in KEPT_S
        for service_id, gauged in sorted(seen.items())
    ]
    new = insert_or(session, METRIC_GAUGES)
    most = {name: _larger(METRIC_GAUGES.c[name], new.excluded[name]) for name in GAUGES}
    await session.execute(new.on_conflict_do_update(index_elements=KEYS, set_=most), rows)


def _larger(old: ColumnElement[Any], new: ColumnElement[Any]) -> ColumnElement[Any]:
    """The larger, or the one that is there."""
    return case((old.is_(None) | (new > old), new), else_=old)


async def prune(session: Session, now: float) -> None:
    """Forget what is older than its step is kept."""
    for table in (METRIC_COUNTS, METRIC_GAUGES):
        for step, kept_s in KEPT_S.items():
            old = (table.c.step == step) & (table.c.start < now - kept_s)
            await session.execute(delete(table).where(old))


async def counted(session: Session, service_id: str, window: Window) -> dict[int, Counted]:
    """Start of a point → what the requests in its step came to; those without any are left out."""
    found = {}
    sums = (_sum(name) for name in SUMS)
    for start, *values in await _by_point(session, METRIC_COUNTS, service_id, window, *sums):
        named = dict(zip(SUMS, values, strict=True))
        first_token = tuple(named.pop(name) for name in FIRST_TOKEN)
        found[start] = Counted(**named, first_token=first_token)
    return found


async def gauged(session: Session, service_id: str, window: Window) -> dict[int, Gauged]:
    """Start of a point → the most that was seen within its step."""
    most = (func.max(METRIC_GAUGES.c[name]) for name in GAUGES)
    rows = await _by_point(session, METRIC_GAUGES, service_id, window, *most)
    return {start: Gauged(**dict(zip(GAUGES, values, strict=True))) for start, *values in rows}


async def _by_point(
    session: Session,
    table: Table,
    service_id: str,
    window: Window,
    *columns: ColumnElement[Any],
) -> list[tuple[Any, ...]]:
    """Rows of a point's start and the columns, summed up by the database."""
    point = (table.c.start // window.step).label("point")
    statement = (
        select(point, *columns)
        .where(
            table.c.step == window.kept_step,
            table.c.service_id == service_id,
            table.c.start >= window.start,
            table.c.start < window.end,
        )
        .group_by(point)
    )
    rows = await session.execute(statement)
    return [(number * window.step, *values) for number, *values in rows]


def _sum(name: str) -> ColumnElement[Any]:
    whole = func.sum(METRIC_COUNTS.c[name])
    # PostgreSQL makes a decimal of a sum of big integers.
    return whole if name in _SECONDS else cast(whole, BigInteger)


async def rates(session: Session, now: datetime) -> dict[str, Rate]:
    """Service id → its rate in the minute up to `now`, of all that had a request lately.

    Requests are kept by the calendar's minute. Of the one before this, as much counts as lies
    within the last sixty seconds, as if its requests had come evenly.
    """
    this = step_start(now.timestamp(), MINUTE_S)
    share = 1 - (now.timestamp() - this) / MINUTE_S
    columns = METRIC_COUNTS.c["service_id", "start", "requests", "completion_tokens"]
    lately = METRIC_COUNTS.c.start.between(this - MINUTE_S, this)
    statement = select(*columns).where(METRIC_COUNTS.c.step == MINUTE_S, lately)
    found: dict[str, Rate] = {}
    for service_id, start, requests, tokens in await session.execute(statement):
        weight = 1.0 if start == this else share
        before = found.get(service_id, Rate(0.0, 0.0))
        found[service_id] = Rate(
            before.requests_per_minute + weight * requests,
            before.completion_tokens_per_s + weight * tokens / MINUTE_S,
        )
    return found
