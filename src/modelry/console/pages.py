"""The console's pages: sign in, services, one service, models.

Each page shows what the management API shows, from the same queries. Every
form carries the session's CSRF token, and the pages run under a strict
Content-Security-Policy: nothing inline, nothing from elsewhere.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy import select

from modelry import __version__
from modelry.access.keys import SESSION_KEY_LIFE, Keys
from modelry.access.principal import Principal
from modelry.access.sessions import COOKIE, LIFE, Sessions, csrf_token, same_csrf
from modelry.catalog.cards import TOKENLESS
from modelry.catalog.catalog import Catalog
from modelry.catalog.endpoints import model_view
from modelry.catalog.fetches import Fetches
from modelry.catalog.offers import Offers
from modelry.catalog.uploads import Uploads
from modelry.db import Database
from modelry.errors import ModelryError, NotFound, PermissionDenied
from modelry.executors.base import Executor
from modelry.services import store
from modelry.services.conformance import store as conformance_store
from modelry.services.conformance.probing import Conformance
from modelry.services.conformance.views import report_view
from modelry.services.examples import KEY_VARIABLE, LANGUAGES, examples
from modelry.services.lifecycle import Lifecycle
from modelry.services.states import ServiceState
from modelry.services.views import shown_replicas

_HERE = Path(__file__).parent
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_STATIC = {
    "chat.js": "text/javascript",
    "console.css": "text/css",
    "copy.js": "text/javascript",
    "follow.js": "text/javascript",
    "forms.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "inference.js": "text/javascript",
    "media.js": "text/javascript",
    "playground.js": "text/javascript",
    "recorder.js": "text/javascript",
    "refusals.js": "text/javascript",
    "sign_out.js": "text/javascript",
    "texts.js": "text/javascript",
    "upload.js": "text/javascript",
}
_UNSETTLED = frozenset(
    {ServiceState.PENDING, ServiceState.FETCHING, ServiceState.STARTING, ServiceState.DELETING}
)
_CALLABLE = frozenset({ServiceState.RUNNING, ServiceState.UPDATING, ServiceState.IDLE})
_LANGUAGE_NAMES = {"curl": "curl", "python": "Python", "node": "Node.js"}
_EVENTS_SHOWN = 20

Verb = Callable[[Principal, str], Awaitable[store.ServiceRow]]


def router(
    db: Database,
    sessions: Sessions,
    lifecycle: Lifecycle,
    conformance: Conformance,
    executor: Executor,
    catalog: Catalog,
    fetches: Fetches,
    offers: Offers,
    uploads: Uploads,
    keys: Keys,
    published: Callable[[], Awaitable[None]],
    public_base: Callable[[Request], str],
) -> APIRouter:
    """`published` returns once every gateway has heard what the feed holds."""
    routes = APIRouter(include_in_schema=False)
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def render(page: str, status: int = 200, **values: Any) -> HTMLResponse:
        html = templates.get_template(page).render(version=__version__, **values)
        return HTMLResponse(html, status_code=status, headers=_HEADERS)

    async def visitor(request: Request) -> tuple[Principal, str] | None:
        """Who has signed in with this browser, and their cookie."""
        cookie = request.cookies.get(COOKIE)
        principal = await sessions.principal(cookie) if cookie else None
        return None if principal is None or cookie is None else (principal, cookie)

    async def act(request: Request, csrf: str) -> Principal | None:
        """The visitor, if the form they sent is ours. Raises `PermissionDenied` if it is not."""
        found = await visitor(request)
        if found is None:
            return None
        if not same_csrf(found[1], csrf):
            raise PermissionDenied("this form is out of date; go back, reload and try again")
        return found[0]

    @routes.get("/")
    async def home() -> Response:
        return _go("/services")

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise NotFound(f"there is no {name}")
        headers = {**_HEADERS, "cache-control": "max-age=3600"}
        return FileResponse(_HERE / "static" / name, media_type=_STATIC[name], headers=headers)

    @routes.get("/login")
    async def login_page(request: Request) -> Response:
        if await visitor(request):
            return _go("/services")
        return render("login.html", error=None, name="admin")

    @routes.post("/login")
    async def login(
        request: Request,
        name: Annotated[str, Form(max_length=64)] = "",
        password: Annotated[str, Form(max_length=1024)] = "",
    ) -> Response:
        _require_same_origin(request)
        try:
            cookie = await sessions.sign_in(
                name, password, request.headers.get("x-forwarded-for", "")
            )
        except ModelryError as error:
            return render("login.html", error.status, error=error.message, name=name)
        response = _go("/services")
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(LIFE.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=public_base(request).startswith("https://"),
        )
        return response

    @routes.post("/logout")
    async def logout(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
        if await act(request, csrf) is not None:
            await sessions.sign_out(request.cookies[COOKIE])
            await keys.revoke_of_session(request.cookies[COOKIE])
            await published()
        response = _go("/login")
        response.delete_cookie(COOKIE)
        return response

    @routes.get("/services")
    async def services_page(request: Request) -> Response:
        found = await visitor(request)
        if found is None:
            return _go("/login")
        principal, cookie = found
        async with db.begin() as session:
            mine = select(store.ServiceRow).where(store.ServiceRow.owner_id == principal.owner_id)
            rows = list(await session.scalars(mine.order_by(store.ServiceRow.seq)))
            specs = {row.id: await store.spec_of(session, row) for row in rows}
        return render(
            "services.html",
            user=principal,
            csrf=csrf_token(cookie),
            services=rows,
            specs=specs,
            refresh=any(row.state in _UNSETTLED for row in rows),
        )

    @routes.get("/services/{name}")
    async def service_page(request: Request, name: str) -> Response:
        found = await visitor(request)
        if found is None:
            return _go("/login")
        principal, cookie = found
        try:
            async with db.begin() as session:
                row = await lifecycle.get(session, principal, name)
                spec = await store.spec_of(session, row)
                parts = await lifecycle.parts(session, spec)
                replicas = await store.replicas_of(session, row.id)
                events = await store.latest_events(session, row.id, _EVENTS_SHOWN)
                log_tail = await store.last_log_tail(session, row.id)
                report = await conformance_store.report_of(session, row.id)
        except NotFound as error:
            return render(
                "missing.html", 404, user=principal, csrf=csrf_token(cookie), message=error.message
            )
        base = f"{public_base(request)}/v1"
        shown = examples(base, row.access_path, tuple(row.tasks))
        return render(
            "service.html",
            user=principal,
            csrf=csrf_token(cookie),
            service=row,
            spec=spec,
            tokens=not TOKENLESS.issuperset(row.tasks),
            parts=parts,
            replicas=shown_replicas(replicas),
            observed=executor.observe(),
            events=events,
            report=report_view(row, spec, report, conformance),
            log_tail=log_tail if row.state == ServiceState.FAILED else None,
            base=base,
            key_variable=KEY_VARIABLE,
            examples=[
                (_LANGUAGE_NAMES[language], [each for each in shown if each.language == language])
                for language in LANGUAGES
                if any(each.language == language for each in shown)
            ],
            refresh=row.state in _UNSETTLED,
            own=row.owner_id == principal.owner_id,
            playable=row.state in _CALLABLE and row.owner_id == principal.owner_id,
        )

    @routes.post("/services/{name}/playground")
    async def playground_key(request: Request, name: str) -> Response:
        """The key with which this browser calls the service from its page."""
        principal = await act(request, request.headers.get("x-csrf-token", ""))
        if principal is None:
            return _go("/login")
        async with db.begin() as session:
            row = await lifecycle.get(session, principal, name)
        cookie = request.cookies[COOKIE]
        _, key = await keys.ensure_for_session(principal, cookie, row.access_path)
        await published()
        return JSONResponse(
            {"key": key, "expires_in_s": SESSION_KEY_LIFE.total_seconds()}, headers=_HEADERS
        )

    @routes.get("/models")
    async def models_page(request: Request) -> Response:
        found = await visitor(request)
        if found is None:
            return _go("/login")
        principal, cookie = found
        async with db.begin() as session:
            models = await catalog.list(session, principal)
        return render(
            "models.html",
            user=principal,
            csrf=csrf_token(cookie),
            models=[model_view(model, offers.offer(model), fetches, principal) for model in models],
            uploads=uploads.list(principal.owner_id),
        )

    @routes.post("/uploads/{id_}/drop")
    async def drop(request: Request, id_: str, csrf: Annotated[str, Form()] = "") -> Response:
        principal = await act(request, csrf)
        if principal is None:
            return _go("/login")
        await uploads.discard(uploads.own(principal, id_))
        return _go("/models")

    async def change(request: Request, name: str, csrf: str, verb: Verb) -> Response:
        """Do what a button of a service's page says, and show the page again."""
        principal = await act(request, csrf)
        if principal is None:
            return _go("/login")
        row = await verb(principal, name)
        return _go(f"/services/{quote(row.name)}")

    @routes.post("/services/{name}/start")
    async def start(request: Request, name: str, csrf: Annotated[str, Form()] = "") -> Response:
        return await change(request, name, csrf, lifecycle.start)

    @routes.post("/services/{name}/stop")
    async def stop(request: Request, name: str, csrf: Annotated[str, Form()] = "") -> Response:
        return await change(request, name, csrf, lifecycle.stop)

    @routes.post("/services/{name}/conformance")
    async def probe(request: Request, name: str, csrf: Annotated[str, Form()] = "") -> Response:
        async def ask(principal: Principal, name: str) -> store.ServiceRow:
            async with db.begin() as session:
                row = await lifecycle.get(session, principal, name)
            await conformance.request(row)
            return row

        return await change(request, name, csrf, ask)

    return routes


def _go(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303, headers={"cache-control": "no-store"})


def _require_same_origin(request: Request) -> None:
    """Refuse a sign-in form that another site sends: there is no session to bind it to yet."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # Browsers leave it out over plain HTTP, but for this machine's own names.
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise PermissionDenied("sign in from Modelry's own page")
