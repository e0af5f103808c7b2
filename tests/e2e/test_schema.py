"""Migrations make exactly the tables that the code declares, on both databases."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

# Imported for the tables that they declare.
import modelry.access.key_names
import modelry.access.store
import modelry.catalog.store
import modelry.services.conformance.store
import modelry.services.store
import modelry.usage.series.store
import modelry.usage.store
from modelry.db import Base, Database
from tests.support.postgres import Postgres

DECLARED = (
    modelry.access.key_names,
    modelry.access.store,
    modelry.catalog.store,
    modelry.services.conformance.store,
    modelry.services.store,
    modelry.usage.series.store,
    modelry.usage.store,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of either kind."""
    url = None
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.make_database(f"schema_{tmp_path.name.strip('_')}".lower()[:60])
    return Database(url, tmp_path / "modelry.db")


async def migrated(database: Database) -> None:
    try:
        await database.migrate()
        # A second start finds nothing to do.
        await database.migrate()
    finally:
        await database.close()


async def looked_at(database: Database, look: Any) -> Any:
    engine = create_async_engine(database.url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()


def differences(connection: Connection) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    found: list[Any] = compare_metadata(context, Base.metadata)
    return found


def test_a_migrated_database_is_what_the_code_declares(database: Database) -> None:
    assert asyncio.run(looked_at(database, lambda found: inspect(found).get_table_names())) == []
    asyncio.run(migrated(database))
    assert asyncio.run(looked_at(database, differences)) == []
    tables = asyncio.run(looked_at(database, lambda found: inspect(found).get_table_names()))
    assert set(tables) == {*Base.metadata.tables, "alembic_version"}
    assert {"users", "keys", "services", "replicas", "usage_hours"} <= set(tables)


def test_a_table_that_no_migration_makes_is_noticed(database: Database) -> None:
    asyncio.run(migrated(database))

    def drop_one(connection: Connection) -> list[Any]:
        connection.execute(text("drop table events"))
        return differences(connection)

    kinds = [each[0] for each in asyncio.run(looked_at(database, drop_one))]
    assert "add_table" in kinds
