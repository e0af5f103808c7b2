"""Rows, weights and what the executor sees, as the plan and the gateways are told of them.

Pure: from one form to another.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from modelry.catalog.fetches import Absent, FetchFailed, Fetching, WeightsState
from modelry.catalog.weights import Weights
from modelry.engines.base import Engine
from modelry.executors.base import Observed
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route
from modelry.services import plan as planning
from modelry.services import store
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec
from modelry.services.states import ReplicaState, ServiceState

_ACTIVE_AT_LAG = timedelta(seconds=60)


def desired(row: store.ServiceRow, spec: Spec, active_at: datetime | None) -> planning.Desired:
    wanted = planning.Desired(
        service_id=row.id,
        want=planning.Want(row.want),
        revision=row.revision,
        replicas=0,
        since=row.since,
        active_at=active_at,
    )
    if isinstance(spec, EndpointsSpec):
        return replace(wanted, endpoints=len(spec.endpoints))
    return replace(wanted, replicas=spec.replicas.min, idle_after_s=spec.idle_after_s)


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
    row: store.ServiceRow, seen: planning.Desired, *, idle: bool, now: datetime
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


def seen(row: store.ReplicaRow) -> planning.Seen:
    crash = None
    if row.state == ReplicaState.FAILED:
        at: datetime = row.ended_at or row.created_at
        crash = planning.Crash(at, row.failure or "it failed", row.lasting)
    return planning.Seen(
        id=row.id,
        service_id=row.service_id,
        revision=row.revision,
        state=ReplicaState(row.state),
        created_at=row.created_at,
        ready_at=row.ready_at,
        crash=crash,
    )


def weights_seen(state: WeightsState) -> planning.WeightsSeen:
    match state:
        case Weights():
            return planning.WeightsReady()
        case Fetching():
            return planning.WeightsFetching(
                state.done_bytes, state.total_bytes, state.bytes_per_second, state.left_s
            )
        case FetchFailed():
            return planning.WeightsFailed(f"its weights could not be fetched: {state.in_words}")
        case Absent():
            return planning.WeightsAbsent()


def route(
    row: store.ServiceRow,
    spec: Spec,
    replicas: list[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engines: Mapping[str, Engine],
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
        replicas=_replica_addresses(row, spec, replicas, observed),
        collect=engine is not None and not engine.stops_whole_answers,
        endpoints=_endpoint_addresses(row, spec),
    )


def _replica_addresses(
    row: store.ServiceRow,
    spec: Spec,
    replicas: list[store.ReplicaRow],
    observed: Mapping[str, Observed],
) -> tuple[ReplicaAddress, ...]:
    if row.state == ServiceState.IDLE:
        # Those it still has are about to be drained.
        return ()
    return tuple(
        ReplicaAddress(
            replica.id,
            observed[replica.id].endpoint.address,
            observed[replica.id].endpoint.secret,
            spec.slots,
        )
        for replica in replicas
        if replica.service_id == row.id
        and replica.state == ReplicaState.READY
        and replica.id in observed
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
