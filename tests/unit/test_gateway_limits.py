"""What a key may use: a sliding minute, a month, and so many at a time."""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from modelry.gateway.counters import Counters
from modelry.gateway.limits import Admitted, Limiter
from modelry.gateway.replies import Reply
from modelry.routing.messages import KeyGrant, Limits

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Desk:
    """One key before a limiter, and what it is told."""

    def __init__(
        self, counters: Counters | None = None, clock: Clock | None = None, **limits: int | None
    ) -> None:
        self.clock = clock or Clock()
        self.limiter = Limiter(counters, crowded=True, clock=self.clock)
        self.limits = Limits(**limits)
        self.key = KeyGrant("key_1", "hash", "u-1", limits=self.limits, number=3)

    def admit(self, estimate: int = 1) -> Admitted:
        return self.limiter.admit(self.key, self.limits, estimate)

    def refusal(self, estimate: int = 1) -> Reply:
        with pytest.raises(Reply) as refused:
            self.admit(estimate)
        return refused.value

    def admits(self, estimate: int = 1) -> bool:
        try:
            self.admit(estimate)
        except Reply:
            return False
        return True


def headers(lines: bytes) -> dict[str, str]:
    pairs = [line.partition(": ") for line in lines.decode().split("\r\n") if line]
    return {name: value for name, _, value in pairs}


def wait_s(reply: Reply) -> int:
    assert (reply.status, reply.problem and reply.problem[0]) == (429, "rate_limit_exceeded")
    return int(headers(reply.lines)["retry-after"])


# -- asked beforehand --------------------------------------------------------


def test_a_refusal_may_be_known_beforehand_and_counts_nothing() -> None:
    desk = Desk(requests_per_minute=2, concurrency=2)
    for _ in range(5):
        assert desk.limiter.refusal(desk.key, desk.limits) is None
    first, second = desk.admit(), desk.admit()
    refused = desk.limiter.refusal(desk.key, desk.limits)
    assert refused is not None
    assert refused.lines == desk.refusal().lines
    for each in (first, second):
        each.settle(0)
    again = desk.limiter.refusal(desk.key, desk.limits)
    assert again is not None
    assert wait_s(again) > 1


# -- requests a minute -------------------------------------------------------


def test_requests_up_to_the_limit_are_let_in_and_no_more() -> None:
    desk = Desk(requests_per_minute=3)
    for _ in range(3):
        desk.admit().settle(0)
    assert wait_s(desk.refusal()) > 0


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.999])
def test_after_the_seconds_that_a_refusal_names_it_works_and_not_before(fraction: float) -> None:
    desk = Desk(requests_per_minute=1, clock=Clock(NOON + fraction))
    desk.admit().settle(0)
    desk.clock.now += 17.3
    wait = wait_s(desk.refusal())
    assert 40 <= wait <= 62
    desk.clock.now += wait - 1
    assert wait_s(desk.refusal()) == 1
    desk.clock.now += 1
    assert desk.admits()


def test_the_minute_slides() -> None:
    """Two now, one in half a minute: then one place comes after the other."""
    desk = Desk(requests_per_minute=3)
    desk.admit()
    desk.admit()
    desk.clock.now += 30
    desk.admit()
    assert 29 <= wait_s(desk.refusal()) <= 32
    desk.clock.now += 32
    assert [desk.admits() for _ in range(3)] == [True, True, False]


def test_a_refused_request_does_not_count() -> None:
    desk = Desk(requests_per_minute=1)
    desk.admit()
    for _ in range(40):
        desk.clock.now += 1
        desk.refusal()
    desk.clock.now += 22
    assert desk.admits()


@given(st.integers(1, 6), st.lists(st.floats(0, 40), min_size=1, max_size=60))
def test_no_60_seconds_see_more_than_the_limit_and_no_request_is_refused_without_need(
    limit: int, pauses: list[float]
) -> None:
    desk = Desk(requests_per_minute=limit)
    taken: list[float] = []
    for pause in pauses:
        desk.clock.now += pause
        now = desk.clock.now
        # A step of the window is a second, so it may be up to one too wide at each end.
        if desk.admits():
            taken.append(now)
            assert sum(at > now - 60 for at in taken) <= limit
        else:
            assert sum(at > now - 62 for at in taken) >= limit


# -- tokens a minute ---------------------------------------------------------


def test_tokens_are_held_by_the_estimate_and_settled_by_what_was_used() -> None:
    desk = Desk(tokens_per_minute=1000)
    first = desk.admit(900)
    desk.refusal(200)
    first.settle(100)
    desk.admit(900)
    desk.refusal(1)


def test_tokens_used_beyond_the_estimate_count() -> None:
    desk = Desk(tokens_per_minute=1000)
    desk.admit(100).settle(950)
    assert desk.admits(50)
    assert not desk.admits(50)


