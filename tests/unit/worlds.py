"""Worlds for the planner: how to write one down, and one that comes alive.

`Simulation` does what executor, fetches and store do for the reconciler, in
memory: it applies actions, lets time pass, and lets replicas become ready or
crash as it was told.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modelry.services.plan import next_look, plan, status
from modelry.services.situation import (
    Action,
    AdapterSeen,
    Crash,
    Desired,
    DrainReplica,
    FetchWeights,
    ForgetReplica,
    LoadAdapter,
    RemoveService,
    Seen,
    StartReplica,
    UnloadAdapter,
    Want,
    WeightsFetching,
    WeightsReady,
    WeightsSeen,
    World,
)
from modelry.services.states import LIVE, ReplicaState, ServiceState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Seconds from `NOW`; negative ones have passed."""
    return NOW + timedelta(seconds=seconds)


def service(
    service_id: str = "svc",
    *,
    want: Want = Want.RUN,
    revision: int = 1,
    replicas: int = 1,
    since: float = -1000,
    idle_after: float | None = None,
    active: float | None = None,
    host: str | None = None,
    ahead: bool = False,
    alike: Iterable[int] = (),
) -> Desired:
    return Desired(
        service_id,
        want,
        revision,
        replicas,
        at(since),
        idle_after_s=idle_after,
        active_at=None if active is None else at(active),
        host=host,
        ahead=ahead,
        alike=frozenset(alike),
    )


def seen(
    id_: str,
    state: ReplicaState,
    *,
    service_id: str = "svc",
    revision: int = 1,
    created: float = -100,
    was_ready: float | None = None,
    crashed: float | None = None,
    lasting: bool = False,
) -> Seen:
    if state is ReplicaState.READY and was_ready is None:
        was_ready = created
    return Seen(
        id=id_,
        service_id=service_id,
        revision=revision,
        state=state,
        created_at=at(created),
        ready_at=None if was_ready is None else at(was_ready),
        crash=None if crashed is None else Crash(at(crashed), f"{id_} crashed", lasting),
    )


def failed(id_: str, created: float, crashed: float, **more: float | bool) -> Seen:
    """A replica that crashed; `was_ready` and `lasting` as for `seen`."""
    base = seen(id_, ReplicaState.FAILED, created=created, crashed=crashed)
    if "was_ready" in more:
        base = replace(base, ready_at=at(more["was_ready"]))
    if more.get("lasting"):
        base = replace(base, crash=Crash(at(crashed), f"{id_} crashed", True))
    return base


def world(
    services: Iterable[Desired],
    replicas: Iterable[Seen] = (),
    weights: WeightsSeen | dict[str, WeightsSeen] | None = None,
    now: float = 0,
    known: float | None = -1000,
    adapters: Mapping[str, AdapterSeen] | None = None,
) -> World:
    """`known`: from when on gateways tell what is in use; None for never."""
    wanted = list(services)
    if not isinstance(weights, dict):
        each = weights or WeightsReady()
        weights = {desired.service_id: each for desired in wanted}
    known_from = None if known is None else at(known)
    return World(at(now), wanted, list(replicas), weights, known_from, adapters or {})


def drained(actions: Iterable[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, DrainReplica)]


def forgotten(actions: Iterable[Action]) -> list[str]:
    return [action.replica_id for action in actions if isinstance(action, ForgetReplica)]


def starts(actions: Iterable[Action]) -> list[StartReplica]:
    return [action for action in actions if isinstance(action, StartReplica)]


