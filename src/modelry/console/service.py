"""A service's own page, and what its buttons do."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from modelry.access.principal import Principal
from modelry.console.frame import Frame, Visitor, go, own_path
from modelry.console.service_context import service_context, service_path
from modelry.console.site import Site
from modelry.services import store

_Next = Annotated[str | None, Form(max_length=2000)]
"""The page to come back to, instead of the service's own."""
_Verb = Callable[[Principal, str], Awaitable[store.ServiceRow]]


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    @routes.get("/services/{name}")
    async def overview(request: Request, visitor: Looking, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "overview")
        return frame.page(request, "service.html", visitor, **context)

    async def done(
        visitor: Visitor, name: str, verb: _Verb, notice: str, there: str | None
    ) -> Response:
        row = await verb(visitor.principal, name)
        await site.reconciler.reconcile()
        own = row.owner_id == visitor.principal.owner_id
        where = service_path(row, own=own) if there is None else own_path(there)
        return go(where, f"service.{notice}", row.name)

    @routes.post("/services/{name}/start")
    async def start(visitor: Acting, name: str, next: _Next = None) -> Response:
        return await done(visitor, name, site.lifecycle.start, "started", next)

    @routes.post("/services/{name}/stop")
    async def stop(visitor: Acting, name: str, next: _Next = None) -> Response:
        return await done(visitor, name, site.lifecycle.stop, "was_stopped", next)

    @routes.post("/services/{name}/delete")
    async def delete(
        visitor: Acting, name: str, written: Annotated[str, Form(max_length=64)] = ""
    ) -> Response:
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
        if written != row.name:
            own = row.owner_id == visitor.principal.owner_id
            there = f"{service_path(row, own=own)}/settings#delete"
            return go(there, "service.not_deleted", row.name)
        return await done(visitor, name, site.lifecycle.delete, "was_deleted", "/services")

    return routes
