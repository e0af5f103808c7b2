"""What API keys are called, also once they are gone: their usage outlives them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from modelry.access.store import KeyRow
from modelry.db import Base, Session

_IDS_AT_ONCE = 1000
"""Fewer than either database takes values in a statement."""


class KeyNameRow(Base):
    """Of a key that is revoked, or that a browser's session has: those end by themselves.

    It points at no row, for it outlives them.
    """

    __tablename__ = "key_names"

    key_id: Mapped[str] = mapped_column(String(24), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    for_session: Mapped[bool]


@dataclass(frozen=True)
class KeyName:
    """`gone`: it calls nothing any more."""

    name: str
    for_session: bool
    gone: bool


async def remember(session: Session, row: KeyRow) -> None:
    """Keep the name of a key for when it is gone."""
    named = KeyNameRow(key_id=row.id, name=row.name, for_session=row.session is not None)
    await session.merge(named)


async def names_of(session: Session, key_ids: Collection[str]) -> dict[str, KeyName]:
    """Whoever's they are; those that nobody knows any more are missing."""
    found: dict[str, KeyName] = {}
    ids = sorted(key_ids)
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        for named in await session.scalars(select(KeyNameRow).where(KeyNameRow.key_id.in_(some))):
            found[named.key_id] = KeyName(named.name, named.for_session, gone=True)
        for row in await session.scalars(select(KeyRow).where(KeyRow.id.in_(some))):
            found[row.id] = KeyName(row.name, row.session is not None, gone=False)
    return found
