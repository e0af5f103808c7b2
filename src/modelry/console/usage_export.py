"""Usage as a file, made while it is read: a period may have more rows than fit into memory."""

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from modelry.access.key_names import KeyName, names_of
from modelry.console.usage_period import Period
from modelry.db import Database
from modelry.usage import store

COLUMNS = ("from", "service", "service_id", "key", "key_name", *store.SUMS)
_A_TIME = 1000
# A spreadsheet takes a cell that begins so for a formula; a quote before it makes it a text.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


async def as_csv(db: Database, period: Period, owner_id: str | None) -> AsyncIterator[str]:
    """With a line of headings, as RFC 4180 has it."""
    yield _lines([COLUMNS])
    async for rows in _rows(db, period, owner_id):
        yield _lines([[defused(each) for each in row] for row in rows])


async def as_json(db: Database, period: Period, owner_id: str | None) -> AsyncIterator[str]:
    """A list of objects."""
    between = "["
    async for rows in _rows(db, period, owner_id):
        for row in rows:
            yield f"{between}\n{json.dumps(dict(zip(COLUMNS, row, strict=True)))}"
            between = ","
    yield "[]\n" if between == "[" else "\n]\n"


def defused(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers are none."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULAS) else cell


async def _rows(
    db: Database, period: Period, owner_id: str | None
) -> AsyncIterator[list[Sequence[Any]]]:
    summary = period.summary(f"{period.step},service,key")
    after: Sequence[datetime | str] | None = None
    while True:
        async with db.begin() as session:
            found = await store.summed_up(
                session, summary, owner_id=owner_id, after=after, limit=_A_TIME
            )
            names = await names_of(session, {row.key_id for row in found})
        yield [_cells(row, names.get(row.key_id)) for row in found]
        if len(found) < _A_TIME:
            return
        after = tuple(found[-1][: len(summary.columns)])


def _cells(row: Row[Any], key: KeyName | None) -> list[Any]:
    values = list(row)
    start, access_path, service_id, key_id = values[:4]
    names = [start.isoformat(), access_path, service_id, key_id, "" if key is None else key.name]
    return [*names, *(round(value, 3) for value in values[4:])]


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
