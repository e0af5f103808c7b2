"""What the gateway knows: routes by access path, keys by hash, replicas and their load.

Pure bookkeeping without I/O: the feed client applies changes to it, requests
read from it.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from modelry.routing.messages import (
    FromControl,
    KeyDrop,
    KeyGrant,
    KeyPut,
    ReplicaAddress,
    Route,
    RouteDrop,
    RoutePut,
    Snapshot,
)

Waiter = Callable[[], None]


class Replica:
    """A ready replica and how many requests this gateway has on it."""

    __slots__ = ("address", "inflight")

    def __init__(self, address: ReplicaAddress) -> None:
        self.address = address
        self.inflight = 0


class Service:
    """A route with its live replicas. Survives changes of its route."""

    __slots__ = ("gone", "replicas", "route", "waiters")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.gone = False
        self.replicas: dict[str, Replica] = {}
        self.waiters: set[Waiter] = set()
        self.update(route)

    def update(self, route: Route) -> None:
        self.route = route
        kept = self.replicas
        self.replicas = {}
        for address in route.replicas:
            replica = kept.get(address.id)
            if replica is None or replica.address != address:
                replica = Replica(address)
            self.replicas[address.id] = replica
        self.wake()

    def wake(self) -> None:
        """Let every request that waits for this route look at it again."""
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            waiter()

    def least_loaded(self, without: Iterable[str] = ()) -> Replica | None:
        """The ready replica with the fewest requests, those in `without` left out."""
        best: Replica | None = None
        for id_, replica in self.replicas.items():
            if id_ not in without and (best is None or replica.inflight < best.inflight):
                best = replica
        return best


class Table:
    """Routes and keys as of feed position `seq`; -1 before anything was heard."""

    def __init__(self) -> None:
        self.seq = -1
        self.live = False
        """Whether the feed has been heard in this process: until then, all is hearsay."""
        self.last_used_at: dict[str, float] = {}
        self._services: dict[str, Service] = {}
        self._by_path: dict[str, Service] = {}
        self._keys: dict[str, KeyGrant] = {}
        self._by_hash: dict[str, KeyGrant] = {}

    def apply(self, message: FromControl) -> None:
        self.seq = message.seq
        if isinstance(message, RoutePut):
            self._put_route(message.route)
        elif isinstance(message, RouteDrop):
            self._drop_route(message.service_id)
        elif isinstance(message, KeyPut):
            self._put_key(message.key)
        elif isinstance(message, KeyDrop):
            self._drop_key(message.key_id)
        else:
            self._replace(message)

    def snapshot(self) -> Snapshot:
        routes = tuple(service.route for service in self._services.values())
        return Snapshot(self.seq, routes, tuple(self._keys.values()))

    def replica_addresses(self) -> set[ReplicaAddress]:
        """Every replica that some route has now."""
        return {
            replica.address
            for service in self._services.values()
            for replica in service.replicas.values()
        }

    def key(self, secret: bytes) -> KeyGrant | None:
        """The grant of a key as its caller sent it, or None where it is not valid (any more)."""
        # Looked up by digest: the time this takes tells nothing about a stored key.
        grant = self._by_hash.get(hashlib.sha256(secret).hexdigest())
        if grant is None:
            return None
        now = time.time()
        if grant.expires_at is not None and grant.expires_at <= now:
            return None
        self.last_used_at[grant.id] = now
        return grant

    def service(self, model: str, key: KeyGrant) -> Service | None:
        """The service `model` names for this key's owner: an access path, or a bare name."""
        path = model if "/" in model else f"{key.owner_id}/{model}"
        service = self._by_path.get(path)
        if service is None or not _visible(service.route, key):
            return None
        return service

    def visible_to(self, key: KeyGrant) -> list[Route]:
        """Routes the key's owner may see and the key may call, oldest first."""
        routes = [
            service.route
            for service in self._services.values()
            if _visible(service.route, key) and allows(key, service.route)
        ]
        return sorted(routes, key=lambda route: (route.created_at, route.access_path))

    def _replace(self, snapshot: Snapshot) -> None:
        wanted = {route.service_id for route in snapshot.routes}
        for service_id in [id_ for id_ in self._services if id_ not in wanted]:
            self._drop_route(service_id)
        for route in snapshot.routes:
            self._put_route(route)
        self._keys = {key.id: key for key in snapshot.keys}
        self._by_hash = {key.hash: key for key in snapshot.keys}

    def _put_route(self, route: Route) -> None:
        service = self._services.get(route.service_id)
        if service is None:
            service = self._services[route.service_id] = Service(route)
        else:
            self._unlist(service)
            service.update(route)
        self._by_path[route.access_path] = service

    def _drop_route(self, service_id: str) -> None:
        service = self._services.pop(service_id, None)
        if service is not None:
            self._unlist(service)
            service.gone = True
            service.replicas = {}
            service.wake()

    def _unlist(self, service: Service) -> None:
        if self._by_path.get(service.route.access_path) is service:
            del self._by_path[service.route.access_path]

    def _put_key(self, key: KeyGrant) -> None:
        self._drop_key(key.id)
        self._keys[key.id] = key
        self._by_hash[key.hash] = key

    def _drop_key(self, key_id: str) -> None:
        key = self._keys.pop(key_id, None)
        if key is not None:
            self._by_hash.pop(key.hash, None)


def _visible(route: Route, key: KeyGrant) -> bool:
    return route.owner_id == key.owner_id or route.access_path.startswith("public/")


def allows(key: KeyGrant, route: Route) -> bool:
    """Whether the key's scope covers the route: exact access paths or globs."""
    if key.services is None:
        return True
    return any(fnmatchcase(route.access_path, pattern) for pattern in key.services)
