"""Limits of keys: requests and tokens a minute, requests at once, tokens a month.

The minute slides, in steps of a second: no 60 seconds ever see more than the
limit. Tokens are estimated when a request is let in and settled once the
engine has said what it used. Other gateway processes of the machine count
with it, see `counters`.
"""

import calendar
import math
import time
from collections import deque
from collections.abc import Callable

from modelry.gateway.counters import Counters, Row
from modelry.gateway.replies import Reply, error
from modelry.routing.messages import KeyGrant, Limits

WINDOW_S = 61
"""A request counts in the second it came in and in the 60 after that."""


_NOBODY: list[Row] = []


def month_of(unix_s: float) -> int:
    """Months since year 0, in UTC."""
    at = time.gmtime(unix_s)
    return at.tm_year * 12 + at.tm_mon - 1


class _Use:
    """What one key used, as counted by this process. `limits` are the key's of late."""

    __slots__ = (
        "buckets",
        "inflight",
        "limits",
        "month",
        "month_tokens",
        "number",
        "requests",
        "shown",
        "tokens",
        "unshown",
        "version",
    )

    def __init__(self, number: int, limits: Limits, row: Row) -> None:
        self.number = number
        self.unshown = False
        """Whether it changed and will be shown to other processes soon."""
        self.limits = limits
        self.shown = _shown(limits)
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


class Admitted:
    """A request that its key's limits let in. `settle` it exactly once."""

    __slots__ = ("_bucket", "_estimate", "_limiter", "_month", "_use")

    def __init__(self, limiter: "Limiter", use: _Use, bucket: list[int], estimate: int) -> None:
        self._limiter = limiter
        self._use = use
        self._bucket = bucket
        self._month = use.month
        self._estimate = estimate

    def settle(self, tokens: int) -> None:
        """It is over and used `tokens`."""
        use, bucket = self._use, self._bucket
        use.inflight -= 1
        difference = tokens - self._estimate
        if use.month == self._month:
            use.month_tokens += difference
        buckets = use.buckets
        if buckets and buckets[0][0] <= bucket[0]:
            bucket[2] += difference
            use.tokens += difference
        if not use.unshown:
            # An old bucket's place in the ring may be a newer one's by now.
            current = buckets and bucket[0] > buckets[-1][0] - WINDOW_S
            self._limiter.publish(use, bucket if current else None)

    def lines(self) -> bytes:
        """The `x-ratelimit-*` header lines of its answer, as OpenAI has them."""
        return self._limiter.lines(self._use)


