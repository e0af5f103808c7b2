"""The intake of usage on a database of either kind, and what is then in its tables."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from modelry.db import Database
from modelry.routing.messages import UsageBatch, UsageTaken
from modelry.usage import store
from modelry.usage.intake import Intake
from modelry.usage.summary import Summary
from tests.support.postgres import Postgres

_names = itertools.count(1)


class Books:
    """A database and the intake that writes into it; `restart` makes the latter anew."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.restart()

    def restart(self) -> None:
        self.intake = Intake(self.db, keep_days=36_500)

    async def take(
        self, lines: bytes, start: int = 0, *, source: str = "a", segment: int = 1
    ) -> tuple[int, int]:
        """Hand a batch in; returns up to where its spool is taken."""
        batch = UsageBatch(source, segment, start, len(lines))
        taken = await self.intake.take(batch, lines)
        assert isinstance(taken, UsageTaken)
        assert taken.source == source
        return taken.segment, taken.offset

    async def events(self) -> list[str]:
        """The request ids of the stored events."""
        async with self.db.begin() as session:
            found = await session.scalars(select(store.UsageEventRow.request_id))
            return sorted(found)

    async def sums(self, *groups: str, **options: Any) -> list[tuple[Any, ...]]:
        """Rows of the summary of all time."""
        start, end = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        summary = Summary(options.pop("start", start), options.pop("end", end), groups)
        given = {"owner_id": None, "after": None, "limit": 1000, **options}
        async with self.db.begin() as session:
            return [tuple(row) for row in await store.summed_up(session, summary, **given)]

    async def requests(self) -> int:
        """How many requests the hours have."""
        async with self.db.begin() as session:
            return await session.scalar(select(func.sum(store.UsageHourRow.requests))) or 0


Story = Callable[[Books], Awaitable[None]]
Run = Callable[[Story], None]


def on_database(request: pytest.FixtureRequest, folder: Path) -> Run:
    """Runs a story on an empty database of the kind that `request.param` names."""
    url = None
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.make_database(f"usage_{next(_names)}")

    async def play(story: Story) -> None:
        async with AsyncExitStack() as stack:
            db = Database(url, folder / "modelry.db")
            stack.push_async_callback(db.close)
            await db.migrate()
            await story(Books(db))

    return lambda story: asyncio.run(play(story))
