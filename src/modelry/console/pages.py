"""The console: its pages, put together, and what they load."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from modelry.console import (
    add_model,
    deploy,
    models,
    playground,
    progress,
    service,
    service_call,
    service_events,
    service_logs,
    service_settings,
    services,
    sign_in,
    welcome,
)
from modelry.console.frame import Frame, Visitor
from modelry.console.live import Live
from modelry.console.site import Site

_PARTS = (
    add_model,
    deploy,
    models,
    playground,
    progress,
    service,
    service_call,
    service_events,
    service_logs,
    service_settings,
    services,
    sign_in,
    welcome,
)


def router(site: Site, live: Live) -> APIRouter:
    frame = Frame(site)
    routes = APIRouter(include_in_schema=False)
    for part in _PARTS:
        routes.include_router(part.router(site, frame))
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/static/{version}/{name:path}")
    async def static(request: Request, version: str, name: str) -> Response:
        return frame.assets.answer(request, version, name)

    pages = frame.router()

    @pages.get("/live")
    async def live_stream(visitor: Looking, service: str | None = None) -> StreamingResponse:
        """When services of the visitor's change, or the one of this id: for operators anybody's."""
        any_owner = service is not None and visitor.principal.operator

        def stream() -> AsyncIterator[bytes]:
            return live.stream(None if any_owner else visitor.principal.owner_id, service)

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    routes.include_router(pages)
    return routes
