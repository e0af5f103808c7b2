"""Rows, weights and what the executor sees, as the plan and the gateways are told of them.

Pure: from one form to another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from modelry.engines.base import Engine
from modelry.engines.inventory import Inventory
from modelry.executors.base import Observed
from modelry.services import situation, store
from modelry.services.hosting import HostReplica
from modelry.services.placement import place_gpus
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec
from modelry.services.states import LIVE, ReplicaState, ServiceState

_ACTIVE_AT_LAG = timedelta(seconds=60)


def every_desired(
    services: Mapping[str, store.ServiceRow],
    specs: Mapping[str, Spec],
    revisions: store.Revisions,
    replicas: Sequence[store.ReplicaRow],
    told: Callable[[str], datetime | None],
    now: datetime,
) -> list[situation.Desired]:
    """`told`: when gateways say that a service was last in use."""
    ready = {row.service_id for row in replicas if row.state == ReplicaState.READY}
    used = used_at(specs, told)
    return [
        desired(
            row,
            specs[id_],
            revisions,
            active_at(row, used.get(id_), ready=id_ in ready, now=now),
        )
        for id_, row in services.items()
    ]


def desired(
    row: store.ServiceRow, spec: Spec, revisions: store.Revisions, active_at: datetime | None
) -> situation.Desired:
    """`revisions`: those that have replicas now."""
    wanted = situation.Desired(
        service_id=row.id,
        want=situation.Want(row.want),
        revision=row.revision,
        replicas=0,
        since=row.since,
        active_at=active_at,
    )
    if isinstance(spec, EndpointsSpec):
        return replace(wanted, endpoints=len(spec.endpoints))
    if spec.host is not None:
        return replace(wanted, host=spec.host)
    return replace(
        wanted,
        replicas=spec.replicas.min,
        idle_after_s=spec.idle_after_s,
        # Of what has been changed, the first call is not to wait for new weights.
        ahead=spec.adapter is not None or row.revision > 1,
        alike=frozenset(
            number
            for (service_id, number), other in revisions.items()
            if service_id == row.id and are_alike(spec, other)
        ),
    )


def are_alike(spec: Spec, other: Spec) -> bool:
    """Whether replicas of the one serve as those of the other do."""
    if isinstance(spec, EndpointsSpec) or isinstance(other, EndpointsSpec):
        return False
    return spec.replicas_alike(other)


def used_at(
    specs: Mapping[str, Spec], told: Callable[[str], datetime | None]
) -> dict[str, datetime]:
    """When each service was last in use, by its own calls or those of adapters on its replicas."""
    found: dict[str, datetime] = {}
    for id_, spec in specs.items():
        at = told(id_)
        if at is None:
            continue
        host = spec.host if isinstance(spec, ServiceSpec) else None
        for used in (id_, host):
            if used is not None:
                found[used] = max(at, found.get(used, at))
    return found


def active_at(
    row: store.ServiceRow, used_at: datetime | None, *, ready: bool, now: datetime
) -> datetime | None:
    """`Desired.active_at`: what is stored, brought up to date with the last use."""
    at = row.active_at
    if at is not None and used_at is not None and used_at > at:
        # Whoever calls a service that is idle asks for it.
        at = None if row.state == ServiceState.IDLE else used_at
    return now if at is None and ready else at


def note_activity(
    row: store.ServiceRow, seen: situation.Desired, *, idle: bool, now: datetime
) -> None:
    """Store when it was last in use, if that is news: not every report is worth a write."""
    if idle and row.state != ServiceState.IDLE:
        # A new `since`: the next call starts it afresh, whatever crashed before.
        row.since, row.active_at = now, seen.active_at
    elif row.active_at is None or seen.active_at is None:
        row.active_at = seen.active_at
    elif seen.idle_after_s is not None:
        lag = min(_ACTIVE_AT_LAG, timedelta(seconds=seen.idle_after_s / 2))
        if seen.active_at - row.active_at >= lag:
            row.active_at = seen.active_at


def seen(row: store.ReplicaRow) -> situation.Seen:
    crash = None
    if row.state == ReplicaState.FAILED:
        at: datetime = row.ended_at or row.created_at
        crash = situation.Crash(at, row.failure or "it failed", row.lasting)
    return situation.Seen(
        id=row.id,
        service_id=row.service_id,
        revision=row.revision,
        state=ReplicaState(row.state),
        created_at=row.created_at,
        ready_at=row.ready_at,
        crash=crash,
    )


def held_back(
    specs: Mapping[str, Spec],
    revisions: store.Revisions,
    replicas: Sequence[store.ReplicaRow],
    observed: Mapping[str, Observed],
    inventory: Inventory,
    weights: Mapping[str, situation.WeightsSeen],
) -> dict[str, situation.WeightsSeen]:
    """The services that have all they need, and wait for GPUs which others have now."""
    taken = [gpu for seen in observed.values() for gpu in seen.gpus]
    found: dict[str, situation.WeightsSeen] = {}
    for id_, spec in specs.items():
        if not isinstance(spec, ServiceSpec) or not spec.gpus or spec.host is not None:
            continue
        live = [
            row
            for row in replicas
            if row.service_id == id_
            and row.state in LIVE
            and are_alike(spec, revisions[id_, row.revision])
        ]
        ready = isinstance(weights[id_], situation.WeightsReady)
        if len(live) >= spec.replicas.min or not ready:
            continue
        if place_gpus(inventory, taken, spec.gpus) is None:
            gpus = "a GPU" if spec.gpus == 1 else f"{spec.gpus} GPUs"
            found[id_] = situation.NodeFull(f"waits for {gpus} that nobody else uses")
    return found


def hosted_paths(
    services: Mapping[str, store.ServiceRow], specs: Mapping[str, Spec]
) -> dict[str, str]:
    """The access paths of the services whose adapters run on others' replicas, by their ids."""
    return {
        id_: services[id_].access_path
        for id_, spec in specs.items()
        if isinstance(spec, ServiceSpec) and spec.host is not None
    }


def host_replicas(
    revisions: store.Revisions,
    replicas: Sequence[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engines: Mapping[str, Engine],
) -> list[HostReplica]:
    """Those that are ready and take adapters."""
    found = []
    for row in replicas:
        spec = revisions.get((row.service_id, row.revision))
        engine = engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
        ready = row.state == ReplicaState.READY and row.id in observed
        if engine is not None and engine.takes_adapters and ready:
            found.append(HostReplica(row.id, observed[row.id].endpoint, engine))
    return found
