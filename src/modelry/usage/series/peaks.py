"""The most requests that each service had at once since somebody last asked. In memory, pure.

Gateways report loads every second, and metrics are kept by the minute: a queue that was there for
ten seconds in between is seen all the same.
"""

from collections.abc import Collection
from dataclasses import dataclass

from modelry.routing.messages import Load, ServiceLoad


@dataclass(frozen=True)
class Peak:
    """Each the most there was, not necessarily at the same time."""

    inflight: int = 0
    waiting: int = 0


class Peaks:
    """`gateway` is one connection of a gateway."""

    def __init__(self) -> None:
        self._loads: dict[int, dict[str, ServiceLoad]] = {}
        """What is not nothing."""
        self._peaks: dict[str, Peak] = {}
        self._heard = False

    def gateway_connected(self, gateway: int) -> None:
        self._loads[gateway] = {}
        self._heard = True

    def load(self, gateway: int, message: Load) -> None:
        loads = self._loads[gateway]
        for service_id, load in message.services.items():
            if load.inflight or load.waiting:
                loads[service_id] = load
                self._note(service_id)
            else:
                loads.pop(service_id, None)

    def gateway_gone(self, gateway: int) -> None:
        del self._loads[gateway]

    def take(self) -> dict[str, Peak] | None:
        """Service id → peak since the last time, of those that had a load; None where no gateway
        was there to tell.
        """
        taken, heard = self._peaks, self._heard
        self._peaks, self._heard = {}, bool(self._loads)
        for service_id in {each for loads in self._loads.values() for each in loads}:
            self._note(service_id)
        return taken if heard else None

    def keep_only(self, service_ids: Collection[str]) -> None:
        """Forget services that are gone: no gateway says any more that their load has ended."""
        for loads in self._loads.values():
            for gone in loads.keys() - service_ids:
                del loads[gone]
        for gone in self._peaks.keys() - service_ids:
            del self._peaks[gone]

    def _note(self, service_id: str) -> None:
        now = [loads[service_id] for loads in self._loads.values() if service_id in loads]
        before = self._peaks.get(service_id, Peak())
        self._peaks[service_id] = Peak(
            inflight=max(before.inflight, sum(load.inflight for load in now)),
            waiting=max(before.waiting, sum(load.waiting for load in now)),
        )
