"""API keys: what their owner asks for, and what gateways are told."""

from datetime import datetime

from modelry.access import store
from modelry.access.credentials import digest, new_api_key, new_id
from modelry.access.principal import Principal
from modelry.db import Database, Session
from modelry.errors import NotFound
from modelry.routing.feed import Feed
from modelry.routing.messages import KeyGrant


def grant_of(row: store.KeyRow) -> KeyGrant:
    return KeyGrant(
        id=row.id,
        hash=row.hash,
        owner_id=row.user_id,
        services=None if row.services is None else tuple(row.services),
        expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
    )


async def publish_keys(session: Session, feed: Feed) -> None:
    """Put every stored key into the feed, at the start."""
    for row in await store.all_keys(session):
        feed.put_key(grant_of(row))


class Keys:
    """Creates and revokes keys. The feed hears of each change once it is stored."""

    def __init__(self, db: Database, feed: Feed) -> None:
        self._db = db
        self._feed = feed

    async def create(
        self,
        principal: Principal,
        name: str,
        *,
        services: list[str] | None,
        expires_at: datetime | None,
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
            expires_at=expires_at,
        )
        async with self._db.begin() as session:
            session.add(row)
        self._feed.put_key(grant_of(row))
        return row, key

    async def revoke(self, principal: Principal, key_id: str) -> None:
        async with self._db.begin() as session:
            row = await store.key_of(session, principal.owner_id, key_id)
            if row is None:
                raise NotFound(f"there is no key {key_id}", code="key_not_found")
            await session.delete(row)
        self._feed.drop_key(key_id)

    async def note_use(self, last_used_at: dict[str, float]) -> None:
        async with self._db.begin() as session:
            await store.note_key_use(session, last_used_at)
