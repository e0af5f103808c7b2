"""What every page shares: who looks at it, its frame, its language, and how failures are shown.

Each form carries the session's CSRF token, and pages run under a strict
Content-Security-Policy: nothing inline, nothing from elsewhere.
"""

import gzip
import io
import json
import re
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from pydantic import BeforeValidator
from starlette.exceptions import HTTPException

from modelry import __version__
from modelry.access.principal import Principal
from modelry.access.sessions import COOKIE, csrf_token, same_csrf
from modelry.console import formats
from modelry.console.assets import Assets
from modelry.console.site import Site
from modelry.console.words import LANGUAGES, Words, chosen_language, read_words
from modelry.errors import ModelryError, NotFound, PermissionDenied

LANGUAGE_COOKIE = "modelry_language"
THEME_COOKIE = "modelry_theme"
THEMES = ("auto", "light", "dark")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}

# A section's name, where it is, and its icon; groups stand apart.
NAVIGATION = (
    (
        ("models", "/models", "box"),
        ("services", "/services", "rocket"),
        ("playground", "/playground", "message-square"),
    ),
    (
        ("keys", "/keys", "key-round"),
        ("usage", "/usage", "chart-column"),
    ),
    (
        ("nodes", "/nodes", "server"),
        ("engines", "/engines", "cpu"),
    ),
)

_NOTICE_COOKIE = "modelry_notice"
_REFRESH_HEADER = "x-refresh"
_SMALL = 1024
_PADDING_MOST = 100
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class SignInNeeded(Exception):
    """Nobody has signed in with this browser."""


@dataclass(frozen=True)
class Visitor:
    """Who has signed in with a browser, and its cookie."""

    principal: Principal
    cookie: str

    @property
    def csrf(self) -> str:
        return csrf_token(self.cookie)


