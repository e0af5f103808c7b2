"""Counters and histograms of each service, as this process saw them since it started."""

from bisect import bisect_left

from modelry.gateway.usage import NO_UNITS, Units, Usage
from modelry.routing.messages import BUCKETS_S, Histogram, ServiceMetrics

_BUCKETS = len(BUCKETS_S) + 1


class Observations:
    """A histogram in the making."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def shown(self) -> Histogram:
        return Histogram(tuple(self.counts), self.total_s)


class ServiceMeter:
    """What one service's requests added up to. `changed`: since it was last shown."""

    __slots__ = (
        "between_tokens",
        "changed",
        "completion_tokens",
        "first_token",
        "own",
        "prompt_tokens",
        "queue",
        "requests",
        "units",
    )

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.first_token = Observations()
        self.between_tokens = Observations()
        self.queue = Observations()
        self.own = Observations()
        self.units = NO_UNITS
        self.changed = False

    def ended(
        self, status: int, own_s: float | None, queue_s: float, first_s: float | None, used: Usage
    ) -> None:
        """Count a request that is over."""
        self.changed = True
        requests = self.requests
        requests[status] = requests.get(status, 0) + 1
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        if used.units is not NO_UNITS:
            self.units = _added(self.units, used.units)
        if own_s is not None:
            own = self.own
            own.counts[bisect_left(BUCKETS_S, own_s)] += 1
            own.total_s += own_s
        if queue_s:
            self.queue.add(queue_s)
        else:
            self.queue.counts[0] += 1
        if first_s is not None:
            first = self.first_token
            first.counts[bisect_left(BUCKETS_S, first_s)] += 1
            first.total_s += first_s

    def shown(self, access_path: str) -> ServiceMetrics:
        self.changed = False
        return ServiceMetrics(
            access_path=access_path,
            requests=dict(self.requests),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            first_token=self.first_token.shown(),
            between_tokens=self.between_tokens.shown(),
            queue=self.queue.shown(),
            own=self.own.shown(),
            images=self.units.images,
            pixels=self.units.pixels,
            audio_s=self.units.audio_s,
            characters=self.units.characters,
        )


def _added(one: Units, other: Units) -> Units:
    return Units(
        one.images + other.images,
        one.pixels + other.pixels,
        one.audio_s + other.audio_s,
        one.characters + other.characters,
    )
