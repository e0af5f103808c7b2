"""When services are probed: a moment after they run, once for what they are, or as asked.

One at a time, and only while nobody calls the service. A probe's key exists in the feed alone,
for as long as the probe takes.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelry import __version__
from modelry.access.credentials import digest, new_api_key, new_id
from modelry.db import Database
from modelry.engines.base import Engine, Versioned
from modelry.routing.feed import Feed
from modelry.routing.messages import Change, KeyGrant, Route, RouteDrop, RoutePut
from modelry.services.activity import Activity
from modelry.services.conformance import store
from modelry.services.conformance.caller import Caller, Interrupted, Subject
from modelry.services.conformance.checks import CHECKS, checks_for
from modelry.services.conformance.examining import LIMIT_S, examine
from modelry.services.conformance.report import Found, State, summary
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec
from modelry.services.store import ServiceRow, service_by_id, spec_of

log = logging.getLogger(__name__)

_QUIET_S = 2.0
_LOOK_S = 0.5
_AGAIN_S = 30.0
_TRIES = 3
_KEY_LIFE_S = 2 * LIMIT_S
_PLACES = {check.name: place for place, check in enumerate(CHECKS)}


Call = Callable[[str, Callable[[], bool]], AbstractAsyncContextManager[Caller]]
"""A caller with a key, which is told whether the service is still there."""


@dataclass(frozen=True)
class Made:
    """What a report is of: another one is due where any of it changes."""

    revision: int
    engine: str
    modelry: str = __version__


class Conformance:
    """`on_deploy`: services are probed unasked. `published` returns once every gateway has heard
    what the feed holds; `call` calls one of them.
    """

    def __init__(
        self,
        db: Database,
        feed: Feed,
        activity: Activity,
        engines: Mapping[str, Engine],
        published: Callable[[], Awaitable[None]],
        call: Call,
        *,
        on_deploy: bool,
    ) -> None:
        self._db = db
        self._feed = feed
        self._activity = activity
        self._engines = engines
        self._published = published
        self._call = call
        self.on_deploy = on_deploy
        self._nudged = asyncio.Event()
        self._running: dict[str, float] = {}
        """Service id → since when its route is as it is, on the loop's clock: those that run."""
        self._settled: set[str] = set()
        """Those of which no report is due."""
        self._asked: set[str] = set()
        self._paused: dict[str, float] = {}
        """Service id → not before, after a probe that broke off."""
        self._broken_off: dict[tuple[str, Made], int] = {}
        self._under_way: tuple[str, list[Found]] = ("", [])

    async def run(self) -> None:
        """Until it is cancelled. An error is logged, and tried again later."""
        unsubscribe = self._feed.subscribe(self._hear)
        for route in self._feed.snapshot().routes:
            self._note(route)
        try:
            while not await self._took_up():
                await asyncio.sleep(_AGAIN_S)
            while True:
                await self._look()
        finally:
            unsubscribe()

    async def _took_up(self) -> bool:
        """Whether it is known what an earlier process left to do."""
        try:
            async with self._db.begin() as session:
                await store.forget_broken_off(session)
                self._asked |= await store.asked_for(session)
        except Exception:
            log.exception("reports of an earlier process cannot be read; trying again")
            return False
        return True

    async def _look(self) -> None:
        """Look at the service whose turn it is, or wait a moment where that is none."""
        service_id = self._next()
        if service_id is None:
            waiting = self._running.keys() - self._settled
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), _LOOK_S if waiting else None)
            self._nudged.clear()
            return
        try:
            await self._consider(service_id)
        except Exception:
            log.exception("%s could not be probed; trying again later", service_id)
            self._pause(service_id)

    async def request(self, service: ServiceRow) -> None:
        """Have a new report made as soon as the service runs and has a free slot."""
        async with self._db.begin() as session:
            row = await store.ensure_report(session, service.id)
            row.asked = True
            if row.state != State.RUNNING:
                row.state = State.PENDING
        self._asked.add(service.id)
        self._paused.pop(service.id, None)
        self._settled.discard(service.id)
        self._nudged.set()

    def found_so_far(self, service_id: str) -> list[Found]:
        """The results of the probe that is under way, where it is this service's."""
        probed, found = self._under_way
        return list(found) if probed == service_id else []

    # -- when ----------------------------------------------------------------

    def _hear(self, change: Change) -> None:
        if isinstance(change, RoutePut):
            self._note(change.route)
        elif isinstance(change, RouteDrop):
            for known in (self._running, self._paused):
                known.pop(change.service_id, None)
            self._settled.discard(change.service_id)
            self._asked.discard(change.service_id)

    def _note(self, route: Route) -> None:
        self._settled.discard(route.service_id)
        if route.state == "running" and (route.replicas or route.endpoints):
            self._running[route.service_id] = asyncio.get_running_loop().time()
            self._nudged.set()
        else:
            self._running.pop(route.service_id, None)

    def _next(self) -> str | None:
        """The service to look at now: of those that may be, the one that has waited most."""
        now = asyncio.get_running_loop().time()
        ready = [
            (since, id_)
            for id_, since in self._running.items()
            if id_ not in self._settled
            and now - since >= _QUIET_S
            and now >= self._paused.get(id_, 0.0)
            and (id_ in self._asked or self._is_quiet(id_))
        ]
        return min(ready)[1] if ready else None

    def _is_quiet(self, service_id: str) -> bool:
        if self._activity.known_from() is None:
            return False
        used_at = self._activity.used_at(service_id)
        return used_at is None or datetime.now(UTC) - used_at >= timedelta(seconds=_QUIET_S)

    def _pause(self, service_id: str) -> None:
        self._paused[service_id] = asyncio.get_running_loop().time() + _AGAIN_S

    async def _consider(self, service_id: str) -> None:
        """Probe it, if a report is due."""
        async with self._db.begin() as session:
            service = await service_by_id(session, service_id)
            if service is None:
                self._settled.add(service_id)
                return
            spec = await spec_of(session, service)
            row = await store.report_of(session, service_id)
        made = Made(service.revision, self._engine(spec))
        asked = row is not None and row.asked
        if not asked and not self._is_due(service_id, spec, made, row):
            self._settled.add(service_id)
            self._asked.discard(service_id)
            return
        await self._probe(service, spec, made)

    def _is_due(self, service_id: str, spec: Spec, made: Made, row: store.ReportRow | None) -> bool:
        # Elsewhere, calls cost money.
        if not self.on_deploy or isinstance(spec, EndpointsSpec):
            return False
        if self._broken_off.get((service_id, made), 0) >= _TRIES:
            return False
        return (
            row is None
            or row.state != State.DONE
            or (row.revision, row.engine, row.modelry) != (made.revision, made.engine, made.modelry)
        )

    def _engine(self, spec: Spec) -> str:
        """The engine with its version, as far as that is known."""
        if isinstance(spec, EndpointsSpec):
            return "elsewhere"
        engine: object = self._engines.get(spec.engine)
        if spec.runtime is None and isinstance(engine, Versioned):
            return f"{spec.engine} {engine.version}"
        return spec.runtime or spec.engine

    # -- probing -------------------------------------------------------------

    async def _probe(self, service: ServiceRow, spec: Spec, made: Made) -> None:
        started_at = datetime.now(UTC)
        async with self._db.begin() as session:
            row = await store.ensure_report(session, service.id)
            row.state, row.started_at = State.RUNNING, started_at
        found: list[Found] = []
        self._under_way = (service.id, found)
        try:
            why = await self._ask_all(service, spec, found.append)
        finally:
            self._under_way = ("", [])
        found.sort(key=lambda each: _PLACES[each.name])
        told = summary(found)
        if why is not None:
            again = self._break_off(service.id, made)
            told = f"broke off: {why}{again}" + (f" ({told})" if found else "")
        async with self._db.begin() as session:
            if await service_by_id(session, service.id) is None:
                return
            row = await store.ensure_report(session, service.id)
            row.state = State.DONE if why is None else State.FAILED
            row.asked = row.asked and why is not None
            row.revision, row.engine, row.modelry = made.revision, made.engine, made.modelry
            row.finished_at = datetime.now(UTC)
            row.summary, row.checks = told, [each.stored() for each in found]
        if why is None:
            self._asked.discard(service.id)
            self._settled.add(service.id)
        log.info("%s was probed: %s", service.access_path, told)

    def _break_off(self, service_id: str, made: Made) -> str:
        """Note that a probe did not come to its end; returns what comes of it, in words."""
        self._pause(service_id)
        if service_id in self._asked:
            return "; it is made again once the service runs"
        times = self._broken_off[service_id, made] = self._broken_off.get((service_id, made), 0) + 1
        if times >= _TRIES:
            return f", {times} times; it is made again on request"
        return "; it is made again once the service is quiet"

    async def _ask_all(
        self, service: ServiceRow, spec: Spec, tell: Callable[[Found], None]
    ) -> str | None:
        """Why it broke off, if it did."""
        key = new_api_key()
        grant = KeyGrant(
            id=new_id("probe"),
            hash=digest(key),
            owner_id=service.owner_id,
            services=(service.access_path,),
            expires_at=time.time() + _KEY_LIFE_S,
            probe=True,
        )
        self._feed.put_key(grant)
        try:
            await self._published()
            async with self._call(key, lambda: service.id in self._running) as caller:
                await examine(caller, self._subject(service, spec), checks_for(service.tasks), tell)
        except Interrupted as reason:
            return str(reason)
        except Exception:
            log.exception("%s could not be probed to the end", service.access_path)
            return "something unexpected went wrong, see the control plane's log"
        finally:
            self._feed.drop_key(grant.id)
        return None

    def _subject(self, service: ServiceRow, spec: Spec) -> Subject:
        if not isinstance(spec, ServiceSpec):
            return Subject(service.access_path, tuple(service.tasks))
        replicas = sum(
            len(route.replicas)
            for route in self._feed.snapshot().routes
            if route.service_id == service.id
        )
        return Subject(
            service.access_path, tuple(service.tasks), spec.context_tokens, spec.slots * replicas
        )
