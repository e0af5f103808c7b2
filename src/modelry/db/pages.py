"""Pages of rows for every list of the management API: `{"data": [...], "next": cursor}`."""

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Select

from modelry.db.database import Numbered, Session
from modelry.errors import InvalidRequest

Item = TypeVar("Item")


NumberedRow = TypeVar("NumberedRow", bound=Numbered)


class Page(BaseModel, Generic[Item]):
    data: list[Item]
    next: str | None = None


class PageQuery(BaseModel):
    """The two query parameters of every list."""

    limit: int = Field(100, ge=1, le=1000, description="How many rows at most.")
    cursor: str | None = Field(None, description="`next` of the page before.")


PageParams = Annotated[PageQuery, Query()]


def page_of(items: Sequence[Item], query: PageQuery) -> Page[Item]:
    """A page of a list that is in memory; its cursor is a position."""
    start = _position(query)
    end = start + query.limit
    return Page(data=list(items[start:end]), next=str(end) if end < len(items) else None)


def _position(query: PageQuery) -> int:
    if query.cursor is None:
        return 0
    if not (query.cursor.isascii() and query.cursor.isdigit() and len(query.cursor) < 10):
        raise InvalidRequest("cursor is not one that a list gave", param="cursor")
    return int(query.cursor)


async def page(
    session: Session,
    statement: Select[NumberedRow],
    table: type[NumberedRow],
    query: PageQuery,
) -> tuple[Sequence[NumberedRow], str | None]:
    """The rows of `table` that follow `query.cursor`, oldest first, and the next cursor.

    Raises `InvalidRequest` for a cursor that no list gave.
    """
    statement = statement.order_by(table.seq).limit(query.limit + 1)
    if query.cursor is not None:
        statement = statement.where(table.seq > _position(query))
    rows = (await session.scalars(statement)).all()
    if len(rows) <= query.limit:
        return rows, None
    rows = rows[: query.limit]
    return rows, str(rows[-1].seq)
