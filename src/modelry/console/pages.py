"""The console: its pages, put together, and what they load."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from modelry.console import (
    playground,
    service,
    sign_in,
)
from modelry.console.frame import Frame, Visitor
from modelry.console.live import Live
from modelry.console.site import Site

_PARTS = (
    playground,
    service,
    sign_in,
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
        """When services of the visitor's change, or the one of this id."""

        def stream() -> AsyncIterator[bytes]:
            return live.stream(visitor.principal.owner_id, service)

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    routes.include_router(pages)
    return routes
