"""What this gateway tells its control plane: load, metrics, and the usage in its spools."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from modelry.gateway.service import Service
from modelry.gateway.spool import Slice, Source, Spool
from modelry.routing.messages import (
    FromGateway,
    Load,
    MetricsReport,
    ServiceLoad,
    ServiceMetrics,
    SpoolEnded,
    UsageBatch,
    UsageTaken,
)

log = logging.getLogger(__name__)

_METRICS_EVERY = 5
# So that a line stays well below what the other side takes.
_LOADS_AT_ONCE = 2000
_METRICS_AT_ONCE = 200

Value = TypeVar("Value")


class GatewayReporter:
    """One batch of usage is under way at a time: the next is sent once it was taken."""

    def __init__(
        self,
        services: Callable[[], list[Service]],
        spool: Spool,
    ) -> None:
        self._services = services
        self._spool = spool
        self._left_behind: list[Source] = []
        self._under_way = False
        self._told: dict[str, ServiceLoad] = {}
        self._everything = True
        self._beat = 0

    def connected(self) -> None:
        self._everything = True
        self._under_way = False
        self._beat = 0
        self._told.clear()

    def messages(self) -> Iterator[FromGateway]:
        self._spool.retry()
        load = self._changed_load()
        if self._everything and not load:
            yield Load({})
        for some in batches(load, _LOADS_AT_ONCE):
            yield Load(some)
        if self._beat % _METRICS_EVERY == 0:
            for metrics in batches(self._changed_metrics(), _METRICS_AT_ONCE):
                yield MetricsReport(self._spool.name, metrics)
            self._everything = False
            self._left_behind += self._spool.left_behind()
            yield from self._ended()
        self._beat += 1

    def last(self) -> Iterator[FromGateway]:
        for load in batches(self._changed_load(), _LOADS_AT_ONCE):
            yield Load(load)
        for metrics in batches(self._changed_metrics(), _METRICS_AT_ONCE):
            yield MetricsReport(self._spool.name, metrics)

    def usage(self) -> tuple[UsageBatch, bytes] | None:
        if self._under_way:
            return None
        # What others left comes first: it is the oldest.
        for source in self._sources:
            found = _next_slice(source)
            if found is not None:
                self._under_way = True
                batch = UsageBatch(found.source, found.segment, found.start, len(found.data))
                return batch, found.data
        return None

    @property
    def _sources(self) -> list[Source]:
        own = self._spool.own
        return self._left_behind if own is None else [*self._left_behind, own]

    def taken(self, message: UsageTaken) -> None:
        """Go on behind what is held."""
        self._under_way = False
        for source in self._sources:
            if source.name == message.source:
                source.taken(message.segment, message.offset)

    def _ended(self) -> Iterator[SpoolEnded]:
        """Spools whose process is gone, and whose last line was taken."""
        for source in tuple(self._left_behind):
            try:
                empty = source.next_slice() is None
            except OSError:
                empty = False
            if empty:
                self._left_behind.remove(source)
                source.remove()
                yield SpoolEnded(source.name)

    def _changed_load(self) -> dict[str, ServiceLoad]:
        changed = {}
        known = {}
        for service in self._services():
            if not service.last_used_at:
                continue
            load = service.load
            id_ = service.route.service_id
            known[id_] = load
            if load.inflight or load.waiting or self._told.get(id_) != load:
                changed[id_] = load
        self._told = known
        return changed

    def _changed_metrics(self) -> dict[str, ServiceMetrics]:
        return {
            service.route.service_id: service.meter.shown(service.route.access_path)
            for service in self._services()
            if service.meter.changed or (self._everything and service.last_used_at)
        }


def batches(found: dict[str, Value], size: int) -> Iterator[dict[str, Value]]:
    """The same in parts of at most `size`."""
    items = iter(found.items())
    while some := dict(islice(items, size)):
        yield some


def _next_slice(source: Source) -> Slice | None:
    try:
        return source.next_slice()
    except OSError as error:
        log.warning("the usage in %s cannot be read now: %s", source.folder, error)
        return None
