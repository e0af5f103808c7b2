"""Keys of browsers' sessions end without anybody asking for another, and cost no other key."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from modelry.access import store
from modelry.access.bootstrap import ensure_operator
from modelry.access.credentials import digest
from modelry.access.keys import Keys, publish_keys
from modelry.access.principal import Principal, principal_of
from modelry.db import Database
from modelry.errors import Unauthenticated
from modelry.routing.feed import Feed

Then = Callable[[Database, Keys, Principal], Awaitable[None]]


async def nothing(db: Database, keys: Keys, owner: Principal) -> None:
    pass


async def start(db: Database, keys: Keys, owner: Principal) -> None:
    async with db.begin() as session:
        # Of a process that comes after this one; what this one's gateways know stays.
        await publish_keys(session, Feed())


async def ask(db: Database, keys: Keys, owner: Principal) -> None:
    await keys.ensure_for_session(owner, "another cookie", f"{owner.owner_id}/open")


async def sign_out(db: Database, keys: Keys, owner: Principal) -> None:
    async with db.begin() as session:
        await store.remove_sessions(session, digest("a cookie"))
    await keys.revoke_of_session("a cookie")


async def sign_out_and_ask(db: Database, keys: Keys, owner: Principal) -> None:
    """A page asks that was let in before its session ended."""
    await sign_out(db, keys, owner)
    with pytest.raises(Unauthenticated):
        await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/open")


def names_after(then: Then, path: Path) -> list[str]:
    """Of the keys that are stored and of those that gateways know, which are the same."""

    async def run() -> list[str]:
        db = Database(None, path)
        await db.migrate()
        try:
            async with db.begin() as session:
                user, _ = await ensure_operator(session, None, None)
                ends_at = store.now() + timedelta(days=1)
                for cookie in ("a cookie", "another cookie"):
                    row = store.SessionRow(hash=digest(cookie), user_id=user.id, expires_at=ends_at)
                    session.add(row)
            owner, feed = principal_of(user), Feed()
            keys = Keys(db, feed)
            await keys.create(owner, "own", services=None, expires_at=None, limits=None)
            past = store.now() - timedelta(seconds=1)
            await keys.create(owner, "own, over", services=None, expires_at=past, limits=None)
            await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/open")
            left, _ = await keys.ensure_for_session(owner, "a cookie", f"{owner.owner_id}/left")
            async with db.begin() as session:
                last = await store.key_of(session, owner.owner_id, left.id)
                assert last is not None
                last.expires_at = past
            await then(db, keys, owner)
            async with db.begin() as session:
                rows = await store.all_keys(session)
            assert {each.id for each in rows} <= {each.id for each in feed.snapshot().keys}
            if then is not start:
                assert len(rows) == len(feed.snapshot().keys)
            return [each.name for each in rows]
        finally:
            await db.close()

    return asyncio.run(run())


# An expired key that somebody made stays in their list.
OWN = ["own", "own, over"]


def test_a_playground_that_asks_for_its_key_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "modelry.db"
    assert names_after(nothing, path) == [*OWN, "playground of open", "playground of left"]


def test_keys_of_sessions_that_have_expired_go_when_another_asks(tmp_path: Path) -> None:
    path = tmp_path / "modelry.db"
    assert names_after(ask, path) == [*OWN, "playground of open", "playground of open"]


def test_keys_of_a_session_go_with_it(tmp_path: Path) -> None:
    assert names_after(sign_out, tmp_path / "modelry.db") == OWN


def test_keys_of_sessions_that_have_expired_are_gone_after_a_start(tmp_path: Path) -> None:
    assert names_after(start, tmp_path / "modelry.db") == [*OWN, "playground of open"]


def test_a_session_that_is_over_gets_no_key_any_more(tmp_path: Path) -> None:
    assert names_after(sign_out_and_ask, tmp_path / "modelry.db") == OWN
