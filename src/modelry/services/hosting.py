"""Adapters on the replicas of other services: which replica has which, and bringing them there.

A replica knows them by their services' access paths. What is remembered here of a replica that
an earlier control plane started is asked of the replica itself.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from modelry.engines.base import AdapterHost, AdapterRefused, Endpoint, Engine
from modelry.services.situation import AdapterSeen

log = logging.getLogger(__name__)

_TRIES = 3


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

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._names: dict[str, frozenset[str]] = {}
        """Replica id → what it has, for those that have said."""
        self._paths: dict[str, str] = {}
        """Service id → its access path, of those that are hosted."""
        self._failures: dict[tuple[str, str], tuple[int, str]] = {}
        """(Service, replica) → how often it has refused, and why."""
        self._working: dict[tuple[str, str], asyncio.Task[None]] = {}

    def look(self, replicas: Iterable[HostReplica], paths: Mapping[str, str]) -> None:
        """Take note of what there is: the replicas that are ready, and the services hosted."""
        self._paths = dict(paths)
        ready = {replica.id: replica for replica in replicas}
        for gone in self._names.keys() - ready.keys():
            del self._names[gone]
        for key in [key for key in self._failures if key[0] not in paths or key[1] not in ready]:
            del self._failures[key]
        if paths:
            for replica in ready.values():
                if replica.id not in self._names:
                    self._begin(("", replica.id), self._ask(replica))

    def seen(self, service_id: str) -> AdapterSeen:
        path = self._paths.get(service_id)
        on = frozenset(id_ for id_, names in self._names.items() if path in names)
        refused = [
            why
            for (service, _), (times, why) in self._failures.items()
            if service == service_id and times >= _TRIES
        ]
        return AdapterSeen(on, refused[0] if refused else None)

    def load(self, service_id: str, replica: HostReplica, adapter: Path) -> None:
        """Begin to give it to a replica that has said what it has, unless that has it by now."""
        path = self._paths[service_id]
        names = self._names.get(replica.id)
        if names is not None and path not in names:
            self._begin((service_id, replica.id), self._load(service_id, path, replica, adapter))

    def unload(self, service_id: str, replica: HostReplica) -> None:
        path = self._paths[service_id]
        self._begin((service_id, replica.id), self._unload(path, replica))

    def forget_failures(self, service_id: str) -> None:
        """Let it be tried again."""
        for key in [key for key in self._failures if key[0] == service_id]:
            del self._failures[key]

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
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: tuple[str, str]) -> None:
        del self._working[key]
        self.on_change()

    async def _ask(self, replica: HostReplica) -> None:
        try:
            self._names[replica.id] = await replica.host.adapters(replica.endpoint)
        except AdapterRefused as error:
            log.warning("%s does not say which adapters it has: %s", replica.id, error.message)

    async def _load(self, service_id: str, path: str, replica: HostReplica, adapter: Path) -> None:
        try:
            await replica.host.load_adapter(replica.endpoint, path, adapter)
        except AdapterRefused as error:
            log.warning("%s refused the adapter of %s: %s", replica.id, path, error.message)
            times, _ = self._failures.get((service_id, replica.id), (0, ""))
            self._failures[service_id, replica.id] = (times + 1, error.message)
            return
        self._names[replica.id] = self._names.get(replica.id, frozenset()) | {path}

    async def _unload(self, path: str, replica: HostReplica) -> None:
        try:
            await replica.host.unload_adapter(replica.endpoint, path)
        except AdapterRefused as error:
            log.warning("%s keeps the adapter of %s: %s", replica.id, path, error.message)
        self._names[replica.id] = self._names.get(replica.id, frozenset()) - {path}
