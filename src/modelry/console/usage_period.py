"""The time that the usage page is about: as it is chosen, and as the management API is asked."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from modelry.errors import InvalidRequest
from modelry.usage.summary import Summary, hour_of, summary_of

PERIODS = ("24h", "7d", "30d", "custom")
USUAL = "7d"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_BY_HOUR_MAX = timedelta(days=8)
_CUSTOM_MAX_DAYS = 3660


@dataclass(frozen=True)
class Period:
    """From `start` to before `end`, both full steps. `name`: which of `PERIODS`."""

    name: str
    start: datetime
    end: datetime

    @property
    def step(self) -> str:
        """What a chart of it is summed up by: `hour` or `day`."""
        return "hour" if self.end - self.start <= _BY_HOUR_MAX else "day"

    @property
    def first_day(self) -> str:
        return self.start.date().isoformat()

    @property
    def last_day(self) -> str:
        """Included: people mean the whole of it."""
        return (self.end - timedelta.resolution).date().isoformat()

    @property
    def query(self) -> str:
        """The page's own, which leads back to it."""
        chosen = {"period": self.name}
        if self.name == "custom":
            chosen |= {"from": self.first_day, "to": self.last_day}
        return urlencode(chosen)

    @property
    def api_query(self) -> str:
        """What its chart asks the management API."""
        ends = {"from": self.start.isoformat(), "to": self.end.isoformat()}
        return urlencode({**ends, "group_by": self.step, "limit": 1000})

    def summary(self, group_by: str) -> Summary:
        return summary_of(self.start.isoformat(), self.end.isoformat(), group_by, self.end)


def period_of(name: str, first_day: str, last_day: str, now: datetime) -> Period:
    """`first_day` and `last_day` are of a custom one, both included, in UTC.

    Raises `InvalidRequest`.
    """
    next_hour = hour_of(now) + _HOUR
    today = datetime.combine(now.date(), time(), UTC)
    if name == "24h":
        return Period(name, next_hour - _DAY, next_hour)
    if name == "30d":
        return Period(name, today - 29 * _DAY, today + _DAY)
    if name == "custom":
        first, last = _day(first_day, "from"), _day(last_day, "to")
        if not first <= last:
            raise InvalidRequest("the first day must not lie after the last", param="from")
        if (last - first).days >= _CUSTOM_MAX_DAYS:
            raise InvalidRequest("ten years at most can be shown at once", param="from")
        return Period(name, first, last + _DAY)
    return Period(USUAL, next_hour - 7 * _DAY, next_hour)


def _day(text: str, param: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not 1970 <= day.year < 9999:
        raise InvalidRequest(f"{param} must be a date such as 2026-01-31", param=param)
    return datetime.combine(day, time(), UTC)
