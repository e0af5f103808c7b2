"""API keys: what their owner asks for, and what gateways are told."""

import asyncio
from datetime import datetime, timedelta
from typing import TypedDict

import msgspec

from modelry.access import key_names, store
from modelry.access.credentials import digest, new_api_key, new_id, session_api_key
from modelry.access.principal import Principal
from modelry.db import Database, Session
from modelry.errors import NotFound, Unauthenticated
from modelry.routing.feed import Feed
from modelry.routing.messages import KeyGrant, Limits

SESSION_KEY_LIFE = timedelta(hours=1)


class KeyChanges(TypedDict, total=False):
    """What changes of a key; a field that is left out stays. None clears, as in a new key.

    Of `limits` too only what is given changes; None in its place clears them all.
    """

    name: str
    services: list[str] | None
    expires_at: datetime | None
    limits: dict[str, int | None] | None
    strict: bool


def grant_of(row: store.KeyRow) -> KeyGrant:
    return KeyGrant(
        id=row.id,
        hash=row.hash,
        owner_id=row.user_id,
        services=None if row.services is None else tuple(row.services),
        expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
        limits=None if row.limits is None else msgspec.convert(row.limits, Limits),
        number=row.seq,
        strict=row.strict,
    )


async def publish_keys(session: Session, feed: Feed) -> None:
    """Put every stored key into the feed, at the start. Keys of sessions that are over go first."""
    await store.remove_session_keys(session, None)
    for row in await store.all_keys(session):
        feed.put_key(grant_of(row))


class Keys:
    """Creates, changes and revokes keys. The feed hears of each change once it is stored."""

    def __init__(self, db: Database, feed: Feed) -> None:
        self._db = db
        self._feed = feed
        # The feed hears of changes in the order they are stored in: a key that
        # is revoked must not come back by an update from a moment before.
        self._changing = asyncio.Lock()

    async def create(
        self,
        principal: Principal,
        name: str,
        *,
        services: list[str] | None,
        expires_at: datetime | None,
        limits: dict[str, int | None] | None,
        strict: bool = False,
    ) -> tuple[store.KeyRow, str]:
        """The new row, and the key itself, which is nowhere to be had again."""
        key = new_api_key()
        row = store.KeyRow(
            id=new_id("key"),
            user_id=principal.owner_id,
            name=name,
            hash=digest(key),
            tail=key[-4:],
            services=services,
            limits=_given(limits or {}),
            expires_at=expires_at,
            strict=strict,
        )
        async with self._db.begin() as session:
            session.add(row)
        self._feed.put_key(grant_of(row))
        return row, key

    async def update(self, principal: Principal, key_id: str, changes: KeyChanges) -> store.KeyRow:
        async with self._changing:
            async with self._db.begin() as session:
                row = await _get(session, principal, key_id)
                if "name" in changes:
                    row.name = changes["name"]
                if "services" in changes:
                    row.services = changes["services"]
                if "expires_at" in changes:
                    row.expires_at = changes["expires_at"]
                if "strict" in changes:
                    row.strict = changes["strict"]
                if "limits" in changes:
                    row.limits = _changed(row.limits, changes["limits"])
            self._feed.put_key(grant_of(row))
        return row

    async def revoke(self, principal: Principal, key_id: str) -> None:
        async with self._changing:
            async with self._db.begin() as session:
                row = await _get(session, principal, key_id)
                await key_names.remember(session, row)
                await session.delete(row)
            self._feed.drop_key(key_id)

    async def ensure_for_session(
        self, principal: Principal, cookie: str, access_path: str
    ) -> tuple[store.KeyRow, str]:
        """A key with which the browser that has `cookie` calls one service for an hour from now.

        It is the same key each time, so a browser's pages share it, and there are no more keys
        than sessions and services. Those that have expired are removed on this occasion. Raises
        `Unauthenticated` where the session is over.
        """
        key = session_api_key(cookie, access_path)
        async with self._changing:
            async with self._db.begin() as session:
                if await store.user_by_session(session, digest(cookie)) is None:
                    # Signed out meanwhile: nobody would revoke this key.
                    raise Unauthenticated("you are signed out")
                expired = await store.remove_session_keys(session, None)
                row = await store.key_by_hash(session, digest(key))
                if row is None:
                    row = store.KeyRow(
                        id=new_id("key"),
                        user_id=principal.owner_id,
                        name=f"playground of {access_path.rpartition('/')[2]}",
                        hash=digest(key),
                        tail=key[-4:],
                        services=[access_path],
                        session=digest(cookie),
                    )
                    session.add(row)
                    await key_names.remember(session, row)
                row.expires_at = store.now() + SESSION_KEY_LIFE
            for key_id in expired:
                self._feed.drop_key(key_id)
            self._feed.put_key(grant_of(row))
        return row, key

    async def revoke_of_session(self, cookie: str) -> None:
        async with self._changing:
            async with self._db.begin() as session:
                gone = await store.remove_session_keys(session, digest(cookie))
            for key_id in gone:
                self._feed.drop_key(key_id)

    async def revoke_of_other_sessions(self, principal: Principal, cookie: str | None) -> None:
        """End the keys of all their browser sessions, but for the one that has `cookie`."""
        kept = None if cookie is None else digest(cookie)
        async with self._changing:
            async with self._db.begin() as session:
                gone = await store.remove_keys_of_other_sessions(session, principal.owner_id, kept)
            for key_id in gone:
                self._feed.drop_key(key_id)

    async def note_use(self, last_used_at: dict[str, float]) -> None:
        async with self._db.begin() as session:
            await store.note_key_use(session, last_used_at)


async def _get(session: Session, principal: Principal, key_id: str) -> store.KeyRow:
    row = await store.key_of(session, principal.owner_id, key_id)
    if row is None:
        raise NotFound(f"there is no key {key_id}", code="key_not_found")
    return row


def _given(limits: dict[str, int | None]) -> dict[str, int] | None:
    """Limits as they are stored: only those that there are, NULL for none."""
    return {name: most for name, most in limits.items() if most is not None} or None


def _changed(
    limits: dict[str, int] | None, changes: dict[str, int | None] | None
) -> dict[str, int] | None:
    return None if changes is None else _given({**(limits or {}), **changes})