def test_a_call_that_failed_gives_its_tokens_back() -> None:
    desk = Desk(tokens_per_minute=500)
    for _ in range(20):
        desk.admit(500).settle(0)
    assert headers(desk.admit(0).lines())["x-ratelimit-remaining-tokens"] == "500"


def test_a_request_that_is_larger_than_the_limit_gets_its_turn_alone() -> None:
    desk = Desk(tokens_per_minute=1000)
    small = desk.admit(1)
    desk.refusal(5000)
    small.settle(0)
    desk.admit(5000)
    wait = wait_s(desk.refusal(1))
    desk.clock.now += wait
    assert desk.admits(5000)


def test_tokens_come_back_as_the_minute_slides() -> None:
    desk = Desk(tokens_per_minute=1000)
    desk.admit(600).settle(600)
    desk.clock.now += 20
    desk.admit(300).settle(300)
    # A hundred are there; for six hundred, the first must go, for more the second too.
    assert 39 <= wait_s(desk.refusal(600)) <= 42
    assert 59 <= wait_s(desk.refusal(800)) <= 62


# -- at a time ---------------------------------------------------------------


def test_so_many_requests_at_a_time_and_one_more_once_one_has_ended() -> None:
    desk = Desk(concurrency=2)
    first, _ = desk.admit(), desk.admit()
    assert wait_s(desk.refusal()) >= 1
    first.settle(7)
    desk.admit()
    desk.refusal()


# -- a month -----------------------------------------------------------------


def test_a_month_s_tokens_are_used_up_until_the_next_month_of_utc() -> None:
    desk = Desk(tokens_per_month=1000)
    desk.admit(10).settle(999)
    desk.admit(1).settle(1)
    refusal = desk.refusal()
    assert (refusal.status, refusal.problem and refusal.problem[0]) == (429, "insufficient_quota")
    desk.clock.now = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()
    desk.refusal()
    desk.clock.now += 1
    assert desk.admits()


def test_the_year_s_end_is_a_month_s_end() -> None:
    desk = Desk(
        tokens_per_month=10, clock=Clock(datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp())
    )
    desk.admit(0).settle(10)
    desk.refusal()
    desk.clock.now += 60
    assert desk.admits()


def test_a_request_that_ends_in_the_next_month_does_not_count_there() -> None:
    desk = Desk(
        tokens_per_month=1000, clock=Clock(datetime(2026, 1, 31, 23, 59, tzinfo=UTC).timestamp())
    )
    over_night = desk.admit(100)
    desk.clock.now += 120
    desk.admit(0).settle(10)
    over_night.settle(100_000)
    assert desk.admits()


# -- what is told ------------------------------------------------------------


def test_what_is_left_is_told_of_each_limit_a_minute_and_of_no_other() -> None:
    desk = Desk(requests_per_minute=10, tokens_per_minute=1000, concurrency=5, tokens_per_month=9)
    desk.clock.now = NOON
    admitted = desk.admit(300)
    shown = headers(admitted.lines())
    assert shown == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "61s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "700",
        "x-ratelimit-reset-tokens": "61s",
    }
    admitted.settle(50)
    assert headers(admitted.lines())["x-ratelimit-remaining-tokens"] == "950"
    assert Desk(concurrency=5, tokens_per_month=9).admit().lines() == b""


def test_each_limit_alone_is_told_alone() -> None:
    requests = headers(Desk(requests_per_minute=5).admit(7).lines())
    tokens = headers(Desk(tokens_per_minute=50).admit(7).lines())
    assert requests["x-ratelimit-remaining-requests"] == "4"
    assert tokens["x-ratelimit-remaining-tokens"] == "43"
    assert not [name for name in requests if "tokens" in name]
    assert not [name for name in tokens if "requests" in name]


def test_a_refusal_tells_what_is_left() -> None:
    desk = Desk(requests_per_minute=1)
    desk.admit()
    shown = headers(desk.refusal().lines)
    assert shown["x-ratelimit-remaining-requests"] == "0"
    assert shown["x-ratelimit-limit-requests"] == "1"


# -- limits that change ------------------------------------------------------


def test_what_was_used_counts_under_limits_that_changed() -> None:
    desk = Desk(requests_per_minute=2)
    desk.admit()
    desk.admit()
    desk.limits = Limits(requests_per_minute=3)
    assert [desk.admits(), desk.admits()] == [True, False]
    desk.limits = Limits(requests_per_minute=1)
    desk.refusal()
    desk.limits = Limits(concurrency=4)
    assert [desk.admits(), desk.admits()] == [True, False]


def test_keys_do_not_share_their_limits() -> None:
    clock = Clock()
    limiter = Limiter(None, clock=clock)
    limits = Limits(requests_per_minute=1)
    for number in range(5):
        key = KeyGrant(f"key_{number}", "hash", "u-1", limits=limits, number=number)
        limiter.admit(key, limits, 1)
        with pytest.raises(Reply):
            limiter.admit(key, limits, 1)


