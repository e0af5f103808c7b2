"""Rows, weights and what the executor sees, as the plan and the gateways are told of them.

Pure: from one form to another.
"""

from collections.abc import Mapping
from datetime import datetime

from modelry.catalog.fetches import Absent, FetchFailed, Fetching, WeightsState
from modelry.catalog.weights import Weights
from modelry.engines.base import Engine
from modelry.executors.base import Observed
from modelry.routing.messages import ReplicaAddress, Route
from modelry.services import plan as planning
from modelry.services import store
from modelry.services.spec import ServiceSpec
from modelry.services.states import ReplicaState


def desired(row: store.ServiceRow, spec: ServiceSpec) -> planning.Desired:
    return planning.Desired(
        service_id=row.id,
        want=planning.Want(row.want),
        revision=row.revision,
        replicas=spec.replicas.min,
        since=row.since,
    )


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
            return planning.WeightsFetching(state.done_bytes, state.total_bytes)
        case FetchFailed():
            hint = f" ({state.hint})" if state.hint else ""
            return planning.WeightsFailed(
                f"its weights could not be fetched: {state.message}{hint}"
            )
        case Absent():
            return planning.WeightsAbsent()


def route(
    row: store.ServiceRow,
    spec: ServiceSpec,
    replicas: list[store.ReplicaRow],
    observed: Mapping[str, Observed],
    engine: Engine | None,
) -> Route:
    addresses = tuple(
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
    return Route(
        service_id=row.id,
        access_path=row.access_path,
        owner_id=row.owner_id,
        tasks=tuple(row.tasks),
        state=row.state,
        message=row.message,
        created_at=int(row.created_at.timestamp()),
        replicas=addresses,
        collect=engine is not None and not engine.stops_whole_answers,
    )
