"""The feed: the ordered stream of route and key changes, and its present state.

The control plane puts routes and keys in; the feed numbers what really
changed and hands each change to every subscriber in that order. It knows
neither sockets nor the database.
"""

from collections.abc import Callable

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

Subscriber = Callable[[Change], None]


class Feed:
    """Present routes and keys. Putting what is already there changes nothing."""

    def __init__(self) -> None:
        self.seq = 0
        self._routes: dict[str, Route] = {}
        self._keys: dict[str, KeyGrant] = {}
        self._subscribers: set[Subscriber] = set()

    def snapshot(self) -> Snapshot:
        return Snapshot(self.seq, tuple(self._routes.values()), tuple(self._keys.values()))

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every later change; returns the way to stop that."""
        self._subscribers.add(subscriber)
        return lambda: self._subscribers.discard(subscriber)

    def put_route(self, route: Route) -> None:
        if self._routes.get(route.service_id) != route:
            self._routes[route.service_id] = route
            self._tell(RoutePut(self._next(), route))

    def drop_route(self, service_id: str) -> None:
        if self._routes.pop(service_id, None) is not None:
            self._tell(RouteDrop(self._next(), service_id))

    def put_key(self, key: KeyGrant) -> None:
        if self._keys.get(key.id) != key:
            self._keys[key.id] = key
            self._tell(KeyPut(self._next(), key))

    def drop_key(self, key_id: str) -> None:
        if self._keys.pop(key_id, None) is not None:
            self._tell(KeyDrop(self._next(), key_id))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _tell(self, change: Change) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber(change)
