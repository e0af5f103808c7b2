"""What a question about usage may ask for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.errors import InvalidRequest
from modelry.usage.summary import Summary, cursor_after, row_before, summary_of

NOW = datetime(2026, 3, 31, 14, 35, 7, 123456, UTC)
HOUR = timedelta(hours=1)


def asked(start: str | None = None, end: str | None = None, group_by: str = "service") -> Summary:
    return summary_of(start, end, group_by, NOW)


def test_without_a_period_it_is_the_last_30_days_up_to_now() -> None:
    summary = asked()
    assert summary.start == datetime(2026, 3, 1, 14, tzinfo=UTC)
    assert summary.end == datetime(2026, 3, 31, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T01:30:00+02:30", datetime(2026, 1, 30, 23, tzinfo=UTC)),
        ("2026-01-31 12:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_period_begins_at_a_date_or_at_a_time_with_its_zone(text: str, moment: datetime) -> None:
    assert asked(text).start == moment
    assert asked("1999-01-01", text).end == moment


def test_hours_that_the_period_has_a_part_of_count_whole() -> None:
    summary = asked("2026-01-31T12:59:59Z", "2026-01-31T13:00:01Z")
    assert summary.start == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert summary.end == datetime(2026, 1, 31, 14, tzinfo=UTC)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta.resolution, timedelta(days=300)),
)
def test_a_period_is_of_full_hours_and_less_than_two_longer(
    start: datetime, length: timedelta
) -> None:
    end = start + length
    summary = asked(start.isoformat(), end.isoformat())
    assert summary.start <= start < summary.start + HOUR
    assert summary.end - HOUR < end <= summary.end
    assert (summary.start.minute, summary.end.minute, summary.end.microsecond) == (0, 0, 0)


@pytest.mark.parametrize("param", ["from", "to"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026",
        "2026-13-01",
        "2026-01-31T12:00:00",
        "1785499200",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:30:00Z",
        "0001-01-01",
        "2026-01-31T12:00:00Zx",
        "٢٠٢٦-٠١-٣١",
    ],
)
def test_what_is_no_time_is_refused_by_its_name(param: str, text: str) -> None:
    start, end = (text, None) if param == "from" else (None, text)
    with pytest.raises(InvalidRequest) as refused:
        asked(start, end)
    assert refused.value.param == param
    assert "2026-01-31T12:00:00Z" in refused.value.message


@pytest.mark.parametrize("start", ["2026-02-01", "2026-02-02", "2999-01-01"])
def test_a_period_that_ends_before_it_begins_is_refused(start: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(start, "2026-02-01")
    assert refused.value.param == "from"


@pytest.mark.parametrize(
    ("group_by", "columns"),
    [
        ("service", ("access_path", "service_id")),
        ("key", ("key_id",)),
        ("user,key", ("key_id", "user_id")),
        ("user, key ,service,hour", ("hour", "access_path", "service_id", "key_id", "user_id")),
        ("service,day", ("day", "access_path", "service_id")),
    ],
)
def test_groups_come_in_one_order(group_by: str, columns: tuple[str, ...]) -> None:
    assert asked(group_by=group_by).columns == columns


@pytest.mark.parametrize(
    "group_by", ["", ",", "service,", "month", "hour,day", "service,service", "Service", "key;user"]
)
def test_other_groups_are_refused_with_the_choices(group_by: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(group_by=group_by)
    assert refused.value.param == "group_by"
    for choice in ("service", "key", "user", "hour", "day"):
        assert choice in refused.value.message


def test_a_cursor_holds_the_row_before_its_page() -> None:
    row = (datetime(2026, 1, 31, tzinfo=UTC), "u-0123456789ab/é", "svc_1", "key_1")
    assert row_before(cursor_after(row), asked(group_by="day,service,key")) == row


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "elsewhere",
        "é",
        "1",
        cursor_after(["u-0123456789ab/x"]),
        cursor_after(["soon", "u-0123456789ab/x", "svc_1"]),
        cursor_after([datetime(1, 1, 1), "u-0123456789ab/x", "svc_1"]),
        cursor_after(["0001-01-01T00:00:00+14:00", "u-0123456789ab/x", "svc_1"]),
        cursor_after([NOW, "u-0123456789ab/\0", "svc_1"]),
        "W1tbW1tbW1tbW1tb" * 4000,
        "eyJhIjogMX0=",
        "WzEsIDIsIDNd",
    ],
)
def test_a_cursor_that_no_list_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        row_before(cursor, asked(group_by="hour,service"))
    assert refused.value.param == "cursor"
