"""Adapters on the replicas of other services: which replica has which, and bringing them there.

A replica knows them by their services' access paths. What is remembered here of a replica that
an earlier control plane started is asked of the replica itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from modelry.engines.base import AdapterHost, AdapterRefused, Endpoint, Engine
from modelry.services.situation import AdapterSeen

log = logging.getLogger(__name__)

_TRIES = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class _Refusal:
    """How often in a row, why the last time, and when to try again."""

    times: int
    why: str
    again_at: float


@dataclass(frozen=True)
class HostReplica:
    """A ready replica that takes adapters."""

    id: str
    endpoint: Endpoint
    engine: Engine

    @property
    def host(self) -> AdapterHost:
        return cast(AdapterHost, self.engine)


class Hosting:
    """`on_change` is called whenever a replica took an adapter, gave it up, or refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._ready: dict[str, HostReplica] = {}
        self._names: dict[str, frozenset[str]] = {}
        """Replica id → what it has, for those that have said."""
        self._paths: dict[str, str] = {}
        """Service id → its access path, of those that are hosted."""
        self._refusals: dict[tuple[str, str], _Refusal] = {}
        """By service and replica, of loads; by "" and replica, of questions."""
        self._working: dict[tuple[str, str], asyncio.Task[None]] = {}

    def look(self, replicas: Iterable[HostReplica], paths: Mapping[str, str]) -> None:
        """Take note of what there is: the replicas that are ready, and the services hosted. Asks
        replicas that have not said what they have, and takes from them what no service has.
        """
        self._paths = dict(paths)
        self._ready = ready = {replica.id: replica for replica in replicas}
        for gone in self._names.keys() - ready.keys():
            del self._names[gone]
        for key in list(self._refusals):
            if key[1] not in ready or (key[0] and key[0] not in paths):
                del self._refusals[key]
        if not paths and not any(self._names.values()):
            return
        known = set(paths.values())
        for replica in ready.values():
            if replica.id not in self._names:
                if self._may_try(("", replica.id)):
                    self._begin(("", replica.id), self._ask(replica))
                continue
            for stray in self._names[replica.id] - known:
                self._begin(("", replica.id), self._unload(stray, replica))

    def seen(self, service_id: str) -> AdapterSeen:
        path = self._paths.get(service_id)
        refused = {
            replica: refusal
            for (service, replica), refusal in self._refusals.items()
            if service == service_id
        }
        given_up = [each.why for each in refused.values() if each.times >= _TRIES]
        return AdapterSeen(
            on=frozenset(id_ for id_, names in self._names.items() if path in names),
            unsure=frozenset(
                id_
                for id_ in self._ready
                if id_ not in self._names or (service_id, id_) in self._working
            ),
            refusing=frozenset(id_ for id_ in refused if not self._may_try((service_id, id_))),
            failure=given_up[0] if given_up else None,
        )

    def load(self, service_id: str, replica: HostReplica, adapter: Path) -> None:
        """Begin to give it to a replica that has said what it has, unless that has it by now."""
        path = self._paths[service_id]
        names = self._names.get(replica.id)
        if names is not None and path not in names and self._may_try((service_id, replica.id)):
            self._begin((service_id, replica.id), self._load(service_id, path, replica, adapter))

    def unload(self, service_id: str, replica: HostReplica) -> None:
        path = self._paths[service_id]
        self._begin((service_id, replica.id), self._unload(path, replica))

    def forget_failures(self, service_id: str) -> None:
        """Let it be tried again."""
        for key in [key for key in self._refusals if key[0] == service_id]:
            del self._refusals[key]

    @property
    def asking(self) -> bool:
        return bool(self._working)

    async def settled(self, timeout_s: float) -> None:
        """Once whatever is under way has ended, or the time is over."""
        if self._working:
            await asyncio.wait(self._working.values(), timeout=timeout_s)

    async def close(self) -> None:
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    # ------------------------------------------------------------------------

    def _begin(self, key: tuple[str, str], work: Coroutine[None, None, None]) -> None:
        if key in self._working:
            work.close()
            return
        task = asyncio.create_task(work)
        self._working[key] = task
        task.add_done_callback(lambda _: self._working.pop(key, None))

    def _may_try(self, key: tuple[str, str]) -> bool:
        refusal = self._refusals.get(key)
        if refusal is None:
            return True
        given_up = bool(key[0]) and refusal.times >= _TRIES
        return not given_up and self._clock() >= refusal.again_at

    def _refused(self, key: tuple[str, str], why: str) -> None:
        """Not again before a pause, longer each time; the next looks come by themselves."""
        times = 1 if key not in self._refusals else self._refusals[key].times + 1
        pause_s = min(_FIRST_PAUSE_S * 2 ** (times - 1), _LONGEST_PAUSE_S)
        self._refusals[key] = _Refusal(times, why, self._clock() + pause_s)

    def _changed(self) -> None:
        # Once the task that says so is counted as ended.
        asyncio.get_running_loop().call_soon(lambda: self.on_change())

    async def _ask(self, replica: HostReplica) -> None:
        try:
            self._names[replica.id] = await replica.host.adapters(replica.endpoint)
        except AdapterRefused as error:
            log.warning("%s does not say which adapters it has: %s", replica.id, error.message)
            self._refused(("", replica.id), error.message)
            return
        self._refusals.pop(("", replica.id), None)
        self._changed()

    async def _load(self, service_id: str, path: str, replica: HostReplica, adapter: Path) -> None:
        try:
            await replica.host.load_adapter(replica.endpoint, path, adapter)
        except AdapterRefused as error:
            log.warning("%s refused the adapter of %s: %s", replica.id, path, error.message)
            self._refused((service_id, replica.id), error.message)
            # It may have taken it all the same, and only been slow to say so.
            self._names.pop(replica.id, None)
        else:
            self._refusals.pop((service_id, replica.id), None)
            self._names[replica.id] = self._names.get(replica.id, frozenset()) | {path}
        self._changed()

    async def _unload(self, path: str, replica: HostReplica) -> None:
        try:
            await replica.host.unload_adapter(replica.endpoint, path)
        except AdapterRefused as error:
            log.warning("%s keeps the adapter of %s: %s", replica.id, path, error.message)
            # Whether it has it still, it has to say itself.
            self._names.pop(replica.id, None)
            self._refused(("", replica.id), error.message)
            return
        self._names[replica.id] = self._names.get(replica.id, frozenset()) - {path}
        self._changed()