class Simulation:
    """`fates` of the replicas in the order they start, each `ready`, `never` (it crashes
    while it loads) or `later` (it crashes some time after it became ready); those after
    the last one become ready.
    """

    def __init__(self, start: World, fates: Iterable[str] = ()) -> None:
        self.now = start.now
        self.services = list(start.services)
        self.replicas = {found.id: found for found in start.replicas}
        self.weights = dict(start.weights)
        self.known_from = start.known_from
        self.adapters = {id_: set(found.on) for id_, found in start.adapters.items()}
        self.refusals = {
            id_: found.failure for id_, found in start.adapters.items() if found.failure
        }
        self.planned: list[tuple[World, list[Action]]] = []
        self._fates: Iterator[str] = iter(fates)
        self._fate: dict[str, str] = {}
        self._made = 0
        self._idle: set[str] = set()

    @property
    def world(self) -> World:
        return World(
            self.now,
            list(self.services),
            list(self.replicas.values()),
            self.weights,
            self.known_from,
            {
                each.service_id: AdapterSeen(
                    frozenset(self.on(each.service_id)),
                    failure=self.refusals.get(each.service_id),
                )
                for each in self.services
                if each.host is not None
            },
        )

    def on(self, service_id: str) -> set[str]:
        """The replicas that have its adapter: those that ended have none."""
        return {
            id_
            for id_ in self.adapters.get(service_id, ())
            if id_ in self.replicas and self.replicas[id_].state is ReplicaState.READY
        }

    def ready(self, desired: Desired) -> int:
        """How many replicas are ready, and as they are wanted."""
        return sum(
            found.state is ReplicaState.READY and desired.is_current(found.revision)
            for found in self.replicas.values()
            if found.service_id == desired.service_id
        )

    def live(self, service_id: str) -> list[Seen]:
        return [
            found
            for found in self.replicas.values()
            if found.service_id == service_id and found.state in LIVE
        ]

    def wake(self, service_id: str) -> None:
        """A request waits for it."""
        self._change(service_id, active_at=None)

    def run(self, most_rounds: int = 300) -> "Simulation":
        """Until nothing is planned and nothing happens by itself any more."""
        for _ in range(most_rounds):
            self._note_activity()
            actions = plan(self.world)
            self.planned.append((self.world, actions))
            for action in actions:
                self._apply(action)
            lived = self._live_on()
            if actions or lived:
                self.now += timedelta(seconds=0.1)
                continue
            due = next_look(self.world)
            if due is None:
                return self
            assert due > self.now
            self.now = due
        raise AssertionError(f"not at rest after {most_rounds} rounds: {self.planned[-1]}")

    def _note_activity(self) -> None:
        """As `world.active_at` and `world.note_activity` do, of services that nobody calls."""
        for desired in self.services:
            ready = self.ready(desired)
            if desired.active_at is None and ready:
                self._change(desired.service_id, active_at=self.now)
            idle = status(self.world, desired).state is ServiceState.IDLE
            if idle and desired.service_id not in self._idle:
                self._change(desired.service_id, since=self.now)
            (self._idle.add if idle else self._idle.discard)(desired.service_id)

    def _change(self, service_id: str, **changes: datetime | None) -> None:
        self.services = [
            replace(each, **changes) if each.service_id == service_id else each  # type: ignore[arg-type]
            for each in self.services
        ]

    def _apply(self, action: Action) -> None:
        match action:
            case StartReplica(service_id, revision):
                self._made += 1
                new = f"new-{self._made:03}"
                self._fate[new] = next(self._fates, "ready")
                self.replicas[new] = Seen(
                    new, service_id, revision, ReplicaState.STARTING, self.now
                )
            case DrainReplica(replica_id):
                found = self.replicas[replica_id]
                self.replicas[replica_id] = replace(found, state=ReplicaState.DRAINING)
            case ForgetReplica(replica_id):
                assert self.replicas.pop(replica_id).state not in LIVE
            case FetchWeights(service_id):
                self.weights[service_id] = WeightsFetching(0, 100)
            case LoadAdapter(service_id, replica_id):
                assert self.replicas[replica_id].state is ReplicaState.READY
                self.adapters.setdefault(service_id, set()).add(replica_id)
            case UnloadAdapter(service_id, replica_id):
                self.adapters[service_id].remove(replica_id)
            case RemoveService(service_id):
                self.services = [each for each in self.services if each.service_id != service_id]

    def _live_on(self) -> bool:
        """What happens by itself between two looks; whether anything did."""
        before = dict(self.replicas), dict(self.weights)
        for id_, found in self.replicas.items():
            fate = self._fate.get(id_, "ready")
            if found.state is ReplicaState.DRAINING:
                self.replicas[id_] = replace(found, state=ReplicaState.STOPPED)
            elif found.state is ReplicaState.STARTING and fate != "never":
                self.replicas[id_] = replace(
                    found, state=ReplicaState.READY, ready_at=found.ready_at or self.now
                )
            elif found.state is ReplicaState.STARTING or (
                found.state is ReplicaState.READY and fate == "later"
            ):
                crash = Crash(self.now, "it crashed", lasting=False)
                self.replicas[id_] = replace(found, state=ReplicaState.FAILED, crash=crash)
        for id_, state in self.weights.items():
            if isinstance(state, WeightsFetching):
                self.weights[id_] = WeightsReady()
        return before != (self.replicas, self.weights)
