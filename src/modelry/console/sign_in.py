"""Signing in and out, and what somebody prefers: a language, a theme."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from modelry.access.sessions import COOKIE, LIFE
from modelry.console.frame import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    Frame,
    go,
    own_path,
    require_same_origin,
)
from modelry.console.site import Site
from modelry.console.words import LANGUAGES
from modelry.errors import ModelryError

_PREFERRED_S = 365 * 24 * 3600


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()

    @routes.get("/login")
    async def login_page(request: Request, next: str = "/") -> Response:
        if await frame.visitor_or_none(request):
            return go(own_path(next))
        return _form(request, next)

    def _form(
        request: Request, next_: str, name: str = "admin", error: ModelryError | None = None
    ) -> Response:
        return frame.page(
            request,
            "login.html",
            None,
            status=200 if error is None else error.status,
            section=None,
            error=None if error is None else error.message,
            name=name,
            next=own_path(next_),
        )

    @routes.post("/login")
    async def login(
        request: Request,
        name: Annotated[str, Form(max_length=64)] = "",
        password: Annotated[str, Form(max_length=1024)] = "",
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        require_same_origin(request)
        try:
            cookie = await site.sessions.sign_in(
                name, password, request.headers.get("x-forwarded-for", "")
            )
        except ModelryError as error:
            return _form(request, next, name, error)
        response = go(own_path(next))
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(LIFE.total_seconds()),
            httponly=True,
            samesite="lax",
            secure=site.public_base(request).startswith("https://"),
        )
        return response

    @routes.post("/logout", dependencies=[Depends(frame.acting)])
    async def logout(request: Request) -> Response:
        cookie = request.cookies[COOKIE]
        await site.sessions.sign_out(cookie)
        await site.keys.revoke_of_session(cookie)
        await site.published()
        response = go("/login")
        response.delete_cookie(COOKIE)
        return response

    @routes.post("/preferences")
    async def prefer(
        request: Request,
        language: Annotated[str | None, Form(max_length=16)] = None,
        theme: Annotated[str | None, Form(max_length=16)] = None,
        next: Annotated[str, Form(max_length=2000)] = "/",
    ) -> Response:
        """Kept by the browser: the sign-in has them too."""
        require_same_origin(request)
        response = go(own_path(next))
        for cookie, value, known in (
            (LANGUAGE_COOKIE, language, LANGUAGES),
            (THEME_COOKIE, theme, THEMES),
        ):
            if value is not None and value in known:
                response.set_cookie(
                    cookie, value, max_age=_PREFERRED_S, httponly=True, samesite="lax"
                )
        return response

    return routes
