"""`/keys` and `/me` of the management API."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import select

from modelry.access.authenticator import Authenticator
from modelry.access.credentials import masked
from modelry.access.keys import Keys
from modelry.access.principal import Principal
from modelry.access.store import KeyRow
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page

_PATTERN = re.compile(r"(u-[0-9a-f]{12}|public|\*)/[a-z0-9*?\[\]!-]{1,64}|\*")


def _service_pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError("must be an access path such as u-8105f7322477/test, or a glob of them")
    return text


def _in_the_future(at: datetime) -> datetime:
    if at <= datetime.now(UTC):
        raise ValueError("must lie in the future")
    return at


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    services: (
        Annotated[
            list[Annotated[str, AfterValidator(_service_pattern)]],
            Field(min_length=1, max_length=1000),
        ]
        | None
    ) = Field(None, description="Access paths or globs; without it, every service of yours.")
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_the_future)] | None = None


class KeyView(BaseModel):
    id: str
    name: str
    key: str = Field(description="Masked, like sk-…abcd; whole only in the answer to its creation.")
    services: list[str] | None
    expires_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None


class Me(BaseModel):
    id: str
    name: str
    operator: bool


def key_view(row: KeyRow, key: str | None = None) -> KeyView:
    """A key as the API shows it: masked, unless the `key` made just now is given."""
    return KeyView(
        id=row.id,
        name=row.name,
        key=key or masked("sk-", row.tail),
        services=row.services,
        expires_at=row.expires_at,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


def router(
    db: Database,
    authenticator: Authenticator,
    keys: Keys,
    published: Callable[[], Awaitable[None]],
) -> APIRouter:
    """`published` returns once every gateway has heard what the feed holds."""
    routes = APIRouter(tags=["access"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/me")
    async def get_me(caller: Caller) -> Me:
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
            caller, body.name, services=body.services, expires_at=body.expires_at
        )
        await published()
        return key_view(row, key)

    @routes.delete("/keys/{key_id}", status_code=204)
    async def delete_key(caller: Caller, key_id: str) -> Response:
        await keys.revoke(caller, key_id)
        await published()
        return Response(status_code=204)

    return routes
