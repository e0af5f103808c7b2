"""A password is changed by who knows it, and what it let in before is out, on both databases."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from modelry.access import sessions as sessions_module
from modelry.access import store
from modelry.access.bootstrap import ensure_operator
from modelry.access.credentials import password_matches
from modelry.access.keys import Keys
from modelry.access.principal import Principal, principal_of
from modelry.access.sessions import Sessions, TooManyAttempts, WrongPassword
from modelry.db import Database
from modelry.errors import Unauthenticated
from modelry.routing.feed import Feed
from tests.support.databases import KINDS, Play, empty_database, play

OLD, NEW = "the old password", "the new password"
PEER = "192.0.2.1"


@pytest.fixture(params=KINDS)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    return partial(play, empty_database(request, request.param, "passwords", tmp_path))


async def operator(db: Database, password: str = OLD) -> Principal:
    async with db.begin() as session:
        user, _ = await ensure_operator(session, password, None)
    return principal_of(user)


async def signed_in(sessions: Sessions, *cookies: str) -> list[bool]:
    return [await sessions.principal(cookie) is not None for cookie in cookies]


def test_it_opens_and_the_one_before_no_longer(on: Play) -> None:
    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        await sessions.change_password(me, OLD, NEW, PEER, kept=None)
        assert await sessions.sign_in(me.name, NEW, PEER)
        with pytest.raises(Unauthenticated):
            await sessions.sign_in(me.name, OLD, PEER)

    on(story)


def test_without_the_current_one_nothing_changes(on: Play) -> None:
    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        cookie = await sessions.sign_in(me.name, OLD, PEER)
        with pytest.raises(WrongPassword) as refusal:
            await sessions.change_password(me, NEW, NEW, PEER, kept=None)
        assert refusal.value.param == "current_password"
        assert await signed_in(sessions, cookie) == [True]
        assert await sessions.sign_in(me.name, OLD, PEER)

    on(story)


@pytest.mark.parametrize("keeps", [True, False])
def test_every_other_browser_is_signed_out_and_its_playgrounds_end(on: Play, keeps: bool) -> None:
    async def story(db: Database) -> None:
        me, sessions, feed = await operator(db), Sessions(db), Feed()
        keys = Keys(db, feed)
        mine, other = [await sessions.sign_in(me.name, OLD, PEER) for _ in range(2)]
        own, _ = await keys.create(me, "own", services=None, expires_at=None, limits=None)
        path = f"{me.owner_id}/demo"
        of_mine, _ = await keys.ensure_for_session(me, mine, path)
        await keys.ensure_for_session(me, other, path)
        async with db.begin() as session:
            session.add(store.UserRow(id="u-000000000001", name="guest", operator=False))
            await session.flush()
            later = store.now() + sessions_module.LIFE
            guest = store.SessionRow(hash="g" * 64, user_id="u-000000000001", expires_at=later)
            session.add(guest)

        kept = mine if keeps else None
        await sessions.change_password(me, OLD, NEW, PEER, kept=kept)
        await keys.revoke_of_other_sessions(me, kept)

        assert await signed_in(sessions, mine, other) == [keeps, False]
        async with db.begin() as session:
            assert await session.get(store.SessionRow, "g" * 64) is not None
            stored = [row.id for row in await store.all_keys(session)]
        assert stored == ([own.id, of_mine.id] if keeps else [own.id])
        assert [grant.id for grant in feed.snapshot().keys] == stored

    on(story)


def test_attempts_count_as_those_to_sign_in_do(on: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def story(db: Database) -> None:
        nonlocal now
        me, sessions = await operator(db), Sessions(db)
        for _ in range(5):
            with pytest.raises(WrongPassword):
                await sessions.change_password(me, "a guess", NEW, PEER, kept=None)
            with pytest.raises(Unauthenticated):
                await sessions.sign_in(me.name, "a guess", PEER)
        with pytest.raises(TooManyAttempts):
            await sessions.change_password(me, OLD, NEW, PEER, kept=None)
        with pytest.raises(TooManyAttempts):
            await sessions.sign_in(me.name, OLD, PEER)
        assert await sessions.sign_in(me.name, OLD, "192.0.2.2")
        now += 61
        await sessions.change_password(me, OLD, NEW, PEER, kept=None)

    on(story)


def test_of_two_changes_at_once_one_is_made(on: Play) -> None:
    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        wanted = ("one password", "another password")
        asked = (sessions.change_password(me, OLD, each, PEER, kept=None) for each in wanted)
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert sorted(str(type(each).__name__) for each in done) == ["NoneType", "WrongPassword"]
        made = wanted[done.index(None)]
        async with db.begin() as session:
            user = await store.user_by_name(session, me.name)
        assert user is not None
        assert password_matches(made, user.password_hash or "")

    on(story)


def test_who_signs_in_with_the_old_one_meanwhile_is_not_in(
    on: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash was compared before the change; the session would outlive it."""

    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        compare = asyncio.to_thread

        async def slowly(check: Callable[..., bool], *passwords: str) -> bool:
            monkeypatch.setattr(asyncio, "to_thread", compare)
            matches = await compare(check, *passwords)
            await sessions.change_password(me, OLD, NEW, PEER, kept=None)
            return matches

        monkeypatch.setattr(asyncio, "to_thread", slowly)
        with pytest.raises(Unauthenticated):
            await sessions.sign_in(me.name, OLD, PEER)
        async with db.begin() as session:
            assert (await session.scalars(select(store.SessionRow))).all() == []

    on(story)


def test_a_preset_one_is_back_at_the_next_start_and_signs_everybody_out(
    on: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        before = await sessions.sign_in(me.name, OLD, PEER)
        await operator(db)
        assert await signed_in(sessions, before) == [True]
        assert "MODELRY_ADMIN_PASSWORD" not in caplog.text

        await sessions.change_password(me, OLD, NEW, PEER, kept=before)
        await Keys(db, Feed()).ensure_for_session(me, before, f"{me.owner_id}/demo")
        await operator(db)
        assert "MODELRY_ADMIN_PASSWORD" in caplog.text
        assert OLD not in caplog.text
        assert await signed_in(sessions, before) == [False]
        async with db.begin() as session:
            assert await store.all_keys(session) == []
        assert await sessions.sign_in(me.name, OLD, PEER)

    on(story)


def test_a_start_that_presets_none_leaves_it(on: Play) -> None:
    async def story(db: Database) -> None:
        me, sessions = await operator(db), Sessions(db)
        await sessions.change_password(me, OLD, NEW, PEER, kept=None)
        async with db.begin() as session:
            await ensure_operator(session, None, None)
        assert await sessions.sign_in(me.name, NEW, PEER)

    on(story)
