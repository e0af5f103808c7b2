"""Limits of keys: requests and tokens a minute, requests at once, tokens a month.

The minute slides, in steps of a second: no 60 seconds ever see more than the
limit. Tokens are estimated when a request is let in and settled once the
engine has said what it used. Other gateway processes of the machine count
with it, see `counters`.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from modelry.gateway.counters import Counters, Row
from modelry.gateway.replies import Reply, error
from modelry.routing.messages import KeyGrant, Limits

WINDOW_S = 61
"""A request counts in the second it came in and in the 60 after that."""


def month_of(unix_s: float) -> int:
    """Months since year 0, in UTC."""
    at = time.gmtime(unix_s)
    return at.tm_year * 12 + at.tm_mon - 1


class _Use:
    """What one key used, as counted by this process."""

    __slots__ = (
        "buckets",
        "inflight",
        "month",
        "month_tokens",
        "number",
        "requests",
        "tokens",
        "version",
    )

    def __init__(self, number: int, row: Row) -> None:
        self.number = number
        self.version = row.version
        self.inflight = 0
        self.month = row.month
        self.month_tokens = row.month_tokens
        self.buckets: deque[list[int]] = deque(list(bucket) for bucket in row.buckets)
        self.requests = sum(bucket[1] for bucket in self.buckets)
        self.tokens = sum(bucket[2] for bucket in self.buckets)

    def expire(self, second: int) -> None:
        buckets = self.buckets
        while buckets and buckets[0][0] <= second - WINDOW_S:
            _, requests, tokens = buckets.popleft()
            self.requests -= requests
            self.tokens -= tokens

    def add(self, second: int, requests: int, tokens: int) -> list[int]:
        """Count into the bucket of `second`, which is the newest."""
        if not self.buckets or self.buckets[-1][0] < second:
            self.buckets.append([second, 0, 0])
        bucket = self.buckets[-1]
        bucket[1] += requests
        bucket[2] += tokens
        self.requests += requests
        self.tokens += tokens
        return bucket


class Admitted:
    """A request that its key's limits let in. `settle` it exactly once."""

    __slots__ = ("_estimate", "_limiter", "_limits", "_second", "_use")

    def __init__(
        self, limiter: "Limiter", use: _Use, limits: Limits, second: int, estimate: int
    ) -> None:
        self._limiter = limiter
        self._use = use
        self._limits = limits
        self._second = second
        self._estimate = estimate

    def settle(self, tokens: int) -> None:
        """It is over and used `tokens`."""
        self._limiter.settle(self._use, self._second, tokens - self._estimate)

    def lines(self) -> bytes:
        """The `x-ratelimit-*` header lines of its answer, as OpenAI has them."""
        return self._limiter.lines(self._use, self._limits)