# -- two gateways ------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Desk, Desk]]:
    def make(**limits: int) -> tuple[Desk, Desk]:
        clock = Clock()
        desks = tuple(Desk(Counters(tmp_path), clock, **limits) for _ in range(2))
        for desk in desks:
            desk.limiter.sweep(lambda key_id: True)
        one, other = desks
        return one, other

    return make


def test_requests_through_either_gateway_count(pair: Callable[..., tuple[Desk, Desk]]) -> None:
    one, other = pair(requests_per_minute=3)
    one.admit()
    other.admit()
    one.admit()
    assert wait_s(one.refusal()) == wait_s(other.refusal()) > 0
    one.clock.now += wait_s(other.refusal())
    assert other.admits()


def test_tokens_through_either_gateway_count_and_are_given_back(
    pair: Callable[..., tuple[Desk, Desk]],
) -> None:
    one, other = pair(tokens_per_minute=1000)
    admitted = one.admit(900)
    other.refusal(200)
    assert headers(other.admit(0).lines())["x-ratelimit-remaining-tokens"] == "100"
    admitted.settle(100)
    other.admit(900)
    one.refusal(1)


def test_requests_under_way_in_either_gateway_count(
    pair: Callable[..., tuple[Desk, Desk]],
) -> None:
    one, other = pair(concurrency=1)
    admitted = one.admit()
    other.refusal()
    admitted.settle(0)
    other.admit()
    one.refusal()


def test_a_month_s_tokens_are_those_of_both_gateways(
    pair: Callable[..., tuple[Desk, Desk]],
) -> None:
    one, other = pair(tokens_per_month=1000)
    one.admit(0).settle(600)
    other.admit(0).settle(400)
    assert one.refusal().problem == other.refusal().problem
    one.clock.now = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert one.admits()
    assert other.admits()


@pytest.mark.parametrize("lasts_s", [62, 63, 64, 65, 128])
def test_the_end_of_a_long_request_does_not_hide_what_came_after_it(
    pair: Callable[..., tuple[Desk, Desk]], lasts_s: int
) -> None:
    one, other = pair(requests_per_minute=5)
    long = one.admit()
    one.clock.now += lasts_s
    for _ in range(5):
        one.admit()
    long.settle(10)
    other.refusal()
    one.refusal()


# -- against a model ---------------------------------------------------------


class Gateways(RuleBasedStateMachine):
    """Two gateways and one key, whatever happens in which order, against one plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limits = Limits(12, 3000, 5, 20_000)
        # A row that nothing was counted in yet.
        self.key = KeyGrant("key_1", "hash", "u-1", limits=self.limits, number=next(_rows))
        self.gateways = [
            Limiter(counters, crowded=True, clock=self.clock) for counters in _both_counters()
        ]
        self.counted: list[list[int]] = []  # Second and tokens of every request.
        self.open: list[tuple[Admitted, list[int]]] = []

    @property
    def window(self) -> list[list[int]]:
        return [each for each in self.counted if each[0] > int(self.clock.now) - 61]

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 3.0, 20.0, 61.0, 64.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=st.integers(0, 1), estimate=st.integers(0, 1500))
    def a_request_comes(self, which: int, estimate: int) -> None:
        window = self.window
        room = (
            len(self.open) < 5
            and len(window) < 12
            and sum(tokens for _, tokens in window) + estimate <= 3000
        )
        spent = sum(tokens for _, tokens in self.counted) >= 20_000
        if not room or spent:
            with pytest.raises(Reply):
                self.gateways[which].admit(self.key, self.limits, estimate)
            return
        admitted = self.gateways[which].admit(self.key, self.limits, estimate)
        entry = [int(self.clock.now), estimate]
        self.counted.append(entry)
        self.open.append((admitted, entry))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 4), tokens=st.integers(0, 3000))
    def a_request_ends(self, which: int, tokens: int) -> None:
        admitted, entry = self.open.pop(which % len(self.open))
        admitted.settle(tokens)
        entry[1] = tokens
        left = headers(admitted.lines())
        window = self.window
        assert int(left["x-ratelimit-remaining-requests"]) == 12 - len(window)
        used = sum(tokens for _, tokens in window)
        assert int(left["x-ratelimit-remaining-tokens"]) == max(0, 3000 - used)


_rows = itertools.count(1)


@cache
def _both_counters() -> tuple[Counters, Counters]:
    folder = tempfile.mkdtemp(prefix="modelry-counters-")
    atexit.register(shutil.rmtree, folder)
    one, other = Counters(Path(folder)), Counters(Path(folder))
    one.look_around()
    return one, other


TestGateways = Gateways.TestCase
TestGateways.settings = settings(max_examples=120, stateful_step_count=30)
