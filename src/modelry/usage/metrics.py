"""What gateways count, put together for Prometheus. In memory, without I/O.

A gateway reports counters that grow from the start of its process on, of services that
were used since its last report: the latest of each service is what counts. Those of a
gateway that is gone stay, and end in a sum, for a counter never goes down.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add, attrgetter

from modelry.routing.messages import (
    Histogram,
    Load,
    MetricsReport,
    Route,
    ServiceLoad,
    ServiceMetrics,
)
from modelry.usage.exposition import family, histogram, sample

_USED = (
    ("modelry_prompt_tokens_total", "Tokens of prompts.", attrgetter("prompt_tokens")),
    ("modelry_completion_tokens_total", "Tokens of answers.", attrgetter("completion_tokens")),
    ("modelry_images_total", "Images that were made.", attrgetter("images")),
    ("modelry_image_pixels_total", "Pixels of these images, together.", attrgetter("pixels")),
    ("modelry_audio_seconds_total", "Speech that was written down.", attrgetter("audio_s")),
    ("modelry_characters_total", "Characters that were read aloud.", attrgetter("characters")),
)
_SECONDS = (
    (
        "modelry_first_token_seconds",
        "From a request's arrival to the first byte of its answer.",
        attrgetter("first_token"),
    ),
    (
        "modelry_between_tokens_seconds",
        "Between frames of a stream.",
        attrgetter("between_tokens"),
    ),
    ("modelry_queue_seconds", "Waiting for a slot.", attrgetter("queue")),
    (
        "modelry_gateway_seconds",
        "The gateway's own time before it sends a request on.",
        attrgetter("own"),
    ),
)
_LOADS = (
    ("modelry_inflight_requests", "Requests that are worked on now.", attrgetter("inflight")),
    ("modelry_waiting_requests", "Requests that wait for a slot now.", attrgetter("waiting")),
)
# Processes that are gone, but may only have lost their connection.
_REMEMBERED = 32
_NO_LOAD = ServiceLoad(inflight=0, waiting=0, last_used_at=0.0)


class Metrics:
    """`routes`: those of every service there is. `gateway` is one connection of a gateway."""

    def __init__(self, routes: Callable[[], Sequence[Route]]) -> None:
        self._routes = routes
        self._counts: dict[str, dict[str, ServiceMetrics]] = {}
        """By gateway process, which may come back on another connection."""
        self._processes: dict[int, str] = {}
        self._left: deque[str] = deque()
        self._loads: dict[int, dict[str, ServiceLoad]] = {}
        self._gone: dict[str, ServiceMetrics] = {}

    def gateway_connected(self, gateway: int) -> None:
        self._loads[gateway] = {}

    def load(self, gateway: int, message: Load) -> None:
        self._loads[gateway].update(message.services)

    def report(self, gateway: int, message: MetricsReport) -> None:
        self._processes[gateway] = message.process
        self._counts.setdefault(message.process, {}).update(message.services)

    def gateway_gone(self, gateway: int) -> None:
        del self._loads[gateway]
        process = self._processes.pop(gateway, None)
        if process is not None:
            self._left.append(process)
        while len(self._left) > _REMEMBERED:
            oldest = self._left.popleft()
            if oldest not in self._left and oldest not in self._processes.values():
                last = self._counts.pop(oldest, {})
                self._gone = _by_path((*self._gone.values(), *last.values()))

    def text(self) -> str:
        """Everything, as a scraper reads it."""
        lines = (*self._counted(), *self._present())
        return "".join(f"{line}\n" for line in lines)

    def _counted(self) -> Iterator[str]:
        now = [each for services in self._counts.values() for each in services.values()]
        sums = sorted(_by_path((*self._gone.values(), *now)).items())
        yield from family("modelry_requests_total", "counter", "Answers, by their HTTP status.")
        for path, each in sums:
            for status, count in sorted(each.requests.items()):
                yield sample("modelry_requests_total", count, service=path, status=status)
        for name, meaning, used in _USED:
            yield from family(name, "counter", meaning)
            for path, each in sums:
                yield sample(name, used(each), service=path)
        for name, meaning, seconds in _SECONDS:
            yield from family(name, "histogram", meaning)
            for path, each in sums:
                yield from histogram(name, seconds(each), service=path)

    def _present(self) -> Iterator[str]:
        routes = self._routes()
        for name, meaning, requests in _LOADS:
            yield from family(name, "gauge", meaning)
            for route in routes:
                loads = [each.get(route.service_id, _NO_LOAD) for each in self._loads.values()]
                total = sum(requests(load) for load in loads)
                yield sample(name, total, service=route.access_path)
        yield from family("modelry_gateways", "gauge", "Gateways that are connected.")
        yield sample("modelry_gateways", len(self._loads))
        yield from family("modelry_services", "gauge", "Services, by their state.")
        for state, count in sorted(Counter(route.state for route in routes).items()):
            yield sample("modelry_services", count, state=state)


def _by_path(parts: Iterable[ServiceMetrics]) -> dict[str, ServiceMetrics]:
    """Access path → the sum of its parts."""
    sums: dict[str, ServiceMetrics] = {}
    for part in parts:
        path = part.access_path
        sums[path] = _added(sums[path], part) if path in sums else part
    return sums


def _added(one: ServiceMetrics, other: ServiceMetrics) -> ServiceMetrics:
    return ServiceMetrics(
        access_path=one.access_path,
        requests=Counter(one.requests) + Counter(other.requests),
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        first_token=_joined(one.first_token, other.first_token),
        between_tokens=_joined(one.between_tokens, other.between_tokens),
        queue=_joined(one.queue, other.queue),
        own=_joined(one.own, other.own),
        images=one.images + other.images,
        pixels=one.pixels + other.pixels,
        audio_s=one.audio_s + other.audio_s,
        characters=one.characters + other.characters,
    )


def _joined(one: Histogram, other: Histogram) -> Histogram:
    return Histogram(tuple(map(add, one.counts, other.counts)), one.total_s + other.total_s)
