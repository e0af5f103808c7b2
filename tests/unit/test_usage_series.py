"""Metrics over time: which steps there are, what requests add to them, what charts are told."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.errors import InvalidRequest
from modelry.routing.messages import BUCKETS_S, Load, ServiceLoad, UsageEvent
from modelry.usage.series.peaks import Peak, Peaks
from modelry.usage.series.points import Counted, Gauged, points, quantile, total
from modelry.usage.series.rollup import FIRST_TOKEN, KEYS, SUMS, rows_of
from modelry.usage.series.steps import (
    ASKED_S,
    HOUR_S,
    KEPT_S,
    MINUTE_S,
    PERIODS_S,
    POINTS_MAX,
    Window,
    window_of,
)
from tests.support.usage import NOON, event

NOW = datetime(2026, 3, 31, 14, 35, 7, 123456, UTC)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


# -- which steps -------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "step", "count"),
    [
        ("1h", 60, 60),
        ("6h", 120, 180),
        ("24h", 600, 144),
        ("7d", 3600, 168),
        ("30d", 14400, 180),
    ],
)
def test_a_period_is_so_many_points_up_to_now(period: str, step: int, count: int) -> None:
    window = window_of(period, None, None, NOW)
    assert (window.step, (window.end - window.start) // step) == (step, count)
    assert window.end - step < NOW.timestamp() <= window.end


def test_without_a_period_it_is_the_last_day() -> None:
    assert window_of(None, None, None, NOW) == window_of("24h", None, None, NOW)


@given(moments, st.sampled_from(sorted(PERIODS_S)))
def test_a_periods_points_are_of_steps_that_are_kept(now: datetime, period: str) -> None:
    window = window_of(period, None, None, now)
    assert window.start % window.step == window.end % window.step == 0
    assert window.end - window.start == PERIODS_S[period] <= POINTS_MAX * window.step
    assert window.step % window.kept_step == 0
    assert window.start > now.timestamp() - KEPT_S[window.kept_step]


@given(
    moments,
    st.timedeltas(timedelta(seconds=1), timedelta(days=31) - timedelta(seconds=1)),
    st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
)
def test_any_period_within_a_month_has_at_most_so_many_points(
    now: datetime, ago: timedelta, length: timedelta
) -> None:
    start = now - ago
    end = start + length
    window = window_of(None, start.isoformat(), end.isoformat(), now)
    asked_end = min(end, now).timestamp()
    assert window.start <= start.timestamp() < window.start + window.step
    assert window.end - window.step < asked_end <= window.end
    assert window.end - window.start <= POINTS_MAX * window.step
    assert window.start > now.timestamp() - KEPT_S[window.kept_step]


def test_a_period_long_ago_is_told_by_the_hour() -> None:
    window = window_of(None, "2026-03-20T00:30:00Z", "2026-03-20T02:00:00Z", NOW)
    midnight = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp())
    assert window == Window(midnight, midnight + 2 * HOUR_S, HOUR_S)
    assert window_of(None, "2026-03-30T00:30:00Z", "2026-03-30T02:00:00Z", NOW).step == MINUTE_S


def test_what_has_not_come_yet_is_left_out() -> None:
    window = window_of(None, "2026-03-31T14:00:00Z", "2026-04-30", NOW)
    assert (window.step, window.end - window.start) == (60, 36 * 60)


@pytest.mark.parametrize(
    ("query", "param", "told"),
    [
        (("1h", "2026-03-31", None), "period", "from and to"),
        (("1h", None, "2026-03-31"), "period", "from and to"),
        ((None, "2026-03-31", "2026-03-30"), "from", "before to"),
        ((None, "2026-04-01", None), "from", "before now"),
        ((None, "2026-02-28", None), "from", "31 days"),
        ((None, "soon", None), "from", "2026-01-31"),
        ((None, None, "2026-03-31T12:00:00"), "to", "its zone"),
    ],
)
def test_a_period_that_cannot_be_told_of_is_refused(
    query: tuple[str | None, str | None, str | None], param: str, told: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        window_of(*query, NOW)
    assert refused.value.param == param
    assert told in refused.value.message


def test_what_may_be_asked_for_is_kept() -> None:
    assert all(KEPT_S[step] > asked for step, asked in ASKED_S.items())
    assert max(PERIODS_S.values()) < ASKED_S[HOUR_S]


# -- what requests add -------------------------------------------------------


def row_of(*events: UsageEvent) -> dict[str, Any]:
    """The row of their minute, which they share."""
    (row,) = [each for each in rows_of(events) if each["step"] == MINUTE_S]
    return row


def test_a_request_counts_in_its_minute_and_its_hour() -> None:
    at = NOON.timestamp() + 30 * 60 + 59.9
    rows = rows_of([event(3, at=at)])
    minute, hour = rows
    assert [minute[key] for key in KEYS] == [60, "svc_1", NOON.timestamp() + 30 * 60]
    assert [hour[key] for key in KEYS] == [3600, "svc_1", NOON.timestamp()]
    for row in rows:
        assert set(row) == {*KEYS, *SUMS}
        assert (row["requests"], row["prompt_tokens"], row["completion_tokens"]) == (1, 10, 3)


def test_errors_and_callers_that_hung_up_are_told_apart() -> None:
    row = row_of(event(1), event(2, status=503), event(3, status=499, cancelled=True))
    assert (row["requests"], row["errors"], row["cancelled"]) == (3, 1, 1)


def test_only_streams_tell_how_fast_tokens_come() -> None:
    streamed = {"stream": True, "first_token_s": 0.5, "duration_s": 2.5, "queue_s": 0.25}
    row = row_of(
        event(10, **streamed),
        event(11, **streamed | {"stream": False}),
        event(12, **streamed | {"first_token_s": None}),
        event(13, **streamed | {"duration_s": 0.5}),
        event(0, **streamed),
    )
    assert (row["streamed_tokens"], row["generation_s"], row["queue_s"]) == (10, 2.0, 1.25)
    assert sum(row[name] for name in FIRST_TOKEN) == 4


@pytest.mark.parametrize(
    ("first_s", "bucket"), [(0.0, 0), (0.0001, 0), (0.00011, 1), (60.0, 17), (60.1, 18), (1e9, 18)]
)
def test_a_first_token_counts_in_the_bucket_that_a_histogram_has_it_in(
    first_s: float, bucket: int
) -> None:
    row = row_of(event(1, first_token_s=first_s))
    assert [row[name] for name in FIRST_TOKEN] == [int(each == bucket) for each in range(19)]


some_events = st.lists(
    st.builds(
        event,
        st.integers(0, 1000),
        at=st.floats(1.7e9, 1.7e9 + 3 * HOUR_S),
        service_id=st.sampled_from(["svc_1", "svc_2"]),
        status=st.sampled_from([200, 400, 503]),
        cancelled=st.booleans(),
        stream=st.booleans(),
        queue_s=st.integers(0, 8),
        duration_s=st.integers(1, 90),
        first_token_s=st.none() | st.integers(0, 90),
    ),
    max_size=40,
)


@given(some_events)
def test_minutes_of_an_hour_add_up_to_the_hour_and_nothing_is_lost(
    events: list[UsageEvent],
) -> None:
    rows = rows_of(events)
    keys = [tuple(row[key] for key in KEYS) for row in rows]
    assert keys == sorted(set(keys))
    sums: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row["step"] == MINUTE_S:
            hour = sums.setdefault(
                (row["service_id"], row["start"] // HOUR_S * HOUR_S), dict.fromkeys(SUMS, 0)
            )
            for name in SUMS:
                hour[name] += row[name]
    hours = {(row["service_id"], row["start"]): row for row in rows if row["step"] == HOUR_S}
    assert sums == {key: {name: row[name] for name in SUMS} for key, row in hours.items()}
    assert sum(row["requests"] for row in hours.values()) == len(events)


# -- percentiles -------------------------------------------------------------


def counts_of(seconds: list[float]) -> tuple[int, ...]:
    counts = [0] * (len(BUCKETS_S) + 1)
    for each in seconds:
        counts[bisect_left(BUCKETS_S, each)] += 1
    return tuple(counts)


def test_of_nothing_there_is_no_percentile() -> None:
    assert quantile(0.5, counts_of([])) is None


def test_within_a_bucket_observations_are_taken_to_lie_evenly() -> None:
    # Ten between 1 and 2.5 seconds, ten between 2.5 and 5.
    counts = counts_of([2.0] * 10 + [3.0] * 10)
    assert quantile(0.25, counts) == pytest.approx(1.75)
    assert quantile(0.5, counts) == pytest.approx(2.5)
    assert quantile(0.95, counts) == pytest.approx(4.75)


def test_of_the_last_bucket_only_its_lower_bound_is_known() -> None:
    assert quantile(0.95, counts_of([0.2, 600.0, 700.0])) == 60.0


@given(st.lists(st.floats(0, 200), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_percentile_lies_in_the_bucket_of_the_observation_that_it_is(
    seconds: list[float], share: float
) -> None:
    rank = max(ceil(share * len(seconds)), 1)
    true = sorted(seconds)[rank - 1]
    bucket = bisect_left(BUCKETS_S, true)
    found = quantile(share, counts_of(seconds))
    assert found is not None
    if bucket == len(BUCKETS_S):
        assert found == BUCKETS_S[-1]
    else:
        lower = BUCKETS_S[bucket - 1] if bucket else 0.0
        assert lower <= found <= BUCKETS_S[bucket] * (1 + 1e-9)


@given(
    st.lists(st.floats(0, 200), min_size=1, max_size=60),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
def test_a_larger_share_takes_no_less_time(seconds: list[float], one: float, other: float) -> None:
    lesser, larger = (quantile(share, counts_of(seconds)) for share in sorted((one, other)))
    assert lesser is not None
    assert larger is not None
    assert lesser <= larger * (1 + 1e-9)


# -- points ------------------------------------------------------------------

WINDOW = Window(600, 840, 60)


def test_points_lie_evenly_and_say_where_nothing_was_measured() -> None:
    counted = {660: Counted(requests=2, prompt_tokens=5)}
    found = points(WINDOW, counted, {720: Gauged(waiting=3, replicas=1)})
    assert [start for start, _ in found] == [600, 660, 720, 780]
    empty, first, second, _ = (point for _, point in found)
    assert (empty.requests, empty.errors, empty.completion_tokens) == (0, 0, 0)
    unmeasured = (empty.ttft_p50_s, empty.tokens_per_s, empty.queue_mean_s, empty.replicas)
    assert unmeasured == (None,) * 4
    assert (first.requests, first.prompt_tokens, first.queue_mean_s) == (2, 5, 0.0)
    assert (first.tokens_per_s, first.waiting) == (None, None)
    assert (second.waiting, second.replicas, second.inflight) == (3, 1, None)


def test_a_total_adds_counts_up_and_takes_the_most_of_what_was_seen() -> None:
    one = Counted(2, 1, 0, 10, 20, 20, 2.0, 0.5, counts_of([0.2]))
    other = Counted(1, 0, 1, 1, 4, 4, 4.0, 0.1, counts_of([7.0] * 3))
    whole = total([one, other], [Gauged(1, None, 5, 1), Gauged(4, 2, 3, None), Gauged()])
    assert (whole.requests, whole.errors, whole.cancelled) == (3, 1, 1)
    assert (whole.prompt_tokens, whole.completion_tokens) == (11, 24)
    assert whole.tokens_per_s == pytest.approx(4.0)
    assert whole.queue_mean_s == pytest.approx(0.2)
    assert whole.ttft_p95_s == quantile(0.95, counts_of([0.2, 7.0, 7.0, 7.0]))
    assert (whole.inflight, whole.waiting, whole.memory_bytes, whole.replicas) == (4, 2, 5, 1)
    nothing = total([], [])
    assert (nothing.requests, nothing.ttft_p50_s, nothing.replicas) == (0, None, None)


# -- peaks -------------------------------------------------------------------


def load(**services: tuple[int, int]) -> Load:
    return Load({name: ServiceLoad(*counts, 0.0) for name, counts in services.items()})


def test_a_peak_is_the_most_of_all_gateways_together() -> None:
    peaks = Peaks()
    peaks.gateway_connected(1)
    peaks.gateway_connected(2)
    peaks.load(1, load(svc_1=(2, 5)))
    peaks.load(2, load(svc_1=(3, 0), svc_2=(0, 1)))
    peaks.load(1, load(svc_1=(0, 0)))
    peaks.load(2, load(svc_1=(4, 1)))
    assert peaks.take() == {"svc_1": Peak(5, 5), "svc_2": Peak(0, 1)}


def test_what_still_runs_is_seen_again_and_what_is_over_is_not() -> None:
    peaks = Peaks()
    peaks.gateway_connected(1)
    peaks.load(1, load(svc_1=(7, 7), svc_2=(1, 0)))
    peaks.load(1, load(svc_1=(1, 0), svc_2=(0, 0)))
    assert peaks.take() == {"svc_1": Peak(7, 7), "svc_2": Peak(1, 0)}
    assert peaks.take() == {"svc_1": Peak(1, 0)}
    peaks.load(1, load(svc_1=(0, 0)))
    assert peaks.take() == {"svc_1": Peak(1, 0)}
    assert peaks.take() == {}


def test_a_service_that_is_deleted_while_it_is_called_is_forgotten() -> None:
    peaks = Peaks()
    peaks.gateway_connected(1)
    peaks.load(1, load(svc_1=(1, 0), svc_2=(2, 0)))
    peaks.keep_only({"svc_2"})
    assert peaks.take() == {"svc_2": Peak(2, 0)}
    assert peaks.take() == {"svc_2": Peak(2, 0)}


def test_without_a_gateway_nothing_is_known() -> None:
    peaks = Peaks()
    assert peaks.take() is None
    peaks.gateway_connected(1)
    peaks.load(1, load(svc_1=(1, 0)))
    peaks.gateway_gone(1)
    assert peaks.take() == {"svc_1": Peak(1, 0)}
    assert peaks.take() is None
