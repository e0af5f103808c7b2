"""Takes the usage events that gateways send, each exactly once.

A gateway sends the lines of its spool until it hears that they are stored. It may
send them again, in other batches, after either side died. Where a line ends, as
(segment, offset), is its number for ever: what lies before the cursor that is
stored with the events has been taken.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from modelry.db import Database
from modelry.routing.messages import UsageBatch, UsageEvent, UsageTaken, decode_usage_event
from modelry.usage import store
from modelry.usage.series import rollup
from modelry.usage.series import store as series
from modelry.usage.summary import hour_of

log = logging.getLogger(__name__)

_PRUNE_EVERY_S = 3600.0
# Beyond any request and any clock, and far within what the columns and their sums hold.
_COUNT_MAX = 2**40
_AT_MAX = 2**33
# What is added up as the events have it.
_COUNTS = tuple(name for name in store.SUMS if name not in ("requests", "errors", "cancelled"))


class Intake:
    """`keep_days`: how long single events are kept; the hours' sums stay for ever."""

    def __init__(self, db: Database, keep_days: int) -> None:
        self._db = db
        self._kept = timedelta(days=keep_days)
        self._prune_at = 0.0

    async def take(self, batch: UsageBatch, lines: bytes) -> UsageTaken:
        """Store what is new in the batch; returns once that is for good."""
        end = (batch.segment, batch.start + len(lines))
        async with self._db.begin() as session:
            cursor = await store.lock_source(session, batch.source)
            if end > cursor:
                events = list(_new_events(batch, lines, cursor))
                if events:
                    await store.add_events(session, [_event_row(event) for event in events])
                    await store.add_to_hours(session, _hour_rows(events))
                    await series.add_counts(session, rollup.rows_of(events))
                cursor = end
                await store.move_source(session, batch.source, *cursor)
        await self._prune_now_and_then()
        return UsageTaken(batch.source, *cursor)

    async def end(self, source: str) -> None:
        """The spool is deleted: nothing more will come of it."""
        async with self._db.begin() as session:
            await store.remove_source(session, source)

    async def _prune_now_and_then(self) -> None:
        time = asyncio.get_running_loop().time()
        if time < self._prune_at:
            return
        self._prune_at = time + _PRUNE_EVERY_S
        async with self._db.begin() as session:
            await store.prune(session, store.now() - self._kept)


def _new_events(batch: UsageBatch, lines: bytes, cursor: tuple[int, int]) -> Iterator[UsageEvent]:
    """The events that end after the cursor. What is none is skipped, with a word in the log."""
    position = batch.start
    *whole, half = lines.split(b"\n")
    for line in whole:
        position += len(line) + 1
        if (batch.segment, position) > cursor:
            try:
                yield _event(line)
            except (ValueError, msgspec.DecodeError) as error:
                _log_skipped(batch, position, error)
    if half:
        _log_skipped(batch, position + len(half), "it was cut off")


def _event(line: bytes) -> UsageEvent:
    """Raises an error for what is no event, or one that no database would take.

    The transaction it broke would be tried for ever, and nothing behind it got past.
    """
    event = decode_usage_event(line)
    counts = (getattr(event, name) for name in _COUNTS)
    if not all(0 <= count < _COUNT_MAX for count in counts):
        raise ValueError("it counts more or less than can be")
    seconds = (event.duration_s, event.queue_s, event.first_token_s or 0.0)
    if not all(0 <= each < _COUNT_MAX for each in seconds):
        raise ValueError("it took longer or shorter than can be")
    if not (0 <= event.at < _AT_MAX and 0 <= event.status < 1000):
        raise ValueError("its time or status cannot be")
    if b"\\u0000" in line:
        raise ValueError("PostgreSQL takes no NUL")
    return event


def _log_skipped(batch: UsageBatch, position: int, reason: object) -> None:
    place = f"{batch.source}, segment {batch.segment}, the line before {position}"
    log.warning("%s is skipped, it is no usage event: %s", place, reason)


def _event_row(event: UsageEvent) -> dict[str, Any]:
    row = msgspec.structs.asdict(event)
    row["at"] = datetime.fromtimestamp(event.at, UTC)
    row["user_id"] = row.pop("owner_id")
    return row


def _hour_rows(events: Iterable[UsageEvent]) -> list[dict[str, Any]]:
    """The events' sums by hour, service and key.

    They are sorted, so that no two batches lock the same rows crosswise.
    """
    sums: defaultdict[tuple[datetime, str, str, str, str], dict[str, float]]
    sums = defaultdict(lambda: dict.fromkeys(store.SUMS, 0))
    for event in events:
        hour = hour_of(datetime.fromtimestamp(event.at, UTC))
        row = sums[hour, event.service_id, event.access_path, event.key_id, event.owner_id]
        row["requests"] += 1
        row["errors"] += event.status >= 400 and not event.cancelled
        row["cancelled"] += event.cancelled
        for name in _COUNTS:
            row[name] += getattr(event, name)
    return [dict(zip(store.HOUR_KEYS, key, strict=True)) | sums[key] for key in sorted(sums)]
