"""Access tokens: made, used, expired and deleted, on both databases."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from fastapi import Request
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from modelry.access import bootstrap, store, tokens
from modelry.access.authenticator import Authenticator
from modelry.access.bootstrap import ensure_operator, renew_local_token
from modelry.access.credentials import new_access_token
from modelry.access.principal import Principal, principal_of
from modelry.access.sessions import Sessions
from modelry.access.store import AccessTokenRow, Origin
from modelry.access.tokens import TOKENS_MAX, Tokens
from modelry.db import Database
from modelry.errors import Conflict, NotFound, Unauthenticated
from tests.support.databases import KINDS, Play, empty_database, migrate_to, play


@pytest.fixture(params=KINDS)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    return partial(play, empty_database(request, request.param, "tokens", tmp_path))


async def operator(db: Database, token: str | None = None) -> Principal:
    async with db.begin() as session:
        user, _ = await ensure_operator(session, "a password", token)
    return principal_of(user)


async def called(db: Database, token: str) -> Principal:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    request = Request({"type": "http", "method": "GET", "headers": headers})
    return await Authenticator(db, Sessions(db)).principal(request)


async def rows(db: Database) -> list[AccessTokenRow]:
    async with db.begin() as session:
        return list(await session.scalars(select(AccessTokenRow).order_by(AccessTokenRow.seq)))


async def row_of(db: Database, id_: str) -> AccessTokenRow:
    return next(row for row in await rows(db) if row.id == id_)


def test_a_token_works_until_it_is_deleted(on: Play) -> None:
    async def story(db: Database) -> None:
        me = await operator(db)
        row, token = await Tokens(db).create(me, "mine", None)
        assert (row.tail, row.origin) == (token[-4:], Origin.USER)
        assert token not in str(vars(await row_of(db, row.id)))
        assert await called(db, token) == me
        await Tokens(db).delete(me, row.id)
        with pytest.raises(Unauthenticated):
            await called(db, token)
        with pytest.raises(NotFound, match=row.id):
            await Tokens(db).delete(me, row.id)

    on(story)


def test_a_token_that_has_expired_is_refused(on: Play) -> None:
    async def story(db: Database) -> None:
        me = await operator(db)
        later = store.now() + timedelta(hours=1)
        row, token = await Tokens(db).create(me, "short", later)
        assert await called(db, token) == me
        async with db.begin() as session:
            expired = update(AccessTokenRow).where(AccessTokenRow.id == row.id)
            await session.execute(expired.values(expires_at=store.now()))
        with pytest.raises(Unauthenticated):
            await called(db, token)

    on(story)


def test_use_is_noted_once_a_minute(on: Play) -> None:
    async def story(db: Database) -> None:
        row, token = await Tokens(db).create(await operator(db), "mine", None)
        assert row.last_used_at is None
        await called(db, token)
        first = (await row_of(db, row.id)).last_used_at
        assert first is not None
        assert store.now() - first < timedelta(seconds=30)
        await called(db, token)
        assert (await row_of(db, row.id)).last_used_at == first
        async with db.begin() as session:
            was = update(AccessTokenRow).where(AccessTokenRow.id == row.id)
            await session.execute(was.values(last_used_at=first - store.USE_NOTED_EVERY))
        await called(db, token)
        again = (await row_of(db, row.id)).last_used_at
        assert again is not None
        assert again > first

    on(story)


def test_a_use_that_cannot_be_noted_keeps_nobody_out(
    on: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object) -> None:
        raise OperationalError("update", {}, Exception("the disk is full"))

    async def story(db: Database) -> None:
        me = await operator(db)
        row, token = await Tokens(db).create(me, "mine", None)
        monkeypatch.setattr(store, "note_token_use", full)
        assert await called(db, token) == me
        assert row.id in caplog.text
        assert token not in caplog.text

    on(story)


def test_nobody_deletes_another_s(on: Play) -> None:
    async def story(db: Database) -> None:
        me = await operator(db)
        row, token = await Tokens(db).create(me, "mine", None)
        async with db.begin() as session:
            session.add(store.UserRow(id="u-000000000001", name="other", operator=True))
        other = Principal("u-000000000001", "other", operator=True)
        with pytest.raises(NotFound):
            await Tokens(db).delete(other, row.id)
        assert await called(db, token) == me

    on(story)


def test_there_are_so_many_and_no_more_however_they_are_asked_for(
    on: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 3)
    assert TOKENS_MAX > 3

    async def story(db: Database) -> None:
        me, of_mine = await operator(db), Tokens(db)
        asked = (of_mine.create(me, f"number {n}", None) for n in range(6))
        made = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in made if isinstance(each, Conflict)]
        kept = [each for each in made if isinstance(each, tuple)]
        assert (len(kept), len(refused)) == (3, 3)
        assert {each.code for each in refused} == {"too_many_tokens"}
        # Those of a start take nobody's room, and one that goes makes some.
        assert len(await rows(db)) == 4
        await of_mine.delete(me, kept[0][0].id)
        await of_mine.create(me, "one more", None)

    on(story)


# -- those of a start ----------------------------------------------------------


def test_the_local_command_line_s_is_not_deleted_but_replaced_by_a_start(on: Play) -> None:
    async def start(db: Database) -> str:
        async with db.begin() as session:
            user, _ = await ensure_operator(session, None, None)
            return await renew_local_token(session, user)

    async def story(db: Database) -> None:
        token = await start(db)
        me = await called(db, token)
        (local,) = [row for row in await rows(db) if row.origin == Origin.LOCAL]
        with pytest.raises(Conflict, match="command line") as refusal:
            await Tokens(db).delete(me, local.id)
        assert refusal.value.code == "local_token"
        assert await called(db, token) == me
        # One of its name that somebody made is theirs.
        _, own = await Tokens(db).create(me, local.name, None)
        fresh = await start(db)
        assert await called(db, fresh) == await called(db, own) == me
        with pytest.raises(Unauthenticated):
            await called(db, token)

    on(story)


def test_a_preset_token_stays_what_it_is_over_starts_and_is_back_after_its_deletion(
    on: Play,
) -> None:
    async def story(db: Database) -> None:
        token = new_access_token()
        me = await operator(db, token)
        await called(db, token)
        before = await rows(db)
        await operator(db, token)
        after = await rows(db)
        assert [row.id for row in after] == [row.id for row in before]
        assert after[0].last_used_at == before[0].last_used_at
        assert after[0].last_used_at is not None
        await Tokens(db).delete(me, after[0].id)
        with pytest.raises(Unauthenticated):
            await called(db, token)
        await operator(db, token)
        assert await called(db, token) == me

    on(story)


def test_another_preset_token_takes_the_place_of_the_last(on: Play) -> None:
    async def story(db: Database) -> None:
        first, second = new_access_token(), new_access_token()
        me = await operator(db, first)
        _, own = await Tokens(db).create(me, bootstrap.ADMIN, None)
        await operator(db, second)
        with pytest.raises(Unauthenticated):
            await called(db, first)
        assert await called(db, second) == await called(db, own) == me

    on(story)


def test_a_token_that_was_made_by_hand_can_be_preset(on: Play) -> None:
    async def story(db: Database) -> None:
        me = await operator(db)
        _, token = await Tokens(db).create(me, "mine", store.now() + timedelta(hours=1))
        await operator(db, token)
        (row,) = await rows(db)
        assert (row.origin, row.expires_at) == (Origin.START, None)
        assert await called(db, token) == me

    on(story)


# -- those of before -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_earlier_starts_are_known_as_such(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    db = empty_database(request, kind, "tokens", tmp_path)

    async def before() -> None:
        engine = create_async_engine(db.url)
        async with engine.begin() as connection:
            await connection.run_sync(partial(migrate_to, "0010"))
            await connection.execute(
                text(
                    "insert into users (id, name, operator, created_at) "
                    "values ('u-1', 'admin', true, '2026-01-01 00:00:00')"
                )
            )
            for n, name in enumerate(("admin", "local command line", "tests")):
                values = {"id": f"tok_{n}", "name": name, "hash": str(n)}
                await connection.execute(
                    text(
                        "insert into access_tokens (id, user_id, name, hash, tail, created_at) "
                        "values (:id, 'u-1', :name, :hash, 'abcd', '2026-01-01 00:00:00')"
                    ),
                    values,
                )
        await engine.dispose()

    async def story(db: Database) -> None:
        found = [(row.name, row.origin, row.expires_at) for row in await rows(db)]
        assert found == [
            ("admin", Origin.START, None),
            ("local command line", Origin.LOCAL, None),
            ("tests", Origin.USER, None),
        ]

    asyncio.run(before())
    play(db, story)
