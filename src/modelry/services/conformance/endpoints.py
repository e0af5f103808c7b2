"""`/services/{name}/conformance` of the management API."""

from typing import Annotated

from fastapi import APIRouter, Depends

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db import Database
from modelry.services.conformance import store
from modelry.services.conformance.probing import Conformance
from modelry.services.conformance.views import ReportView, report_view
from modelry.services.lifecycle import Lifecycle
from modelry.services.store import spec_of


def router(
    db: Database, authenticator: Authenticator, lifecycle: Lifecycle, conformance: Conformance
) -> APIRouter:
    routes = APIRouter(tags=["services"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    async def view(caller: Principal, name: str) -> ReportView:
        async with db.begin() as session:
            service = await lifecycle.get(session, caller, name)
            spec = await spec_of(session, service)
            row = await store.report_of(session, service.id)
        return report_view(service, spec, row, conformance)

    @routes.get("/services/{name}/conformance")
    async def get_conformance(caller: Caller, name: str) -> ReportView:
        """The latest report of what the service does; pending where there is none yet."""
        return await view(caller, name)

    @routes.post("/services/{name}/conformance", status_code=202)
    async def request_conformance(caller: Caller, name: str) -> ReportView:
        """Have a new one made as soon as the service runs."""
        async with db.begin() as session:
            service = await lifecycle.get(session, caller, name)
        await conformance.request(service)
        return await view(caller, name)

    return routes
