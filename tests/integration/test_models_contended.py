"""A model that is deleted while a service is made of it, on a database with many writers."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from modelry.access.principal import Principal
from modelry.access.store import UserRow
from modelry.catalog.card_folder import Cards
from modelry.catalog.catalog import Catalog
from modelry.catalog.look import Found
from modelry.catalog.sources import LocalFile
from modelry.db import Database, Session
from modelry.errors import Conflict, NotFound
from modelry.services import store
from modelry.services.spec import ServiceSpec
from modelry.services.uses import uses_of
from tests.support.postgres import Postgres

ME = Principal("u-000000000001", "me", operator=True)
CATALOG = Catalog(Cards())


async def _prepared(postgres: Postgres, name: str) -> Database:
    url = await asyncio.to_thread(postgres.make_database, name)
    db = Database(url, Path("/unused"))
    await db.migrate()
    async with db.begin() as session:
        session.add(UserRow(id=ME.owner_id, name="me", operator=True))
        await session.flush()
        found = Found(LocalFile("/a.gguf"), "gguf")
        await CATALOG.register(session, ME, "model", found, ("chat",))
    return db


async def _add_service(session: Session, model_id: str) -> None:
    row = store.ServiceRow(
        id="svc_1", owner_id=ME.owner_id, name="chat", tasks=["chat"], want="run",
        since=store.now(), state="", message="",
    )  # fmt: skip
    session.add(row)
    await session.flush()
    spec = ServiceSpec(model=model_id, model_name="model", engine="e", variant="default")
    session.add(store.RevisionRow(service_id="svc_1", number=1, spec=spec.model_dump(mode="json")))


async def _waits_for_a_lock(db: Database) -> None:
    while True:
        async with db.begin() as session:
            if await session.scalar(text("select count(*) from pg_locks where not granted")):
                return
        await asyncio.sleep(0.01)


async def _delete(db: Database) -> None:
    async with db.begin() as session:
        await CATALOG.delete(session, ME, "model", uses_of)


def test_a_delete_waits_for_the_service_that_is_being_made(postgres: Postgres) -> None:
    async def contended() -> None:
        db = await _prepared(postgres, "deleted_late")
        async with db.begin() as session:
            model = await CATALOG.get(session, ME, "model", keep=True)
            deleting = asyncio.create_task(_delete(db))
            await asyncio.wait_for(_waits_for_a_lock(db), 10)
            await _add_service(session, model.card.id)
        with pytest.raises(Conflict, match="service chat"):
            await deleting
        await db.close()

    asyncio.run(contended())


def test_a_service_waits_for_the_delete_and_finds_no_model(postgres: Postgres) -> None:
    async def contended() -> None:
        db = await _prepared(postgres, "deleted_first")

        async def make() -> None:
            async with db.begin() as session:
                model = await CATALOG.get(session, ME, "model", keep=True)
                await _add_service(session, model.card.id)

        async with db.begin() as session:
            await CATALOG.delete(session, ME, "model", uses_of)
            await session.flush()
            making = asyncio.create_task(make())
            await asyncio.wait_for(_waits_for_a_lock(db), 10)
        with pytest.raises(NotFound):
            await making
        await db.close()

    asyncio.run(contended())
