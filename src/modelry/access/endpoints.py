"""`/keys` and `/me` of the management API."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeAlias, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import select

from modelry.access.authenticator import Authenticator
from modelry.access.credentials import masked
from modelry.access.fields import Expiry, Name
from modelry.access.keys import KeyChanges, Keys
from modelry.access.principal import Principal
from modelry.access.sessions import Sessions
from modelry.access.store import KeyRow
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page

PASSWORD_MIN, PASSWORD_MAX = 8, 1024
_PATTERN = re.compile(r"(u-[0-9a-f]{12}|public|\*)/[a-z0-9*?\[\]!-]{1,64}|\*")


def _service_pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError("must be an access path such as u-8105f7322477/test, or a glob of them")
    return text


Scope: TypeAlias = (
    Annotated[
        list[Annotated[str, AfterValidator(_service_pattern)]],
        Field(min_length=1, max_length=1000),
    ]
    | None
)
# Beyond any use, and within what every counter holds.
Limit: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**15)] | None


class KeyLimits(BaseModel):
    """What a key may use; null is no limit. Tokens are prompt and answer together."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    concurrency: Limit = Field(None, description="Requests at a time.")
    tokens_per_month: Limit = Field(None, description="In the calendar's month, in UTC.")


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    services: Scope = Field(
        None, description="Access paths or globs; without it, every service of yours."
    )
    expires_at: Expiry = None
    limits: KeyLimits | None = None
    strict: bool = Field(False, description="Refuse calls of which something would be ignored.")


class KeyUpdate(BaseModel):
    """What changes; a field that is left out stays as it is, also within `limits`."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field("", description="Cannot be null.")
    services: Scope = Field(None, description="Null: every service of yours.")
    expires_at: Expiry = Field(None, description="Null: never.")
    limits: KeyLimits | None = Field(None, description="Null: none at all.")
    strict: bool = Field(False, description="Cannot be null.")

    def changes(self) -> KeyChanges:
        return cast(KeyChanges, self.model_dump(exclude_unset=True))


class KeyView(BaseModel):
    id: str
    name: str
    key: str = Field(description="Masked, like sk-…abcd; whole only in the answer to its creation.")
    services: list[str] | None
    expires_at: datetime | None
    limits: KeyLimits | None
    strict: bool
    created_at: datetime
    last_used_at: datetime | None
    for_session: bool = Field(
        description="Made for the playground of one browser's session, with which it ends."
    )


class Me(BaseModel):
    id: str
    name: str
    operator: bool


class MyChanges(BaseModel):
    """What users change of themselves: their password, which takes the one they have."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr = Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)
    current_password: SecretStr = Field(max_length=PASSWORD_MAX)


def key_view(row: KeyRow, key: str | None = None) -> KeyView:
    """A key as the API shows it: masked, unless the `key` made just now is given."""
    return KeyView(
        id=row.id,
        name=row.name,
        key=key or masked("sk-", row.tail),
        services=row.services,
        expires_at=row.expires_at,
        limits=None if row.limits is None else KeyLimits.model_validate(row.limits),
        strict=row.strict,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        for_session=row.session is not None,
    )


def router(
    db: Database,
    authenticator: Authenticator,
    sessions: Sessions,
    keys: Keys,
    published: Callable[[], Awaitable[None]],
) -> APIRouter:
    """`published` returns once every gateway has heard what the feed holds."""
    routes = APIRouter(tags=["access"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/me")
    async def get_me(caller: Caller) -> Me:
        return Me(id=caller.owner_id, name=caller.name, operator=caller.operator)

    @routes.patch("/me")
    async def update_me(request: Request, caller: Caller, body: MyChanges) -> Me:
        """Signs out every browser but the one that asks. Access tokens and API keys stay."""
        cookie = authenticator.session_of(request)
        await sessions.change_password(
            caller,
            body.current_password.get_secret_value(),
            body.password.get_secret_value(),
            request.headers.get("x-forwarded-for", ""),
            kept=cookie,
        )
        await keys.revoke_of_other_sessions(caller, cookie)
        await published()
        return Me(id=caller.owner_id, name=caller.name, operator=caller.operator)

    @routes.get("/keys")
    async def list_keys(caller: Caller, query: PageParams) -> Page[KeyView]:
        mine = select(KeyRow).where(KeyRow.user_id == caller.owner_id)
        async with db.begin() as session:
            rows, cursor = await page(session, mine, KeyRow, query)
        return Page(data=[key_view(row) for row in rows], next=cursor)

    @routes.post("/keys", status_code=201)
    async def create_key(caller: Caller, body: NewKey) -> KeyView:
        row, key = await keys.create(
            caller,
            body.name,
            services=body.services,
            expires_at=body.expires_at,
            limits=None if body.limits is None else body.limits.model_dump(),
            strict=body.strict,
        )
        await published()
        return key_view(row, key)

    @routes.patch("/keys/{key_id}")
    async def update_key(caller: Caller, key_id: str, body: KeyUpdate) -> KeyView:
        row = await keys.update(caller, key_id, body.changes())
        await published()
        return key_view(row)

    @routes.delete("/keys/{key_id}", status_code=204)
    async def delete_key(caller: Caller, key_id: str) -> Response:
        await keys.revoke(caller, key_id)
        await published()
        return Response(status_code=204)

    return routes
