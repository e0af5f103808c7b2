"""The profile: who you are, your password, your access tokens, a language and a theme."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from sqlalchemy import select

from modelry.access import store as access
from modelry.access.endpoints import PASSWORD_MAX, PASSWORD_MIN
from modelry.access.sessions import TooManyAttempts, WrongPassword
from modelry.access.token_endpoints import NewToken, TokenView, token_view
from modelry.console.expiry import CHOICES, TERMS, expires_at
from modelry.console.frame import Frame, Visitor, go
from modelry.console.site import Site
from modelry.errors import Conflict


@dataclass
class TokenForm:
    """Of a new access token: what was typed. See `expiry.py`."""

    name: str = ""
    expiry: str = "90"
    expires_on: str = ""
    complaints: dict[str, str] = field(default_factory=dict)


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    async def show(
        request: Request,
        visitor: Visitor,
        *,
        status: int = 200,
        form: TokenForm | None = None,
        made: TokenView | None = None,
        wrong_password: dict[str, Any] | None = None,
    ) -> Response:
        """`wrong_password`: field → the text that says what is wrong with it."""
        mine = select(access.AccessTokenRow).where(
            access.AccessTokenRow.user_id == visitor.principal.owner_id
        )
        async with site.db.begin() as session:
            rows = list(await session.scalars(mine.order_by(access.AccessTokenRow.seq.desc())))
        return frame.page(
            request,
            "profile.html",
            visitor,
            status=status,
            section="profile",
            tokens=[token_view(row) for row in rows],
            made=made,
            form=form or TokenForm(),
            wrong_password=wrong_password or {},
            password_min=PASSWORD_MIN,
            password_max=PASSWORD_MAX,
            terms=TERMS,
            now=access.now(),
            today=access.now().date().isoformat(),
        )

    @routes.get("/profile")
    async def profile_page(request: Request, visitor: Looking) -> Response:
        return await show(request, visitor)

    @routes.post("/profile/password")
    async def change_password(
        request: Request,
        visitor: Acting,
        current_password: Annotated[str, Form(max_length=PASSWORD_MAX)] = "",
        password: Annotated[str, Form(max_length=PASSWORD_MAX)] = "",
        repeated: Annotated[str, Form(max_length=PASSWORD_MAX)] = "",
    ) -> Response:
        words, status, wrong = frame.words(request), 422, {}
        if len(password) < PASSWORD_MIN:
            wrong["password"] = words("profile.password_short", count=PASSWORD_MIN)
        elif repeated != password:
            wrong["repeated"] = words("profile.password_differs")
        else:
            try:
                await site.sessions.change_password(
                    visitor.principal,
                    current_password,
                    password,
                    request.headers.get("x-forwarded-for", ""),
                    kept=visitor.cookie,
                )
            except (WrongPassword, TooManyAttempts) as error:
                status = error.status
                refused = isinstance(error, WrongPassword)
                text = "profile.password_wrong" if refused else "profile.password_attempts"
                wrong["current_password"] = words(text)
        if wrong:
            return await show(request, visitor, status=status, wrong_password=wrong)
        await site.keys.revoke_of_other_sessions(visitor.principal, visitor.cookie)
        await site.published()
        return go("/profile", "profile.password_changed")

    @routes.post("/profile/tokens")
    async def create_token(
        request: Request,
        visitor: Acting,
        name: Annotated[str, Form(max_length=1000)] = "",
        expiry: Annotated[str, Form(max_length=10)] = "never",
        expires_on: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        form = TokenForm(name.strip(), expiry if expiry in CHOICES else "never", expires_on)
        asked = {
            "name": form.name,
            "expires_at": expires_at(form.expiry, form.expires_on, access.now()),
        }
        try:
            wanted = NewToken.model_validate(asked)
            made = await site.tokens.create(visitor.principal, wanted.name, wanted.expires_at)
        except ValidationError as error:
            form.complaints = {str(each["loc"][0]): "wrong" for each in error.errors()}
            return await show(request, visitor, status=422, form=form)
        except Conflict as error:
            form.complaints = {"name": error.message}
            return await show(request, visitor, status=error.status, form=form)
        return await show(request, visitor, status=201, made=token_view(*made))

    @routes.post("/profile/tokens/{token_id}/delete")
    async def delete_token(visitor: Acting, token_id: str) -> Response:
        async with site.db.begin() as session:
            row = await access.token_of(session, visitor.principal.owner_id, token_id)
        await site.tokens.delete(visitor.principal, token_id)
        return go("/profile", "profile.token_deleted", "" if row is None else row.name)

    return routes
