"""A service's own page, and what its buttons do."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.access.principal import Principal
from modelry.console.frame import Frame, Visitor, go
from modelry.console.service_context import service_context, service_path
from modelry.console.site import Site
from modelry.services import store

_Verb = Callable[[Principal, str], Awaitable[store.ServiceRow]]


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    @routes.get("/services/{name}")
    async def overview(request: Request, visitor: Looking, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "overview")
        return frame.page(request, "service.html", visitor, **context)

    async def done(visitor: Visitor, name: str, verb: _Verb, notice: str) -> Response:
        row = await verb(visitor.principal, name)
        await site.reconciler.reconcile()
        own = row.owner_id == visitor.principal.owner_id
        return go(service_path(row, own=own), f"service.{notice}", row.name)

    @routes.post("/services/{name}/start")
    async def start(visitor: Acting, name: str) -> Response:
        return await done(visitor, name, site.lifecycle.start, "started")

    @routes.post("/services/{name}/stop")
    async def stop(visitor: Acting, name: str) -> Response:
        return await done(visitor, name, site.lifecycle.stop, "was_stopped")

    return routes
