"""The console: its pages, put together, and what they load."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from modelry.console import (
    add_model,
    deploy,
    design,
    engines,
    keys,
    metrics,
    models,
    nodes,
    playground,
    profile,
    progress,
    service,
    service_call,
    service_events,
    service_logs,
    service_settings,
    services,
    sign_in,
    usage,
    welcome,
)
from modelry.console.frame import Frame, Visitor
from modelry.console.live import Live
from modelry.console.site import Site

_PARTS = (
    add_model,
    deploy,
    design,
    engines,
    keys,
    metrics,
    models,
    nodes,
    profile,
    playground,
    progress,
    service,
    service_call,
    service_events,
    service_logs,
    service_settings,
    services,
    sign_in,
    usage,
    welcome,
)


def routers(site: Site, frame: Frame, live: Live) -> list[APIRouter]:
    return [*(part.router(site, frame) for part in _PARTS), _loaded(frame, live)]


def _loaded(frame: Frame, live: Live) -> APIRouter:
    """What pages load: static files, and the stream of changes."""
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/static/{version}/{name:path}")
    async def static(request: Request, version: str, name: str) -> Response:
        return frame.assets.answer(request, version, name)

    @routes.get("/live")
    async def live_stream(
        request: Request, visitor: Looking, service: str | None = None
    ) -> StreamingResponse:
        """When services of the visitor's change, or the one of this id: for operators anybody's.

        It ends with their session: the page asks anew, and is led to the sign-in.
        """
        any_owner = service is not None and visitor.principal.operator
        owner_id = None if any_owner else visitor.principal.owner_id

        async def signed_in() -> bool:
            return await frame.visitor_or_none(request) is not None

        return StreamingResponse(
            live.stream(owner_id, service, signed_in),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    return routes
