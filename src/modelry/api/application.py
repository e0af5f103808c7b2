"""The management application: every package's endpoints under `/api/v1`."""

import re
from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from modelry import __version__
from modelry.api import errors
from modelry.settings import Settings

API = "/api/v1"
_HOST = re.compile(r"^[A-Za-z0-9.-]+(:\d{1,5})?$|^\[[0-9A-Fa-f:.]+\](:\d{1,5})?$")


def public_base(settings: Settings) -> Callable[[Request], str]:
    """How callers reach this installation: as set, or by the name this caller used."""

    def base(request: Request) -> str:
        if settings.public_url is not None:
            return settings.public_url
        host = request.headers.get("host", "")
        # It ends up in commands that people paste into a shell.
        if not _HOST.match(host):
            host = f"{settings.host}:{settings.port}"
        return f"http://{host}"

    return base


def create_application(
    routers: Iterable[APIRouter], console: APIRouter, ready: Callable[[], Awaitable[None]]
) -> FastAPI:
    """The packages' endpoints under `/api/v1`, the console beside them.

    `ready` raises where the control plane cannot do its work.
    """
    app = FastAPI(
        title="Modelry",
        version=__version__,
        summary="Model services: deploy a model once, call it with any OpenAI client.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    for router in routers:
        app.include_router(router, prefix=API)

    app.include_router(console)

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        await ready()
        return JSONResponse({"status": "ready"})

    return app
