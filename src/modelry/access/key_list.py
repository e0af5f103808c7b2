"""API keys as people look for them: by a part of the name, or by what a masked one shows."""

from sqlalchemy import func, or_, select

from modelry.access.store import KeyRow
from modelry.db import Session


async def find_keys(
    session: Session, user_id: str, *, of_sessions: bool, text: str, start: int, limit: int
) -> tuple[list[KeyRow], int]:
    """The user's keys, the newest first, from the row `start` on, and how many there are.

    `of_sessions`: those made for browsers' sessions, or else the others; `text`: a part of the
    name, the last four characters or the id, without which every key is meant.
    """
    found = select(KeyRow).where(
        KeyRow.user_id == user_id, KeyRow.session.is_not(None) == of_sessions
    )
    if text:
        shown = KeyRow.id == text, KeyRow.tail == text[-4:]
        found = found.where(or_(KeyRow.name.icontains(text, autoescape=True), *shown))
    count = await session.scalar(select(func.count()).select_from(found.subquery())) or 0
    rows = found.order_by(KeyRow.seq.desc()).offset(start).limit(limit)
    return list(await session.scalars(rows)), count
