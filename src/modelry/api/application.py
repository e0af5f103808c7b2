"""The management application: every package's endpoints under `/api/v1`."""

import re
from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from modelry import __version__
from modelry.access.authenticator import MissingToken
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
            name = f"[{settings.host}]" if ":" in settings.host else settings.host
            host = f"{name}:{settings.port}"
        return f"http://{host}"

    return base


class _Doorkeeper:
    """Turns an anonymous caller of the API away before their body is read.

    Whether the credentials are good is the endpoints' question.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _needs_credentials(scope["path"]):
            names = {name for name, _ in scope["headers"]}
            if not names & {b"authorization", b"cookie"}:
                await errors.expected(MissingToken())(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _needs_credentials(path: str) -> bool:
    return path.startswith(f"{API}/") and path != f"{API}/openapi.json"


def create_application(
    routers: Iterable[APIRouter],
    beside: Iterable[APIRouter],
    ready: Callable[[], Awaitable[None]],
) -> FastAPI:
    """The packages' endpoints under `/api/v1`, and what is not of the API `beside` them.

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
    for router in beside:
        app.include_router(router)
    app.add_middleware(_Doorkeeper)

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        await ready()
        return JSONResponse({"status": "ready"})

    return app
