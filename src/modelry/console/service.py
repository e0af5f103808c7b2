"""A service's own page, and what its buttons do."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from modelry.access.principal import Principal
from modelry.catalog.cards import TOKENLESS
from modelry.console.frame import Frame, Visitor, go, own_path
from modelry.console.service_context import service_context, service_path
from modelry.console.site import Site
from modelry.services import store
from modelry.services.states import ReplicaState, ServiceState
from modelry.services.views import ServiceView

_Next = Annotated[str | None, Form(max_length=2000)]
"""The page to come back to, instead of the service's own."""
_Verb = Callable[[Principal, str], Awaitable[store.ServiceRow]]


def _advice(service: ServiceView, replicas: list[store.ReplicaRow]) -> str | None:
    """What to do about a service that failed, as a text's name: whether its replicas failed for
    good or were tried too often, or did not even come to that.
    """
    if service.status.state != ServiceState.FAILED:
        return None
    failed = [each for each in replicas if each.state == ReplicaState.FAILED]
    if not failed:
        return "service.failed_supplies"
    return "service.failed_lasting" if failed[-1].lasting else "service.failed_again"


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    @routes.get("/services/{name}")
    async def overview(request: Request, visitor: Looking, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "overview")
        service: ServiceView = context["service"]
        async with site.db.begin() as session:
            replicas = await store.replicas_of(session, service.id)
        return frame.page(
            request,
            "service.html",
            visitor,
            base_url=f"{site.public_base(request)}/v1",
            advice=_advice(service, replicas),
            tokenless=TOKENLESS.issuperset(service.tasks),
            **context,
        )

    async def done(
        visitor: Visitor, name: str, verb: _Verb, notice: str, there: str | None
    ) -> Response:
        row = await verb(visitor.principal, name)
        await site.reconciler.reconcile()
        own = row.owner_id == visitor.principal.owner_id
        where = service_path(row, own=own) if there is None else own_path(there)
        return go(where, notice, row.name)

    @routes.post("/services/{name}/start")
    async def start(visitor: Acting, name: str, next: _Next = None) -> Response:
        return await done(visitor, name, site.lifecycle.start, "service.started", next)

    @routes.post("/services/{name}/stop")
    async def stop(visitor: Acting, name: str, next: _Next = None) -> Response:
        return await done(visitor, name, site.lifecycle.stop, "service.was_stopped", next)

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
        return await done(visitor, name, site.lifecycle.delete, "service.was_deleted", "/services")

    return routes
