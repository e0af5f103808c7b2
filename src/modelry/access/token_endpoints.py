"""`/tokens` of the management API."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from modelry.access.authenticator import Authenticator
from modelry.access.credentials import masked
from modelry.access.fields import Expiry, Name
from modelry.access.principal import Principal
from modelry.access.store import AccessTokenRow
from modelry.access.tokens import Tokens
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page


class NewToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    expires_at: Expiry = None


class TokenView(BaseModel):
    id: str
    name: str
    token: str = Field(
        description="Masked, like pat-…abcd; whole only in the answer to its creation."
    )
    origin: Literal["user", "start", "local"] = Field(
        description="`user`: made by its owner. `start`: the operator's of the first start, or the "
        "one of MODELRY_ADMIN_TOKEN, which is back after each start that sets it. `local`: the "
        "command line's on the machine that Modelry runs on, a fresh one at each start."
    )
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


def token_view(row: AccessTokenRow, token: str | None = None) -> TokenView:
    """An access token as the API shows it: masked, unless the `token` made just now is given."""
    return TokenView.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "token": token or masked("pat-", row.tail),
            "origin": row.origin,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "last_used_at": row.last_used_at,
        }
    )


def router(db: Database, authenticator: Authenticator, tokens: Tokens) -> APIRouter:
    routes = APIRouter(tags=["access"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/tokens")
    async def list_tokens(caller: Caller, query: PageParams) -> Page[TokenView]:
        mine = select(AccessTokenRow).where(AccessTokenRow.user_id == caller.owner_id)
        async with db.begin() as session:
            rows, cursor = await page(session, mine, AccessTokenRow, query)
        return Page(data=[token_view(row) for row in rows], next=cursor)

    @routes.post("/tokens", status_code=201)
    async def create_token(caller: Caller, body: NewToken) -> TokenView:
        return token_view(*await tokens.create(caller, body.name, body.expires_at))

    @routes.delete("/tokens/{token_id}", status_code=204)
    async def delete_token(caller: Caller, token_id: str) -> Response:
        await tokens.delete(caller, token_id)
        return Response(status_code=204)

    return routes
