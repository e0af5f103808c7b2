"""Which services are in use, as gateways tell. Bookkeeping in memory, without I/O.

A gateway reports, every second, the load of each service whose load has
changed or is not nothing, and at once that a request waits for one that is
idle. What must outlast a restart is the reconciler's to store.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from modelry.routing.messages import Load, Wake

_FIRST_REPORT = timedelta(seconds=3)
"""Within this time a gateway that has just connected has told all it has to tell."""


class Activity:
    """`on_wake` is called when a request waits for a service that may be idle."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.on_wake: Callable[[], None] = lambda: None
        self._now = now
        self._connected_at: dict[int, datetime] = {}
        self._busy: dict[int, set[str]] = {}
        self._used_at: dict[str, datetime] = {}

    # -- what gateways report ------------------------------------------------

    def gateway_connected(self, gateway: int) -> None:
        self._connected_at[gateway] = self._now()
        self._busy[gateway] = set()

    def load(self, gateway: int, message: Load) -> None:
        now, busy = self._now(), self._busy[gateway]
        for service_id, load in message.services.items():
            used_at = datetime.fromtimestamp(load.last_used_at, UTC)
            if load.inflight or load.waiting:
                busy.add(service_id)
            elif service_id in busy:
                # Its last request may have begun long ago; it ended just now.
                busy.discard(service_id)
                used_at = now
            self._note_use(service_id, min(used_at, now))

    def wake(self, message: Wake) -> None:
        self._note_use(message.service_id, self._now())
        self.on_wake()

    def gateway_gone(self, gateway: int) -> None:
        del self._connected_at[gateway]
        for service_id in self._busy.pop(gateway):
            self._note_use(service_id, self._now())

    # -- what the reconciler reads -------------------------------------------

    def known_from(self) -> datetime | None:
        """From when on `used_at` tells everything; None while no gateway is connected."""
        latest = max(self._connected_at.values(), default=None)
        return None if latest is None else latest + _FIRST_REPORT

    def used_at(self, service_id: str) -> datetime | None:
        """When the service was last in use: now, while requests of it run or wait."""
        if any(service_id in busy for busy in self._busy.values()):
            return self._now()
        return self._used_at.get(service_id)

    def keep_only(self, service_ids: Collection[str]) -> None:
        """Forget services that are gone."""
        for gone in self._used_at.keys() - service_ids:
            del self._used_at[gone]
        for busy in self._busy.values():
            busy.intersection_update(service_ids)

    def _note_use(self, service_id: str, at: datetime) -> None:
        self._used_at[service_id] = max(at, self._used_at.get(service_id, at))