class Limiter:
    """`counters` is None where sharing is not possible: then this process counts alone."""

    def __init__(self, counters: Counters | None, clock: Callable[[], float] = time.time) -> None:
        self._counters = counters
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def admit(self, key: KeyGrant, limits: Limits, estimate: int) -> Admitted:
        """Count a request of about `estimate` tokens. Raises a 429 where a limit is reached."""
        now = self._clock()
        second = int(now)
        use = self._use(key, second, now)
        others = self._others(use.number)
        concurrency = limits.concurrency
        if concurrency is not None:
            busy = use.inflight + sum(row.inflight for row in others)
            if busy >= concurrency:
                raise _exceeded(f"{concurrency} requests at a time", 1)
        quota = limits.tokens_per_month
        if quota is not None and _month_tokens(use, others) >= quota:
            raise _quota(quota)
        per_minute = limits.requests_per_minute
        if per_minute is not None:
            over = use.requests + _window(others, second, 1) + 1 - per_minute
            if over > 0:
                wait_s = _until(use, others, second, now, 1, over)
                raise self._refused(f"{per_minute} requests a minute", wait_s, use, limits)
        tokens_per_minute = limits.tokens_per_minute
        if tokens_per_minute is not None:
            # One that is larger than the limit itself gets its turn alone.
            wanted = min(estimate, tokens_per_minute)
            over = use.tokens + _window(others, second, 2) + wanted - tokens_per_minute
            if over > 0:
                wait_s = _until(use, others, second, now, 2, over)
                raise self._refused(f"{tokens_per_minute} tokens a minute", wait_s, use, limits)
        use.inflight += 1
        use.month_tokens += estimate
        self._publish(use, use.add(second, 1, estimate))
        return Admitted(self, use, limits, second, estimate)

    def settle(self, use: _Use, second: int, difference: int) -> None:
        use.inflight -= 1
        use.month_tokens = max(0, use.month_tokens + difference)
        bucket = None
        for known in reversed(use.buckets):
            if known[0] <= second:
                if known[0] == second:
                    known[2] += difference
                    use.tokens += difference
                    bucket = known
                break
        self._publish(use, bucket)

    def lines(self, use: _Use, limits: Limits) -> bytes:
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        if requests is None and tokens is None:
            return b""
        now = self._clock()
        second = int(now)
        use.expire(second)
        others = self._others(use.number)
        newest = use.buckets[-1][0] if use.buckets else second - WINDOW_S
        reset_s = max(0, newest + WINDOW_S - second)
        lines = b""
        if requests is not None:
            left = max(0, requests - use.requests - _window(others, second, 1))
            lines = _lines(b"requests", requests, left, reset_s)
        if tokens is not None:
            left = max(0, tokens - use.tokens - _window(others, second, 2))
            lines += _lines(b"tokens", tokens, left, reset_s)
        return lines

    def forget(self, keep: Callable[[str], bool]) -> None:
        """Drop what is remembered of keys that are gone, and look who else counts."""
        for key_id in [key_id for key_id in self._uses if not keep(key_id)]:
            if not self._uses[key_id].inflight:
                del self._uses[key_id]
        if self._counters is not None:
            self._counters.look_around()

    def _use(self, key: KeyGrant, second: int, now: float) -> _Use:
        use = self._uses.get(key.id)
        if use is None:
            row = Row() if self._counters is None else self._counters.own(key.number)
            use = self._uses[key.id] = _Use(key.number, row)
        use.expire(second)
        month = month_of(now)
        if use.month != month:
            use.month, use.month_tokens = month, 0
        return use

    def _others(self, number: int) -> list[Row]:
        return [] if self._counters is None else self._counters.others(number)

    def _publish(self, use: _Use, bucket: list[int] | None) -> None:
        if self._counters is None:
            return
        use.version += 1
        shown = None if bucket is None else (bucket[0], bucket[1], bucket[2])
        self._counters.write(
            use.number, use.version, use.inflight, use.month, use.month_tokens, shown
        )

    def _refused(self, what: str, wait_s: int, use: _Use, limits: Limits) -> Reply:
        reply = _exceeded(what, wait_s)
        reply.lines += self.lines(use, limits)
        return reply


def _window(rows: list[Row], second: int, field: int) -> int:
    """What the others counted within the window: 1 requests, 2 tokens."""
    oldest = second - WINDOW_S
    return sum(bucket[field] for row in rows for bucket in row.buckets if bucket[0] > oldest)


def _month_tokens(use: _Use, others: list[Row]) -> int:
    return use.month_tokens + sum(row.month_tokens for row in others if row.month == use.month)


def _until(use: _Use, others: list[Row], second: int, now: float, field: int, over: int) -> int:
    """Seconds until `over` of what was counted lies outside the window."""
    buckets = [tuple(bucket) for bucket in use.buckets]
    buckets += [bucket for row in others for bucket in row.buckets]
    for bucket in sorted(buckets):
        if bucket[0] > second - WINDOW_S:
            over -= bucket[field]
            if over <= 0:
                return max(1, math.ceil(bucket[0] + WINDOW_S - now))
    return WINDOW_S


def _exceeded(what: str, wait_s: int) -> Reply:
    message = f"This API key may use {what}. Please try again in {wait_s} s."
    return error(429, "rate_limit_exceeded", message, retry_after_s=wait_s)


def _quota(tokens: int) -> Reply:
    message = f"This API key has used up its {tokens} tokens of this month."
    reply = error(429, "insufficient_quota", message)
    # The SDKs would try again at once, in vain.
    reply.lines += b"x-should-retry: false\r\n"
    return reply


def _lines(what: bytes, limit: int, left: int, reset_s: int) -> bytes:
    return (
        b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %ds\r\n"
        % (what, limit, what, left, what, reset_s)
    )
