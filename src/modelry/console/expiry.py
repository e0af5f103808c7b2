"""When a key or an access token ends, as forms offer it: never, days from now, after a date."""

from datetime import UTC, date, datetime, time, timedelta

# Days from now that forms offer.
TERMS = (7, 30, 90, 365)
CHOICES = frozenset({"never", "date", *map(str, TERMS)})


def expires_at(choice: str, last_day: str, now: datetime) -> datetime | str | None:
    """`choice`: one of `CHOICES`; `last_day`: of the choice `date`, in UTC, included.

    What is no day comes back as it is: the management API's own check refuses it.
    """
    if choice == "never":
        return None
    if choice == "date":
        try:
            day = date.fromisoformat(last_day)
            return datetime.combine(day, time(), UTC) + timedelta(days=1)
        except (ValueError, OverflowError):
            return f"{last_day!r} is no day"
    return now + timedelta(days=int(choice))
