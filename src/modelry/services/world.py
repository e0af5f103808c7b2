"""Rows, weights and what the executor sees, as the plan and the gateways are told of them.

Pure: from one form to another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from modelry.engines.base import Constraining, Engine, Projecting, Speaking
from modelry.engines.inventory import Inventory
from modelry.executors.base import Observed
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route
from modelry.services import situation, store
from modelry.services.hosting import Hosting, HostReplica
from modelry.services.placement import place_gpus
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec
from modelry.services.states import LIVE, ReplicaState, ServiceState
from modelry.services.traits import NO_TRAITS, Traits

_ACTIVE_AT_LAG = timedelta(seconds=60)


def desired(row: store.ServiceRow, spec: Spec, active_at: datetime | None) -> situation.Desired:
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
        ahead=spec.adapter is not None,
    )


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
        live = [row for row in replicas if row.service_id == id_ and row.state in LIVE]
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
    specs: Mapping[str, Spec],
    replicas: Sequence[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engines: Mapping[str, Engine],
) -> list[HostReplica]:
    """Those that are ready and take adapters."""
    found = []
    for row in replicas:
        spec = specs.get(row.service_id)
        engine = engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
        ready = row.state == ReplicaState.READY and row.id in observed
        if engine is not None and engine.takes_adapters and ready:
            found.append(HostReplica(row.id, observed[row.id].endpoint, engine))
    return found


def route(
    row: store.ServiceRow,
    spec: Spec,
    replicas: list[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engines: Mapping[str, Engine],
    hosting: Hosting,
    *,
    traits: Traits = NO_TRAITS,
) -> Route:
    engine = engines.get(spec.engine) if isinstance(spec, ServiceSpec) else None
    return Route(
        service_id=row.id,
        access_path=row.access_path,
        owner_id=row.owner_id,
        tasks=tuple(row.tasks),
        state=row.state,
        message=row.message,
        created_at=int(row.created_at.timestamp()),
        replicas=_replica_addresses(row, spec, replicas, observed, engine, hosting),
        collect=engine is not None and not engine.stops_whole_answers,
        endpoints=_endpoint_addresses(row, spec),
        dimensions_min=spec.dimensions_min if isinstance(spec, ServiceSpec) else None,
        raw_scores=traits.raw_scores,
        grammars=isinstance(engine, Constraining),
        tools=traits.tools,
        small=traits.small,
        dialect=_dialect(engine),
        context_tokens=spec.context_tokens if isinstance(spec, ServiceSpec) else None,
        max_tokens=spec.defaults.max_tokens if isinstance(spec, ServiceSpec) else None,
        images=traits.images,
        image_types=_image_types(engine) if traits.images else (),
    )


def _dialect(engine: object) -> str:
    return engine.dialect if isinstance(engine, Speaking) else ""


def _image_types(engine: object) -> tuple[str, ...]:
    return engine.image_types if isinstance(engine, Projecting) else ()


def _replica_addresses(
    row: store.ServiceRow,
    spec: Spec,
    replicas: list[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engine: Engine | None,
    hosting: Hosting,
) -> tuple[ReplicaAddress, ...]:
    if row.state == ServiceState.IDLE or engine is None or isinstance(spec, EndpointsSpec):
        # Those that an idle one still has are about to be drained.
        return ()
    if spec.host is None:
        mine = [replica for replica in replicas if replica.service_id == row.id]
    elif row.want == situation.Want.RUN:
        on = hosting.seen(row.id).on
        mine = [replica for replica in replicas if replica.id in on]
    else:
        return ()
    return tuple(
        ReplicaAddress(
            replica.id,
            observed[replica.id].endpoint.address,
            observed[replica.id].endpoint.secret,
            spec.slots,
            # Where several models share a replica, it has to be told by its exact name.
            row.access_path if engine.takes_adapters else None,
        )
        for replica in mine
        if replica.state == ReplicaState.READY and replica.id in observed
    )


def _endpoint_addresses(row: store.ServiceRow, spec: Spec) -> tuple[EndpointAddress, ...]:
    if not isinstance(spec, EndpointsSpec) or row.state != ServiceState.RUNNING:
        return ()
    return tuple(
        EndpointAddress(
            id=endpoint.id,
            url=endpoint.url,
            slots=spec.slots,
            weight=endpoint.weight,
            model=endpoint.model,
            sealed_key=endpoint.sealed_key,
            public_only=endpoint.public_only,
        )
        for endpoint in spec.endpoints
    )
