"""How fast a fetch is: smoothed, honest about a stall, silent while nothing is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.catalog.speed import Speed, seconds_left


def test_nothing_is_said_before_something_is_known() -> None:
    speed = Speed()
    assert speed.bytes_per_second(10) is None
    speed.add(1_000_000, 10)
    assert speed.bytes_per_second(10.2) is None


def test_a_steady_stream_has_its_speed() -> None:
    speed = Speed()
    for step in range(100):
        speed.add(1000, 50 + step / 10)
    assert speed.bytes_per_second(60) == pytest.approx(10_000, rel=0.06)


def test_a_change_shows_within_seconds_and_not_at_once() -> None:
    speed = Speed()
    for step in range(100):
        speed.add(1000, step / 10)
    for step in range(100, 120):
        speed.add(100, step / 10)
    assert 3_000 < (speed.bytes_per_second(12) or 0) < 9_000
    for step in range(120, 160):
        speed.add(100, step / 10)
    assert speed.bytes_per_second(16) == pytest.approx(1000, rel=0.06)


def test_what_has_stalled_comes_down_to_nothing() -> None:
    speed = Speed()
    speed.add(5_000_000, 0)
    assert speed.bytes_per_second(2) == 2_500_000
    assert speed.bytes_per_second(6) == 0


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 3)), max_size=60))
def test_it_is_never_more_than_all_that_came(steps: list[tuple[int, float]]) -> None:
    speed, now_s, total = Speed(), 1000.0, 0
    for count, pause_s in steps:
        now_s += pause_s
        speed.add(count, now_s)
        total += count
        told = speed.bytes_per_second(now_s)
        assert told is None or 0 <= told <= total / 0.5


@pytest.mark.parametrize(
    ("missing", "speed", "left_s"),
    [(100, None, None), (100, 0.0, None), (100, 50.0, 2.0), (0, 50.0, 0.0), (-5, 50.0, 0.0)],
)
def test_the_time_that_is_left(missing: int, speed: float | None, left_s: float | None) -> None:
    assert seconds_left(missing, speed) == left_s