class Frame:
    def __init__(self, site: Site) -> None:
        self._site = site
        self.assets = Assets()
        self._words = read_words()
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            size=formats.size,
            whole=formats.whole,
            short=formats.short,
            seconds=formats.seconds,
            left=formats.left,
        )
        self._templates.globals.update(
            version=__version__,
            languages=LANGUAGES,
            themes=THEMES,
            navigation=NAVIGATION,
            asset=self.assets.url,
            icon=self.assets.icon,
            when=formats.when,
        )

    def router(self) -> APIRouter:
        """One whose pages show failures as pages, and lead to the sign-in where it is needed."""
        frame = self

        class Page(APIRoute):
            def get_route_handler(self) -> _Handler:
                handle = super().get_route_handler()

                async def shown(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except SignInNeeded:
                        return frame._to_sign_in(request)
                    except (ModelryError, RequestValidationError) as error:
                        if "text/html" not in request.headers.get("accept", ""):
                            raise
                        return await frame._failure(request, error)

                return shown

        return APIRouter(include_in_schema=False, route_class=Page)

    def install(self, app: FastAPI) -> None:
        """Who looks for a page that is not there sees that as a page; programs get what they get
        anywhere.
        """
        otherwise: Any = app.exception_handlers[HTTPException]

        async def nothing(request: Request, error: HTTPException) -> Response:
            path, looking = request.url.path, "text/html" in request.headers.get("accept", "")
            missing = error.status_code in (404, 405) and request.method == "GET"
            if missing and looking and not path.startswith(("/api/", "/v1/")):
                return await self._failure(request, NotFound(f"there is no {path} here"))
            plain: Response = await otherwise(request, error)
            return plain

        app.add_exception_handler(HTTPException, nothing)  # type: ignore[arg-type]

    # -- who looks ---------------------------------------------------------------------------

    async def visitor(self, request: Request) -> Visitor:
        """Who has signed in. Raises `SignInNeeded`. A FastAPI dependency."""
        found = await self.visitor_or_none(request)
        if found is None:
            raise SignInNeeded
        return found

    async def visitor_or_none(self, request: Request) -> Visitor | None:
        cookie = request.cookies.get(COOKIE)
        principal = await self._site.sessions.principal(cookie) if cookie else None
        return None if principal is None or cookie is None else Visitor(principal, cookie)

    async def acting(self, request: Request) -> Visitor:
        """The visitor, if what they sent comes from a page of ours: it carries the CSRF token as
        the field `csrf` or the header `x-csrf-token`.

        Raises `SignInNeeded`, or `PermissionDenied`. A FastAPI dependency.
        """
        visitor = await self.visitor(request)
        token = request.headers.get("x-csrf-token")
        if token is None:
            field = (await request.form()).get("csrf")
            token = field if isinstance(field, str) else ""
        if not same_csrf(visitor.cookie, token):
            raise PermissionDenied("this form is out of date; go back, reload and try again")
        return visitor

    def words(self, request: Request) -> Words:
        wish = request.cookies.get(LANGUAGE_COOKIE)
        return self._words[chosen_language(wish, request.headers.get("accept-language", ""))]

    # -- answers -----------------------------------------------------------------------------

    def page(
        self,
        request: Request,
        template: str,
        visitor: Visitor | None,
        *,
        status: int = 200,
        script_words: tuple[str, ...] = (),
        **values: Any,
    ) -> Response:
        """`script_words`: the parts of the texts that the page's scripts need."""
        words = self.words(request)
        theme = request.cookies.get(THEME_COOKIE)
        notice = _notice_of(request, words)
        html = self._templates.get_template(template).render(
            t=words,
            language=words.language,
            theme=theme if theme in THEMES else "auto",
            user=None if visitor is None else visitor.principal,
            csrf=None if visitor is None else visitor.csrf,
            here=request.url.path,
            notice=notice,
            script_words=words.of_scripts(("shell_js", *script_words)),
            **values,
        )
        response = _compressed(request, html, status)
        if notice is not None:
            response.delete_cookie(_NOTICE_COOKIE)
        return response

    def _to_sign_in(self, request: Request) -> Response:
        if request.method != "GET" or request.url.path == "/":
            return go("/login")
        there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return go(f"/login?next={quote(there)}")

    async def _failure(
        self, request: Request, error: ModelryError | RequestValidationError
    ) -> Response:
        if isinstance(error, ModelryError):
            status, message, hint = error.status, error.message, error.hint
        else:
            first = error.errors()[0]
            status, hint = 422, None
            message = f"{first['loc'][-1]}: {first['msg'].removeprefix('Value error, ')}"
        return self.page(
            request,
            "failure.html",
            await self.visitor_or_none(request),
            status=status,
            section=None,
            failure=status,
            message=message,
            hint=hint,
        )


def go(path: str, notice: str | None = None, about: str = "") -> RedirectResponse:
    """To another page, which says once what was done: a text's name, and its value `name`."""
    response = RedirectResponse(path, status_code=303, headers={"cache-control": "no-store"})
    if notice is not None:
        value = quote(json.dumps([notice, about]))
        response.set_cookie(_NOTICE_COOKIE, value, max_age=60, httponly=True, samesite="lax")
    return response


def require_same_origin(request: Request) -> None:
    """Refuse a form that another site sends where there is no session yet to bind it to."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # Browsers leave it out over plain HTTP, but for this machine's own names.
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise PermissionDenied("send this form from Modelry's own page")


def _page_number(text: object) -> int:
    return max(1, int(text)) if isinstance(text, str) and re.fullmatch("[0-9]{1,6}", text) else 1


PageNumber = Annotated[int, BeforeValidator(_page_number), Query()]
"""Which page of a list an address asks for; one that makes no sense asks for the first."""


def own_path(path: str) -> str:
    """Where to go on to after a form: a page of ours, whatever the form says."""
    there = urlsplit(path)
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if ours and not (there.scheme or there.netloc) else "/"


def _notice_of(request: Request, words: Words) -> Markup | None:
    """What is to be said once: to somebody, not to a page that asks for itself anew."""
    from_before = request.cookies.get(_NOTICE_COOKIE)
    if from_before is None or request.method != "GET" or _REFRESH_HEADER in request.headers:
        return None
    try:
        key, about = json.loads(unquote(from_before))
        return words(key, name=about) if isinstance(key, str) and words.has(key) else None
    except (ValueError, TypeError, KeyError):
        return None  # Whatever else stands in a cookie, it is no notice of ours.


def _compressed(request: Request, html: str, status: int) -> Response:
    """Other sites may have a browser open a page of ours with words of theirs in its address; the
    size that it takes on the wire must not tell how alike they are to the token in it. So each
    answer has a random length more: https://ieeexplore.ieee.org/document/9754554
    """
    content, headers = html.encode(), dict(HEADERS)
    headers["vary"] = "accept-encoding, accept-language, cookie"
    if len(content) >= _SMALL and "gzip" in request.headers.get("accept-encoding", ""):
        packed = io.BytesIO()
        padding = "x" * secrets.randbelow(_PADDING_MOST)
        with gzip.GzipFile(padding, "wb", 5, packed, mtime=0) as file:
            file.write(content)
        content = packed.getvalue()
        headers["content-encoding"] = "gzip"
    return HTMLResponse(content, status_code=status, headers=headers)
