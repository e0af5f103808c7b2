"""Tells open pages when services change, so that they show it without being reloaded.

While somebody looks, the services are compared each second with how they were. A stream says
only that something changed, and of what; the page asks for itself again. One that hears nothing
asks from time to time.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select

from modelry.db import Database
from modelry.services import store
from modelry.services.reconciler import Reconciler

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_HEARTBEAT_S = 15.0


@dataclass(eq=False)
class _Listener:
    """Who hears of one owner's services, or of a single one of them; of anybody's where
    `owner_id` is None.
    """

    owner_id: str | None
    service_id: str | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    def __init__(self, db: Database, reconciler: Reconciler) -> None:
        self._db = db
        self._reconciler = reconciler
        self._listeners: set[_Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def stream(
        self,
        owner_id: str | None,
        service_id: str | None,
        may_listen: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[bytes]:
        """An event stream, until `close`, until nobody reads it, or until who does `may_listen`
        no more.

        https://html.spec.whatwg.org/multipage/server-sent-events.html
        """
        listener = _Listener(owner_id, service_id)
        self._listeners.add(listener)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            # The page may have changed between its answer and this.
            yield b"retry: 2000\nevent: change\ndata: \n\n"
            while not self._closed.is_set():
                try:
                    await asyncio.wait_for(listener.changed.wait(), _HEARTBEAT_S)
                    listener.changed.clear()
                    said = b"event: change\ndata: \n\n"
                except TimeoutError:
                    said = b": still here\n\n"
                if self._closed.is_set() or not await may_listen():
                    return
                yield said
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End every stream, for their readers would hold up the end of the server."""
        self._closed.set()
        for listener in self._listeners:
            listener.changed.set()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        before: Mapping[str, tuple[str, str]] | None = None
        while self._listeners and not self._closed.is_set():
            try:
                now = await self._signatures()
            except Exception:
                log.exception("the services could not be looked at; trying again")
            else:
                if before is not None:
                    self._tell(before, now)
                before = now
            await asyncio.sleep(_LOOK_S)

    def _tell(
        self, before: Mapping[str, tuple[str, str]], now: Mapping[str, tuple[str, str]]
    ) -> None:
        changed = {
            (id_, (now.get(id_) or before[id_])[0])
            for id_ in before.keys() | now.keys()
            if before.get(id_) != now.get(id_)
        }
        for listener in self._listeners:
            if any(
                listener.owner_id in (None, owner_id) and listener.service_id in (None, id_)
                for id_, owner_id in changed
            ):
                listener.changed.set()

    async def _signatures(self) -> dict[str, tuple[str, str]]:
        """Service id → its owner, and all of it that a page shows, as one text."""
        rows = select(
            store.ServiceRow.id,
            store.ServiceRow.owner_id,
            store.ServiceRow.name,
            store.ServiceRow.state,
            store.ServiceRow.message,
            store.ServiceRow.want,
            store.ServiceRow.revision,
        )
        replicas = select(
            store.ReplicaRow.service_id, store.ReplicaRow.id, store.ReplicaRow.state
        ).order_by(store.ReplicaRow.id)
        async with self._db.begin() as session:
            services = (await session.execute(rows)).all()
            seen: dict[str, list[str]] = {}
            for service_id, replica_id, state in await session.execute(replicas):
                seen.setdefault(service_id, []).append(f"{replica_id} {state}")
        return {
            id_: (
                owner_id,
                repr((*rest, self._reconciler.progress.get(id_), seen.get(id_))),
            )
            for id_, owner_id, *rest in services
        }
