"""What the gateway knows: routes by access path, keys by hash, replicas and their load.

Pure bookkeeping without I/O: the feed client applies changes to it, requests
read from it.
"""

import hashlib
import time
from fnmatch import fnmatchcase

from modelry.gateway.service import Service, Terms
from modelry.routing.messages import (
    Change,
    KeyDrop,
    KeyGrant,
    KeyPut,
    Route,
    RouteDrop,
    RoutePut,
    Snapshot,
)


class Table:
    """Routes and keys as of feed position `seq`; -1 before anything was heard."""

    def __init__(self, terms: Terms | None = None) -> None:
        self.seq = -1
        self.version = 0
        """Counts every change, whichever control plane it came from."""
        self._terms = terms or Terms()
        self.live = False
        """Whether the feed has been heard in this process: until then, all is hearsay."""
        self.last_used_at: dict[str, float] = {}
        self._services: dict[str, Service] = {}
        self._by_path: dict[str, Service] = {}
        self._keys: dict[str, KeyGrant] = {}
        self._by_hash: dict[str, KeyGrant] = {}
        self._verified: dict[bytes, KeyGrant] = {}
        """Keys that were sent and found: they need no second hash."""
        self.granted: dict[tuple[str, str, str], Service] = {}
        """(Key id, model as it was asked for, task) → service, once it was found and allowed.
        Empty after every change.
        """

    def apply(self, message: Snapshot | Change) -> None:
        if not isinstance(message, Snapshot) and message.seq <= self.seq:
            # Heard already: what it says may no longer be true.
            return
        self.seq = message.seq
        self.version += 1
        self.granted.clear()
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
        # A probe's key ends with the control plane that made it.
        keys = tuple(key for key in self._keys.values() if not key.probe)
        return Snapshot(self.seq, routes, keys)

    @property
    def size(self) -> int:
        return len(self._services) + len(self._keys)

    def has_key(self, key_id: str) -> bool:
        return key_id in self._keys

    @property
    def services(self) -> list[Service]:
        return list(self._services.values())

    def key(self, secret: bytes) -> KeyGrant | None:
        """The grant of a key as its caller sent it, or None where it is not valid (any more)."""
        grant = self._verified.get(secret)
        if grant is None:
            # Looked up by digest: the time this takes tells nothing about a stored key.
            grant = self._by_hash.get(hashlib.sha256(secret).hexdigest())
            if grant is None:
                return None
            self._verified[secret] = grant
        now = time.time()
        if grant.expires_at is not None and grant.expires_at <= now:
            return None
        if not grant.probe:
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
        self._verified.clear()

    def _put_route(self, route: Route) -> None:
        service = self._services.get(route.service_id)
        if service is None:
            service = self._services[route.service_id] = Service(route, self._terms)
        else:
            self._unlist(service)
            service.update(route)
        self._by_path[route.access_path] = service

    def _drop_route(self, service_id: str) -> None:
        service = self._services.pop(service_id, None)
        if service is not None:
            self._unlist(service)
            service.drop()

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
            # Rare: searching once costs less than keeping a second table.
            for secret in [sent for sent, grant in self._verified.items() if grant is key]:
                del self._verified[secret]


def _visible(route: Route, key: KeyGrant) -> bool:
    return route.owner_id == key.owner_id or route.access_path.startswith("public/")


def allows(key: KeyGrant, route: Route) -> bool:
    """Whether the key's scope covers the route."""
    return covers(key, route.access_path)


def covers(key: KeyGrant, access_path: str) -> bool:
    """Whether its scope has the path of a service, which may be gone: exact paths or globs."""
    if key.services is None:
        return True
    return any(fnmatchcase(access_path, pattern) for pattern in key.services)
