"""Keys as people look for them, and what those are called that are gone, on both databases."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import create_async_engine

from modelry.access import store
from modelry.access.bootstrap import ensure_operator
from modelry.access.credentials import digest
from modelry.access.key_list import find_keys
from modelry.access.key_names import KeyName, names_of
from modelry.access.keys import Keys
from modelry.access.principal import Principal, principal_of
from modelry.db import Database
from modelry.routing.feed import Feed
from tests.support.databases import KINDS, Play, empty_database, migrate_to, play


@pytest.fixture(params=KINDS)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    return partial(play, empty_database(request, request.param, "names", tmp_path))


async def operator(db: Database) -> Principal:
    """Who has signed in with the browser of `a cookie`."""
    async with db.begin() as session:
        user, _ = await ensure_operator(session, "a password", None)
        ends_at = store.now() + timedelta(days=1)
        session.add(store.SessionRow(hash=digest("a cookie"), user_id=user.id, expires_at=ends_at))
    return principal_of(user)


async def made(keys: Keys, owner: Principal, name: str) -> store.KeyRow:
    row, _ = await keys.create(owner, name, services=None, expires_at=None, limits=None)
    return row


async def found(db: Database, owner: Principal, text: str, *, sessions: bool = False) -> list[str]:
    async with db.begin() as session:
        rows, count = await find_keys(
            session, owner.owner_id, of_sessions=sessions, text=text, start=0, limit=9
        )
    assert count == len(rows)
    return [row.name for row in rows]


def test_a_key_that_is_gone_is_still_called_what_it_was(on: Play) -> None:
    async def story(db: Database) -> None:
        owner, keys = await operator(db), Keys(db, Feed())
        stays = await made(keys, owner, "stays")
        goes = await made(keys, owner, "first")
        await keys.update(owner, goes.id, {"name": "then"})
        tried, _ = await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/demo")
        await keys.revoke(owner, goes.id)
        async with db.begin() as session:
            expired = update(store.KeyRow).where(store.KeyRow.id == tried.id)
            await session.execute(expired.values(expires_at=store.now() - timedelta(hours=1)))
            assert await store.remove_session_keys(session, None) == [tried.id]
        async with db.begin() as session:
            names = await names_of(session, [stays.id, goes.id, tried.id, "key_of_nobody"])
        assert names == {
            stays.id: KeyName("stays", for_session=False, gone=False),
            goes.id: KeyName("then", for_session=False, gone=True),
            tried.id: KeyName("playground of demo", for_session=True, gone=True),
        }

    on(story)


def test_a_session_s_key_may_be_revoked_by_hand(on: Play) -> None:
    async def story(db: Database) -> None:
        owner, keys = await operator(db), Keys(db, Feed())
        tried, _ = await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/demo")
        await keys.revoke(owner, tried.id)
        async with db.begin() as session:
            (name,) = (await names_of(session, [tried.id])).values()
        assert (name.for_session, name.gone) == (True, True)

    on(story)


def test_keys_are_found_by_a_part_of_the_name_or_what_a_masked_one_shows(on: Play) -> None:
    async def story(db: Database) -> None:
        owner, keys = await operator(db), Keys(db, Feed())
        await made(keys, owner, "Support_bot")
        percent = await made(keys, owner, "100% test")
        await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/demo")
        assert await found(db, owner, "") == ["100% test", "Support_bot"]
        assert await found(db, owner, "", sessions=True) == ["playground of demo"]
        assert await found(db, owner, "support") == ["Support_bot"]
        # What databases take for anything is what it is.
        assert await found(db, owner, "%") == ["100% test"]
        assert await found(db, owner, "t_b") == ["Support_bot"]
        for shown in (percent.id, percent.tail, f"sk-…{percent.tail}"):
            assert "100% test" in await found(db, owner, shown)
        stranger = Principal("u-000000000000", "stranger", operator=False)
        assert await found(db, stranger, "") == []

    on(story)


def test_a_page_of_keys_follows_another(on: Play) -> None:
    async def story(db: Database) -> None:
        owner, keys = await operator(db), Keys(db, Feed())
        for number in range(5):
            await made(keys, owner, f"key {number}")
        async with db.begin() as session:
            rows, count = await find_keys(
                session, owner.owner_id, of_sessions=False, text="", start=2, limit=2
            )
        assert ([row.name for row in rows], count) == (["key 2", "key 1"], 5)

    on(story)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_browsers_from_before_keep_their_names_once_they_end(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    db = empty_database(request, kind, "names", tmp_path)
    made = "'u-1', 'h', 'abcd', '2026-01-01 00:00:00', '2026-01-01 00:00:00'"

    async def before() -> None:
        engine = create_async_engine(db.url)
        async with engine.begin() as connection:
            await connection.run_sync(partial(migrate_to, "0010"))
            for statement in (
                "insert into users (id, name, operator, created_at) "
                "values ('u-1', 'admin', true, '2026-01-01 00:00:00')",
                "insert into keys (id, name, session, user_id, hash, tail, created_at, expires_at) "
                f"values ('key_tried', 'playground of demo', 's', {made})",
                "insert into keys (id, name, session, user_id, hash, tail, created_at, expires_at) "
                f"values ('key_own', 'own', null, {made.replace('h', 'i', 1)})",
            ):
                await connection.execute(text(statement))
        await engine.dispose()

    async def story(db: Database) -> None:
        async with db.begin() as session:
            assert await store.remove_session_keys(session, None) == ["key_tried"]
            names = await names_of(session, ["key_tried", "key_own"])
        assert names == {
            "key_tried": KeyName("playground of demo", for_session=True, gone=True),
            "key_own": KeyName("own", for_session=False, gone=False),
        }

    asyncio.run(before())
    play(db, story)