class Limiter:
    """`counters` is None where sharing is not possible: then this process counts alone.
    `crowded`: there are other gateways all the time; a lone one shows what it
    counted a little later.
    """

    def __init__(
        self,
        counters: Counters | None,
        *,
        crowded: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters = counters
        self._crowded = crowded
        self._clock = clock
        self._month = 0
        self._month_ends = 0.0
        self._uses: dict[str, _Use] = {}
        self._unshown: list[_Use] = []

    def admit(self, key: KeyGrant, limits: Limits, estimate: int) -> Admitted:
        """Count a request of about `estimate` tokens. Raises a 429 where a limit is reached."""
        use, second = self._within(key, limits, estimate)
        buckets = use.buckets
        use.inflight += 1
        use.month_tokens += estimate
        use.requests += 1
        use.tokens += estimate
        if buckets and buckets[-1][0] >= second:
            bucket = buckets[-1]
            bucket[1] += 1
            bucket[2] += estimate
        else:
            bucket = [second, 1, estimate]
            buckets.append(bucket)
        if not use.unshown:
            self.publish(use, bucket)
        return Admitted(self, use, bucket, estimate)

    def refusal(self, key: KeyGrant, limits: Limits) -> Reply | None:
        """The 429 that any request of the key's would get now. Counts nothing."""
        try:
            self._within(key, limits, 0)
        except Reply as reply:
            return reply
        return None

    def lines(self, use: _Use) -> bytes:
        """What is left of the minute's limits, and in how many seconds all of it is again."""
        shown = use.shown
        if not shown:
            return b""
        second = int(self._clock())
        buckets = use.buckets
        if buckets and buckets[0][0] <= second - WINDOW_S:
            use.expire(second)
        counters = self._counters
        rows = _NOBODY if counters is None or counters.alone else counters.others(use.number)
        others_requests, others_tokens = _window(rows, second) if rows else (0, 0)
        reset_s = max(0, buckets[-1][0] + WINDOW_S - second) if buckets else 0
        requests, tokens = use.limits.requests_per_minute, use.limits.tokens_per_minute
        if requests is not None:
            requests = max(0, requests - use.requests - others_requests)
        if tokens is None:
            return shown % (requests, reset_s)
        tokens = max(0, tokens - use.tokens - others_tokens)
        if requests is None:
            return shown % (tokens, reset_s)
        return shown % (requests, reset_s, tokens, reset_s)

    def publish(self, use: _Use, bucket: list[int] | None) -> None:
        """Show other processes what changed: at once where there are any."""
        counters = self._counters
        if counters is None:
            return
        if counters.alone and not self._crowded:
            use.unshown = True
            self._unshown.append(use)
            return
        use.version += 1
        counters.write(
            use.number,
            use.version,
            use.inflight,
            use.month,
            use.month_tokens,
            () if bucket is None else (bucket,),
        )

    def flush(self) -> None:
        """Show what was not shown at once."""
        counters = self._counters
        unshown, self._unshown = self._unshown, []
        for use in unshown:
            use.unshown = False
            if counters is None:
                continue
            use.version += 1
            counters.write(
                use.number, use.version, use.inflight, use.month, use.month_tokens, use.buckets
            )

    def sweep(self, keep: Callable[[str], bool]) -> None:
        """Drop what is remembered of keys that are gone, and look who else counts."""
        for key_id in [key_id for key_id in self._uses if not keep(key_id)]:
            if not self._uses[key_id].inflight:
                del self._uses[key_id]
        if self._counters is not None:
            self._counters.look_around()

    def _within(self, key: KeyGrant, limits: Limits, estimate: int) -> tuple[_Use, int]:
        """What the key used, and the second it is. Raises a 429 where a limit is reached."""
        now = self._clock()
        second = int(now)
        use = self._uses.get(key.id)
        if use is None or use.limits is not limits:
            use = self._new_use(key, limits)
        if now >= self._month_ends:
            self._next_month(now)
        if use.month != self._month:
            use.month, use.month_tokens = self._month, 0
        buckets = use.buckets
        if buckets and buckets[0][0] <= second - WINDOW_S:
            use.expire(second)
        counters = self._counters
        rows = _NOBODY if counters is None or counters.alone else counters.others(use.number)
        others_requests, others_tokens = _window(rows, second) if rows else (0, 0)
        concurrency = limits.concurrency
        if concurrency is not None:
            busy = use.inflight
            if rows:
                busy += sum(row.inflight for row in rows)
            if busy >= concurrency:
                raise _exceeded(f"{concurrency} requests at a time", 1)
        quota = limits.tokens_per_month
        if quota is not None:
            tokens = use.month_tokens
            if rows:
                tokens += sum(row.month_tokens for row in rows if row.month == use.month)
            if tokens >= quota:
                raise _quota(quota)
        per_minute = limits.requests_per_minute
        if per_minute is not None:
            over = use.requests + others_requests + 1 - per_minute
            if over > 0:
                wait_s = _until(use, rows, second, now, 1, over)
                raise self._refused(f"{per_minute} requests a minute", wait_s, use)
        per_minute = limits.tokens_per_minute
        if per_minute is not None:
            # One that is larger than the limit itself gets its turn alone.
            wanted = estimate if estimate < per_minute else per_minute
            over = use.tokens + others_tokens + wanted - per_minute
            if over > 0:
                wait_s = _until(use, rows, second, now, 2, over)
                raise self._refused(f"{per_minute} tokens a minute", wait_s, use)
        return use, second

    def _new_use(self, key: KeyGrant, limits: Limits) -> _Use:
        known = self._uses.get(key.id)
        if known is not None:
            known.limits, known.shown = limits, _shown(limits)
            return known
        row = Row() if self._counters is None else self._counters.own(key.number)
        use = self._uses[key.id] = _Use(key.number, limits, row)
        return use

    def _next_month(self, now: float) -> None:
        self._month = month_of(now)
        year, month = divmod(self._month + 1, 12)
        self._month_ends = calendar.timegm((year, month + 1, 1, 0, 0, 0))

    def _refused(self, what: str, wait_s: int, use: _Use) -> Reply:
        reply = _exceeded(what, wait_s)
        reply.lines += self.lines(use)
        return reply


def _window(rows: list[Row], second: int) -> tuple[int, int]:
    """Requests and tokens that the others counted within the window."""
    oldest = second - WINDOW_S
    requests = tokens = 0
    for row in rows:
        for bucket in row.buckets:
            if bucket[0] > oldest:
                requests += bucket[1]
                tokens += bucket[2]
    return requests, tokens


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


def _shown(limits: Limits) -> bytes:
    """The header lines, but for what is left and the seconds."""
    lines = b""
    for what, limit in (
        (b"requests", limits.requests_per_minute),
        (b"tokens", limits.tokens_per_minute),
    ):
        if limit is not None:
            lines += b"x-ratelimit-limit-%b: %d\r\n" % (what, limit)
            lines += b"x-ratelimit-remaining-%b: %%d\r\n" % what
            lines += b"x-ratelimit-reset-%b: %%ds\r\n" % what
    return lines
