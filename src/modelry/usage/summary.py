"""What a question about usage asks for: which hours, summed up by what, after which row.

Usage is kept by the hour, so a period is one of full hours.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from modelry.errors import InvalidRequest

# What usage can be summed up by, and its columns. Rows are sorted in this order, whatever
# order was asked for; of services by their access paths, which people read.
GROUPS = {
    "hour": ("hour",),
    "day": ("day",),
    "service": ("access_path", "service_id"),
    "key": ("key_id",),
    "user": ("user_id",),
}

_HOUR = timedelta(hours=1)
_USUAL_PERIOD = timedelta(days=30)


@dataclass(frozen=True)
class Summary:
    """Usage from the hour `start` to before the hour `end`, summed up by `groups`."""

    start: datetime
    end: datetime
    groups: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for group in self.groups for column in GROUPS[group])

    @property
    def by_time(self) -> bool:
        return self.groups[0] in ("hour", "day")


def summary_of(start: str | None, end: str | None, group_by: str, now: datetime) -> Summary:
    """The question in its caller's words; hours that the period has a part of count whole.

    Raises `InvalidRequest`.
    """
    last = now if end is None else moment_of(end, "to")
    first = last - _USUAL_PERIOD if start is None else moment_of(start, "from")
    if first >= last:
        raise InvalidRequest("from must lie before to", param="from")
    return Summary(hour_of(first), hour_of(last + _HOUR - timedelta.resolution), _groups(group_by))


def hour_of(moment: datetime) -> datetime:
    """The start of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _groups(text: str) -> tuple[str, ...]:
    words = [word.strip() for word in text.split(",")]
    groups = tuple(group for group in GROUPS if group in words)
    if len(groups) != len(words) or {"hour", "day"} <= set(groups):
        raise InvalidRequest(
            "group_by takes service, key, user, and hour or day, each once, with a comma between",
            param="group_by",
        )
    return groups


def moment_of(text: str, param: str) -> datetime:
    """A time with its zone, or the start of a date in UTC. Raises `InvalidRequest`."""
    try:
        is_date = len(text) == len("2026-01-31")
        moment = datetime.combine(date.fromisoformat(text), time(), UTC) if is_date else _time(text)
        if not 1970 <= moment.year < 9999:
            raise ValueError("a period more or less would be no time any more")
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{param} must be a date such as 2026-01-31, or a time with its zone "
            "such as 2026-01-31T12:00:00Z",
            param=param,
        ) from None
    return moment


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without a zone it could be any of many times")
    return moment.astimezone(UTC)


def cursor_after(values: Sequence[datetime | str]) -> str:
    """The cursor of the page that follows the row with these columns: a sum has no number."""
    return base64.urlsafe_b64encode(msgspec.json.encode([str(each) for each in values])).decode()


def row_before(cursor: str, summary: Summary) -> tuple[datetime | str, ...]:
    """The columns of the row that the page of `cursor` follows. Raises `InvalidRequest`."""
    try:
        texts = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=list[str])
        if len(texts) != len(summary.columns):
            raise ValueError("it is the cursor of another question")
        if any("\0" in text for text in texts):
            raise ValueError("PostgreSQL takes no NUL")
        if summary.by_time:
            return (_time(texts[0]), *texts[1:])
    except (ValueError, OverflowError, msgspec.DecodeError):
        raise InvalidRequest("cursor is not one that a list gave", param="cursor") from None
    return tuple(texts)
