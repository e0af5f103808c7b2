"""What a chart shows of a period: a point a step, and the whole period as one. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import add

from modelry.routing.messages import BUCKETS_S
from modelry.usage.series.steps import Window

_NONE_SEEN = (0,) * (len(BUCKETS_S) + 1)


@dataclass(frozen=True)
class Counted:
    """What the requests that ended within some time came to.

    `streamed_tokens` are those that took `generation_s` after their first; `first_token` counts
    requests by `BUCKETS_S`, as a `Histogram` does.
    """

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    streamed_tokens: int = 0
    generation_s: float = 0.0
    queue_s: float = 0.0
    first_token: tuple[int, ...] = _NONE_SEEN


@dataclass(frozen=True)
class Gauged:
    """The most that was seen within some time; None where it was not."""

    inflight: int | None = None
    waiting: int | None = None
    memory_bytes: int | None = None
    replicas: int | None = None


@dataclass(frozen=True)
class Point:
    """Counts are 0 where there was no request; the others None where nothing was measured."""

    requests: int
    errors: int
    cancelled: int
    prompt_tokens: int
    completion_tokens: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tokens_per_s: float | None
    queue_mean_s: float | None
    waiting: int | None
    inflight: int | None
    memory_bytes: int | None
    replicas: int | None


def points(
    window: Window, counted: Mapping[int, Counted], gauged: Mapping[int, Gauged]
) -> list[tuple[int, Point]]:
    """Each step's start and point, without a gap. Both mappings are by a step's start."""
    return [
        (start, _point(counted.get(start, Counted()), gauged.get(start, Gauged())))
        for start in range(window.start, window.end, window.step)
    ]


def total(counted: Iterable[Counted], gauged: Iterable[Gauged]) -> Point:
    """All of it as one point: sums of counts, and the most of what was seen."""
    whole, most = Counted(), Gauged()
    for each in counted:
        whole = _sum(whole, each)
    for seen in gauged:
        most = _most(most, seen)
    return _point(whole, most)


def quantile(share: float, counts: tuple[int, ...]) -> float | None:
    """The seconds that this share of the observations took at most, None where there are none.

    Between its bucket's bounds it is taken to lie evenly, as Prometheus' `histogram_quantile` does:
    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
    Of the last bucket only the lower bound is known.
    """
    rank = share * sum(counts)
    before, lower = 0, 0.0
    for upper, count in zip(BUCKETS_S, counts, strict=False):
        if count and before + count >= rank:
            return lower + (upper - lower) * (rank - before) / count
        before, lower = before + count, upper
    return lower if any(counts) else None


def _point(counted: Counted, gauged: Gauged) -> Point:
    return Point(
        requests=counted.requests,
        errors=counted.errors,
        cancelled=counted.cancelled,
        prompt_tokens=counted.prompt_tokens,
        completion_tokens=counted.completion_tokens,
        ttft_p50_s=quantile(0.5, counted.first_token),
        ttft_p95_s=quantile(0.95, counted.first_token),
        tokens_per_s=_ratio(counted.streamed_tokens, counted.generation_s),
        queue_mean_s=_ratio(counted.queue_s, counted.requests),
        waiting=gauged.waiting,
        inflight=gauged.inflight,
        memory_bytes=gauged.memory_bytes,
        replicas=gauged.replicas,
    )


def _ratio(whole: float, parts: float) -> float | None:
    return whole / parts if parts else None


def _sum(one: Counted, other: Counted) -> Counted:
    return Counted(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        cancelled=one.cancelled + other.cancelled,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        streamed_tokens=one.streamed_tokens + other.streamed_tokens,
        generation_s=one.generation_s + other.generation_s,
        queue_s=one.queue_s + other.queue_s,
        first_token=tuple(map(add, one.first_token, other.first_token)),
    )


def _most(one: Gauged, other: Gauged) -> Gauged:
    return Gauged(
        inflight=_larger(one.inflight, other.inflight),
        waiting=_larger(one.waiting, other.waiting),
        memory_bytes=_larger(one.memory_bytes, other.memory_bytes),
        replicas=_larger(one.replicas, other.replicas),
    )


def _larger(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)
