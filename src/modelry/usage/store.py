"""Rows of usage: single events, sums by the hour, and up to where each spool is taken.

Nothing here points at the rows of services, keys or users: usage outlives them.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Row,
    Table,
    cast,
    delete,
    func,
    insert,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

from modelry.db import Base, Session, UtcDateTime
from modelry.usage.summary import Summary

# Thousands of events a second are past 32 bits within weeks. SQLite counts in
# 64 bits whatever the column says, but numbers rows only where it says INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")


def _count() -> "MappedColumn[int]":
    """Of what not every request uses; rows from before it was counted have none."""
    return mapped_column(BigInteger, server_default="0")


def now() -> datetime:
    return datetime.now(UTC)


class UsageEventRow(Base):
    """One request. `at` is its end; the other columns are a `UsageEvent`'s fields."""

    __tablename__ = "usage_events"

    seq: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    request_id: Mapped[str]
    service_id: Mapped[str]
    access_path: Mapped[str]
    key_id: Mapped[str]
    user_id: Mapped[str]
    endpoint: Mapped[str]
    status: Mapped[int]
    duration_s: Mapped[float]
    queue_s: Mapped[float]
    first_token_s: Mapped[float | None]
    replica_id: Mapped[str | None]
    stream: Mapped[bool]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    estimated: Mapped[bool]
    cancelled: Mapped[bool]
    images: Mapped[int] = _count()
    pixels: Mapped[int] = _count()
    audio_s: Mapped[float] = mapped_column(Double, server_default="0")
    characters: Mapped[int] = _count()


class UsageHourRow(Base):
    """The sums of one hour, by service and key. `errors`: answers with a status from 400 on."""

    __tablename__ = "usage_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    service_id: Mapped[str] = mapped_column(primary_key=True)
    access_path: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    images: Mapped[int] = _count()
    pixels: Mapped[int] = _count()
    audio_s: Mapped[float] = mapped_column(Double, server_default="0")
    characters: Mapped[int] = _count()


class UsageSourceRow(Base):
    """Up to where the spool `source` is taken."""

    __tablename__ = "usage_sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime]


# The columns of `usage_hours`: what a row is of, and what is summed up.
HOUR_KEYS = ("hour", "service_id", "access_path", "key_id", "user_id")
SUMS = (
    "requests",
    "errors",
    "cancelled",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "images",
    "pixels",
    "audio_s",
    "characters",
)

# Rows come in by the thousand, and by way of their class each costs up to twice as much.
_events = Base.metadata.tables[UsageEventRow.__tablename__]
_hours = Base.metadata.tables[UsageHourRow.__tablename__]
_sources = Base.metadata.tables[UsageSourceRow.__tablename__]

# What the two databases write differently.
_insert_or: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
_day: dict[str, ColumnElement[Any]] = {
    "sqlite": func.strftime("%Y-%m-%d 00:00:00.000000", UsageHourRow.hour),
    "postgresql": func.date_trunc("day", UsageHourRow.hour, "UTC"),
}


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


def insert_or(session: Session, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what becomes of rows that are there already."""
    return _insert_or[_dialect(session)](table)


async def lock_source(session: Session, source: str) -> tuple[int, int]:
    """Up to where the source is taken, as (segment, offset).

    Its row, made where there was none, is locked until the transaction ends.
    """
    new = insert_or(session, _sources).values(source=source, segment=0, offset=0, seen_at=now())
    locked = new.on_conflict_do_update(
        index_elements=["source"], set_={"seen_at": new.excluded.seen_at}
    ).returning(UsageSourceRow.segment, UsageSourceRow.offset)
    segment, offset = (await session.execute(locked)).one()
    return segment, offset


async def move_source(session: Session, source: str, segment: int, offset: int) -> None:
    await session.execute(
        update(UsageSourceRow)
        .where(UsageSourceRow.source == source)
        .values(segment=segment, offset=offset)
    )


async def remove_source(session: Session, source: str) -> None:
    await session.execute(delete(UsageSourceRow).where(UsageSourceRow.source == source))


async def add_events(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    await session.execute(insert(_events), rows)


async def add_to_hours(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add each row's sums to those of its hour, service and key."""
    new = insert_or(session, _hours)
    added = {name: _hours.c[name] + new.excluded[name] for name in SUMS}
    await session.execute(new.on_conflict_do_update(index_elements=HOUR_KEYS, set_=added), rows)


async def prune(session: Session, before: datetime) -> None:
    """Forget events from before then. Hours stay, and so do sources: a spool that comes back
    after years must not be counted again.
    """
    await session.execute(delete(UsageEventRow).where(UsageEventRow.at < before))


async def summed_up(
    session: Session,
    summary: Summary,
    *,
    owner_id: str | None,
    after: Sequence[datetime | str] | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Rows of the summary's columns and of `SUMS`, sorted by the former.

    `owner_id`: only usage by their keys and of their services, None for all usage;
    `after`: only rows that follow the one with these columns.
    """
    day = type_coerce(_day[_dialect(session)], UtcDateTime)
    columns = [day if name == "day" else getattr(UsageHourRow, name) for name in summary.columns]
    statement = (
        select(*columns, *(_sum(name) for name in SUMS))
        .where(UsageHourRow.hour >= summary.start, UsageHourRow.hour < summary.end)
        .group_by(*columns)
        .order_by(*columns)
        .limit(limit)
    )
    if owner_id is not None:
        own_service = UsageHourRow.access_path.startswith(f"{owner_id}/", autoescape=True)
        statement = statement.where((UsageHourRow.user_id == owner_id) | own_service)
    if after is not None:
        statement = statement.where(tuple_(*columns) > tuple(after))
    return (await session.execute(statement)).all()


def _sum(name: str) -> ColumnElement[Any]:
    total = func.sum(_hours.c[name])
    # PostgreSQL makes a decimal of a sum of big integers.
    return total if name == "audio_s" else cast(total, BigInteger)
