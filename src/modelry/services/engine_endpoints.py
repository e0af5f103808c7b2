"""`/engines` of the management API: the engines, and the runtimes that are installed of them."""

from typing import Annotated

from fastapi import APIRouter, Depends

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db.pages import Page
from modelry.services.engine_upkeep import EngineUpkeep, EngineView


def router(authenticator: Authenticator, engines: EngineUpkeep) -> APIRouter:
    routes = APIRouter(tags=["engines"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/engines")
    async def list_engines(caller: Caller) -> Page[EngineView]:
        return Page(data=await engines.views())

    @routes.post("/engines/{runtime_id}/install", status_code=202)
    async def install_runtime(caller: Caller, runtime_id: str) -> EngineView:
        """Begins it; `GET /engines` tells how far it is."""
        return await engines.install(caller, runtime_id)

    @routes.delete("/engines/{runtime_id}", status_code=202)
    async def remove_runtime(caller: Caller, runtime_id: str) -> EngineView:
        """Stops its installation, if that is under way, and deletes its environment."""
        return await engines.remove(caller, runtime_id)

    return routes
