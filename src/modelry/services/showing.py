"""A service as the management API and the console show it, made of all that know of it."""

from modelry.db import Session
from modelry.executors.base import Executor
from modelry.services import store
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.services.states import ServiceState
from modelry.services.views import ServiceView, service_view


async def shown_service(
    session: Session,
    row: store.ServiceRow,
    lifecycle: Lifecycle,
    reconciler: Reconciler,
    executor: Executor,
) -> ServiceView:
    failed, stuck = row.state == ServiceState.FAILED, row.id in reconciler.stuck
    spec = await store.spec_of(session, row)
    return service_view(
        row,
        spec,
        await store.replicas_of(session, row.id),
        dict(executor.observe()),
        reconciler.progress.get(row.id),
        await store.last_log_tail(session, row.id) if failed or stuck else None,
        await lifecycle.parts(session, spec),
        stuck=stuck,
    )
