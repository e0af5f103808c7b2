"""`/usage` of the management API, and `/metrics` beside it."""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Row

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db import Database
from modelry.db.pages import Page, PageQuery
from modelry.usage import exposition, store
from modelry.usage.metrics import Metrics
from modelry.usage.summary import cursor_after, row_before, summary_of


class UsageQuery(PageQuery):
    start: str | None = Field(
        None,
        alias="from",
        description="A date in UTC, or a time with its zone, rounded down to the hour; "
        "without it, 30 days before `to`.",
    )
    end: str | None = Field(
        None,
        alias="to",
        description="Up to this date's start, or up to this time, rounded up to the hour; "
        "without it, up to now.",
    )
    group_by: str = Field(
        "service",
        description="Any of service, key, user, and hour or day, with a comma between.",
    )


class UsageView(BaseModel):
    """The sums of one group. Of the first five fields it has those that were grouped by."""

    start: datetime | None = Field(None, alias="from", description="Of the hour or day, in UTC.")
    service: str | None = Field(None, description="Its access path.")
    service_id: str | None = None
    key: str | None = Field(None, description="The key's id.")
    user: str | None = Field(None, description="The owner id of the key's owner.")
    requests: int
    errors: int = Field(description="Those answered with a status from 400 on.")
    cancelled: int = Field(description="Those whose caller hung up.")
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = Field(
        description="Those of the prompt that the engine had computed before."
    )
    images: int = Field(description="Images that were made.")
    pixels: int = Field(description="Of these images together.")
    audio_s: float = Field(description="Seconds of speech that was written down.")
    characters: int = Field(description="Those of text that was read aloud.")
    total_tokens: int = Field(description="Prompt and completion together.")


# What the store's columns are called in a view; the others keep their names.
_NAMES = {
    "hour": "from",
    "day": "from",
    "access_path": "service",
    "key_id": "key",
    "user_id": "user",
}


def _view(columns: Sequence[str], row: Row[Any]) -> UsageView:
    values = dict(zip((_NAMES.get(name, name) for name in columns), row, strict=True))
    # To the millisecond: a sum of binary fractions has digits that nobody measured.
    values["audio_s"] = round(values["audio_s"], 3)
    return UsageView(**values, total_tokens=values["prompt_tokens"] + values["completion_tokens"])


def router(db: Database, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter(tags=["usage"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/usage", response_model_exclude_unset=True)
    async def list_usage(caller: Caller, query: Annotated[UsageQuery, Query()]) -> Page[UsageView]:
        """Usage by your own keys and of your own services; for operators, all usage."""
        summary = summary_of(query.start, query.end, query.group_by, store.now())
        async with db.begin() as session:
            rows = await store.summed_up(
                session,
                summary,
                owner_id=None if caller.operator else caller.owner_id,
                after=None if query.cursor is None else row_before(query.cursor, summary),
                limit=query.limit + 1,
            )
        cursor = None
        if len(rows) > query.limit:
            rows = rows[: query.limit]
            cursor = cursor_after(rows[-1][: len(summary.columns)])
        columns = (*summary.columns, *store.SUMS)
        return Page(data=[_view(columns, row) for row in rows], next=cursor)

    return routes


def metrics_router(authenticator: Authenticator, metrics: Metrics) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/metrics")
    async def get_metrics(request: Request) -> Response:
        """For a scraper on this machine as it is; for others with an operator's access token."""
        if not _is_local(request):
            principal = await authenticator.principal(request)
            principal.require_operator("/metrics")
        return Response(metrics.text(), media_type=exposition.CONTENT_TYPE)

    return routes


def _is_local(request: Request) -> bool:
    """Whether the gateway says that its caller is on loopback, and stands for nobody else."""
    try:
        (caller,) = request.headers.getlist("x-forwarded-for")
        return ip_address(caller).is_loopback
    except ValueError:
        return False
