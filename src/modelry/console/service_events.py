"""All that happened to a service, and what it was found to do of the inference API."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.frame import Frame, PageNumber, Visitor, go
from modelry.console.service_context import service_context, service_path
from modelry.console.site import Site
from modelry.services import store
from modelry.services.conformance import store as conformance_store
from modelry.services.conformance.report import Result, State
from modelry.services.conformance.views import report_view
from modelry.services.listing import count_events, events_before
from modelry.services.views import event_view

PAGE_SIZE = 50


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/services/{name}/events")
    async def events(
        request: Request,
        visitor: Looking,
        name: str,
        page: PageNumber = 1,
    ) -> Response:
        context = await service_context(site, visitor.principal, name, "events")
        service_id = context["service"].id
        async with site.db.begin() as session:
            total = await count_events(session, service_id)
            pages = max(1, -(-total // PAGE_SIZE))
            page = min(page, pages)
            rows = await events_before(session, service_id, (page - 1) * PAGE_SIZE, PAGE_SIZE)
        return frame.page(
            request,
            "service_events.html",
            visitor,
            events=[(row.seq, event_view(row)) for row in rows],
            total=total,
            page=page,
            pages=pages,
            first=(page - 1) * PAGE_SIZE + 1,
            **context,
        )

    @routes.get("/services/{name}/conformance")
    async def report(request: Request, visitor: Looking, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "conformance")
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
            spec = await store.spec_of(session, row)
            found = await conformance_store.report_of(session, row.id)
            shown = report_view(row, spec, found, site.conformance)
        return frame.page(
            request,
            "service_conformance.html",
            visitor,
            report=shown,
            counts=Counter(check.result for check in shown.checks),
            results=tuple(Result),
            live_every=2 if shown.state == State.RUNNING or (found and found.asked) else 30,
            **context,
        )

    @routes.post("/services/{name}/conformance")
    async def probe(visitor: Annotated[Visitor, Depends(frame.acting)], name: str) -> Response:
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
        await site.conformance.request(row)
        own = row.owner_id == visitor.principal.owner_id
        there = f"{service_path(row, own=own)}/conformance"
        return go(there, "service_conformance.asked", row.name)

    return routes
