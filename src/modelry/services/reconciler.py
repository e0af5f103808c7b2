"""The reconciler: load what is wanted, look at what is, plan, apply; again and again.

It never relies on an event being delivered: a nudge only makes the next look
come sooner. Everything it must not forget is in the database before it acts
on it, so that it may die between any two lines.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from modelry.access.credentials import new_id
from modelry.catalog.catalog import Catalog, Model
from modelry.catalog.choice import Machine
from modelry.db import Database, Session
from modelry.engines.base import ReplicaPlan
from modelry.engines.options import Options
from modelry.errors import ModelryError
from modelry.executors.base import Executor, ProcessState
from modelry.routing.feed import Feed
from modelry.routing.messages import Route
from modelry.services import plan as planning
from modelry.services import situation, store, world
from modelry.services.activity import Activity
from modelry.services.hosting import Hosting
from modelry.services.needs import models_of, needs_of
from modelry.services.placement import place_gpus
from modelry.services.routes import Routes, Sight
from modelry.services.sightings import take_note
from modelry.services.spec import ServiceSpec, Spec
from modelry.services.states import LIVE, ReplicaState, ServiceState
from modelry.services.supplies import Needs, Supplies
from modelry.services.traits import TraitsReader

log = logging.getLogger(__name__)

_TICK_S = 2.0
_FETCHING_TICK_S = 0.25
_STOPPING_LOOK_S = 0.02
_PRUNE_S = 600.0
_EVENTS_KEPT = 500
_REVISIONS_KEPT = 100


@dataclass(frozen=True)
class _Pass:
    """What one look gathered. Rows are detached; only the store writes."""

    world: situation.World
    services: dict[str, store.ServiceRow]
    specs: dict[str, Spec]
    revisions: store.Revisions
    needs: dict[str, Needs]
    routes: dict[str, Route]


class Reconciler:
    """`published` returns once every gateway has heard what the feed holds."""

    def __init__(
        self,
        db: Database,
        catalog: Catalog,
        supplies: Supplies,
        executor: Executor,
        machine: Machine,
        hosting: Hosting,
        activity: Activity,
        feed: Feed,
        published: Callable[[], Awaitable[None]],
        drain_timeout_s: float,
    ) -> None:
        self._db = db
        self._catalog = catalog
        self._supplies = supplies
        self._executor = executor
        self._engines = machine.engines
        self._inventory = machine.inventory
        self._routes = Routes(machine.engines, hosting, TraitsReader(machine.engines, supplies))
        self._hosting = hosting
        self._activity = activity
        self._feed = feed
        self._published = published
        self._drain_timeout_s = drain_timeout_s
        self._nudged = asyncio.Event()
        self._ending = False
        self._prune_at = 0.0
        self._looking = asyncio.Lock()
        self.progress: dict[str, situation.Progress] = {}
        """Of the services whose weights are being fetched, by service id."""
        self.stuck: set[str] = set()
        """The services whose change does not get on by itself."""

    def nudge(self) -> None:
        """Something changed: look now instead of at the next tick."""
        self._nudged.set()

    async def run(self) -> None:
        """Until `end`. An error in one pass is logged, and the next one tries again."""
        while not self._ending:
            pause_s = _TICK_S
            try:
                pause_s = await self.reconcile()
            except Exception:
                log.exception("a pass failed; trying again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), pause_s)
            self._nudged.clear()

    async def end(self) -> None:
        """Let a pass that is under way finish, and begin no other."""
        self._ending = True
        self.nudge()
        async with self._looking:
            return

    async def reconcile(self) -> float:
        """One pass. Returns the seconds after which the next one is due at the latest.

        A caller that is cancelled does not cancel the pass: a process that is
        just being started must not be lost sight of.
        """
        return await asyncio.shield(asyncio.ensure_future(self._pass()))

    async def _pass(self) -> float:
        async with self._looking:
            if self._ending:
                return _TICK_S
            look = await self._look()
            self._publish(look)
            actions = planning.plan(look.world)
            done = 0
            for action in actions:
                try:
                    await self._apply(action, look)
                    done += 1
                except Exception:
                    # One service's trouble must not hold up the others.
                    log.exception("%s failed; it will be planned again", action)
            if done:
                self.nudge()
            await self._prune()
            pause_s = _FETCHING_TICK_S if self._supplies.busy() else _TICK_S
            due = planning.next_look(look.world)
            if due is not None:
                pause_s = min(pause_s, max(0.05, (due - store.now()).total_seconds()))
            return pause_s

    async def _prune(self) -> None:
        """Drop old events and revisions now and then: who flaps makes several a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_S
            async with self._db.begin() as session:
                await store.prune_events(session, _EVENTS_KEPT)
                await store.prune_revisions(session, _REVISIONS_KEPT)

    async def stop_all(self) -> None:
        """Stop every replica, for a shutdown: the services stay wanted."""
        running = {
            replica_id
            for replica_id, seen in self._executor.observe().items()
            if seen.state is not ProcessState.EXITED
        }
        for replica_id in running:
            self._executor.stop(replica_id, self._drain_timeout_s)
        while any(
            seen.state is not ProcessState.EXITED for seen in self._executor.observe().values()
        ):
            await asyncio.sleep(_STOPPING_LOOK_S)
        async with self._db.begin() as session:
            for row in await store.all_replicas(session):
                if row.id in running and row.state in LIVE:
                    row.ended_at = store.now()
                    store.set_replica_state(
                        session, row, ReplicaState.STOPPED, "Modelry was shut down"
                    )
        for replica_id in running:
            self._executor.forget(replica_id)

    # -- look ----------------------------------------------------------------

    async def _look(self) -> _Pass:
        observed = self._executor.observe()
        async with self._db.begin() as session:
            services, specs = await store.services_with_specs(session)
            replicas = await store.all_replicas(session)
            for row in replicas:
                take_note(session, row, observed.get(row.id), self._executor)
            revisions = await store.live_specs(session)
            models = await self._models(session, [*specs.values(), *revisions.values()])
            needs, weights = self._weights(models, specs)
            weights |= world.held_back(
                specs, revisions, replicas, observed, self._inventory, weights
            )
            self._hosting.look(
                world.host_replicas(revisions, replicas, observed, self._engines),
                world.hosted_paths(services, specs),
            )
            now = store.now()
            seen_world = situation.World(
                now=now,
                services=world.every_desired(
                    services, specs, revisions, replicas, self._activity.used_at, now
                ),
                replicas=[world.seen(row) for row in replicas],
                weights=weights,
                known_from=self._activity.known_from(),
                adapters={
                    id_: self._hosting.seen(id_)
                    for id_, spec in specs.items()
                    if isinstance(spec, ServiceSpec) and spec.host is not None
                },
            )
            self.progress, self.stuck = {}, set()
            for desired in seen_world.services:
                service = services[desired.service_id]
                found = planning.status(seen_world, desired)
                idle = found.state is ServiceState.IDLE
                world.note_activity(service, desired, idle=idle, now=now)
                store.set_status(session, service, found.state, found.message)
                if found.progress is not None:
                    self.progress[desired.service_id] = found.progress
                if found.stuck:
                    self.stuck.add(desired.service_id)
            known = {row.id for row in replicas}
            draining = [row.id for row in replicas if row.state == ReplicaState.DRAINING]
        for replica_id in draining:
            # Said again: whoever wrote it may have died before saying it.
            self._executor.stop(replica_id, self._drain_timeout_s)
        for replica_id in observed.keys() - known:
            # Nobody wants it: its service was deleted, or the database is another.
            log.warning("stopping %s, which no service has", replica_id)
            self._executor.stop(replica_id, self._drain_timeout_s)
            self._executor.forget(replica_id)
        running = [needs[id_] for id_ in needs if services[id_].want == situation.Want.RUN]
        self._supplies.keep_only(running)
        self._activity.keep_only(services.keys())
        # No disk is read within a transaction. A replica's route has to have what its weights say.
        routes = await self._routes.of(
            Sight(services, specs, revisions, replicas, observed, models, needs)
        )
        return _Pass(seen_world, services, specs, revisions, needs, routes)

    async def _models(self, session: Session, specs: list[Spec]) -> dict[str, Model]:
        ours = [spec for spec in specs if isinstance(spec, ServiceSpec)]
        ids = {id_ for spec in ours for id_ in models_of(spec)}
        return await self._catalog.by_ids(session, ids)

    def _weights(
        self, models: dict[str, Model], specs: dict[str, Spec]
    ) -> tuple[dict[str, Needs], dict[str, situation.WeightsSeen]]:
        needs: dict[str, Needs] = {}
        weights: dict[str, situation.WeightsSeen] = {}
        for id_, spec in specs.items():
            if not isinstance(spec, ServiceSpec):
                continue
            found = needs_of(models, self._engines, spec)
            if isinstance(found, Needs):
                needs[id_] = found
                weights[id_] = self._supplies.state(found)
            else:
                weights[id_] = found
        return needs, weights

    # -- publish -------------------------------------------------------------

    def _publish(self, look: _Pass) -> None:
        for route in look.routes.values():
            self._feed.put_route(route)
        for route in self._feed.snapshot().routes:
            if route.service_id not in look.routes:
                self._feed.drop_route(route.service_id)

    # -- apply ---------------------------------------------------------------

    async def _apply(self, action: situation.Action, look: _Pass) -> None:
        match action:
            case situation.FetchWeights(service_id):
                self._supplies.ensure(look.needs[service_id])
            case situation.StartReplica(service_id, revision):
                await self._start_replica(service_id, revision, look)
            case situation.DrainReplica(replica_id, reason):
                await self._drain_replica(replica_id, reason)
            case situation.ForgetReplica(replica_id):
                self._executor.forget(replica_id)
                async with self._db.begin() as session:
                    forgotten = await store.replica_by_id(session, replica_id)
                    if forgotten is not None:
                        await session.delete(forgotten)
            case situation.LoadAdapter(service_id, replica_id):
                await self._change_adapter(service_id, replica_id, look, load=True)
            case situation.UnloadAdapter(service_id, replica_id):
                await self._change_adapter(service_id, replica_id, look, load=False)
            case situation.RemoveService(service_id):
                async with self._db.begin() as session:
                    for row in await store.replicas_of(session, service_id):
                        self._executor.forget(row.id)
                    await store.remove_service(session, service_id)
                self._feed.drop_route(service_id)

    async def _start_replica(self, service_id: str, revision: int, look: _Pass) -> None:
        service, spec = look.services[service_id], look.specs[service_id]
        assert isinstance(spec, ServiceSpec)
        needs = look.needs[service_id]
        supplied = self._supplies.ready(needs)
        if supplied is None:
            return
        taken = [gpu for seen in self._executor.observe().values() for gpu in seen.gpus]
        gpus = place_gpus(self._inventory, taken, spec.gpus, supplied.weights.size_bytes)
        if gpus is None:
            # Another service was a moment quicker; the next look says so.
            return
        row = store.ReplicaRow(
            id=new_id("rep"),
            service_id=service_id,
            revision=revision,
            state=ReplicaState.STARTING,
            created_at=store.now(),
        )
        async with self._db.begin() as session:
            session.add(row)
            store.set_replica_state(session, row, ReplicaState.STARTING, "its process starts")
        replica = ReplicaPlan(
            replica_id=row.id,
            access_path=service.access_path,
            weights=supplied.weights.path,
            tasks=tuple(service.tasks),
            slots=spec.slots,
            context_tokens=spec.context_tokens,
            defaults=spec.defaults,
            adapter=None if supplied.adapter is None else supplied.adapter.path,
            projector=None if supplied.projector is None else supplied.projector.path,
            runtime=supplied.runtime,
            gpus=gpus,
            options=Options(
                # The card's, then the owner's, which count where both say something.
                (*needs.variant.engine_args.get(spec.engine, ()), *spec.engine_args),
                spec.engine_env,
            ),
            allow_remote_code=needs.variant.allow_remote_code,
        )
        try:
            await self._executor.start(replica, self._engines[spec.engine])
        except ModelryError as error:
            await self._could_not_start(row, error.message)

    async def _could_not_start(self, row: store.ReplicaRow, why: str) -> None:
        async with self._db.begin() as session:
            row = await session.merge(row)
            row.ended_at, row.failure = store.now(), why
            store.set_replica_state(session, row, ReplicaState.FAILED, why)

    async def _change_adapter(
        self, service_id: str, replica_id: str, look: _Pass, *, load: bool
    ) -> None:
        async with self._db.begin() as session:
            row = await store.replica_by_id(session, replica_id)
        hosts = world.host_replicas(
            look.revisions, [] if row is None else [row], self._executor.observe(), self._engines
        )
        if not hosts:
            return
        (replica,) = hosts
        if not load:
            # No gateway sends there any more, before it is gone.
            await self._published()
            self._hosting.unload(service_id, replica)
            return
        supplied = self._supplies.ready(look.needs[service_id])
        if supplied is not None and supplied.adapter is not None:
            self._hosting.load(service_id, replica, supplied.adapter.path)

    async def _drain_replica(self, replica_id: str, reason: str) -> None:
        """Off the routes first; once no gateway sends there any more, it may end."""
        async with self._db.begin() as session:
            row = await store.replica_by_id(session, replica_id)
            if row is not None:
                store.set_replica_state(session, row, ReplicaState.DRAINING, reason)
        for route in self._feed.snapshot().routes:
            kept = tuple(address for address in route.replicas if address.id != replica_id)
            if kept != route.replicas:
                self._feed.put_route(msgspec.structs.replace(route, replicas=kept))
        await self._published()
        self._executor.stop(replica_id, self._drain_timeout_s)
