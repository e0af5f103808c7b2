"""Stories that are played on an empty database of either kind."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

import modelry.db
from modelry.db import Database
from tests.support.postgres import Postgres

Story = Callable[[Database], Awaitable[None]]
Play = Callable[[Story], None]
_numbers = itertools.count(1)

KINDS = ("sqlite", "postgresql")


def empty_database(request: pytest.FixtureRequest, kind: str, name: str, folder: Path) -> Database:
    """It has no table yet. `name` is what those of the caller's tests are called."""
    url = None
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.make_database(f"{name}_{next(_numbers)}")
    return Database(url, folder / "modelry.db")


def play(db: Database, story: Story) -> None:
    async def run() -> None:
        try:
            await db.migrate()
            await story(db)
        finally:
            await db.close()

    asyncio.run(run())


def migrate_to(version: str, connection: Connection) -> None:
    """Bring the schema to that of an earlier version of Modelry."""
    config = Config()
    migrations = Path(modelry.db.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    command.upgrade(config, version)
