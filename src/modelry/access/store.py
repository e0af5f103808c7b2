"""Rows of users, access tokens and API keys, and the queries on them."""

from datetime import UTC, datetime

from sqlalchemy import JSON, ForeignKey, String, delete, func, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from modelry.access.credentials import digest, new_id, new_owner_id
from modelry.db import Base, Numbered, Session


def now() -> datetime:
    return datetime.now(UTC)


class UserRow(Numbered):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(16), unique=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    operator: Mapped[bool]
    password_hash: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(default=now)


class AccessTokenRow(Numbered):
    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(String(24), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    tail: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[datetime] = mapped_column(default=now)


class SessionRow(Base):
    """A browser that is signed in to the console. `hash` is of its cookie."""

    __tablename__ = "sessions"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]


class KeyRow(Numbered):
    """`services`: access paths or globs, NULL for every service of the owner.

    `limits`: those of `Limits` that are set, by name. `seq` is the number by
    which gateways count its use, so none is ever given twice. `session`: the hash
    of the browser session that the key was made for and ends with.
    """

    __tablename__ = "keys"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[str] = mapped_column(String(24), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    tail: Mapped[str] = mapped_column(String(4))
    services: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    limits: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    session: Mapped[str | None] = mapped_column(String(64), index=True)
    strict: Mapped[bool] = mapped_column(default=False, server_default="0")


async def user_by_name(session: Session, name: str) -> UserRow | None:
    return (await session.scalars(select(UserRow).where(UserRow.name == name))).one_or_none()


async def user_by_token(session: Session, token: str) -> UserRow | None:
    statement = (
        select(UserRow)
        .join(AccessTokenRow, AccessTokenRow.user_id == UserRow.id)
        .where(AccessTokenRow.hash == digest(token))
    )
    return (await session.scalars(statement)).one_or_none()


async def user_by_session(session: Session, hashed: str) -> UserRow | None:
    statement = (
        select(UserRow)
        .join(SessionRow, SessionRow.user_id == UserRow.id)
        .where(SessionRow.hash == hashed, SessionRow.expires_at > now())
    )
    return (await session.scalars(statement)).one_or_none()


async def remove_sessions(session: Session, hashed: str) -> None:
    """Sign one browser out, and drop what has expired."""
    await session.execute(
        delete(SessionRow).where((SessionRow.hash == hashed) | (SessionRow.expires_at <= now()))
    )


async def add_operator(session: Session, name: str, password_hash: str) -> UserRow:
    row = UserRow(id=new_owner_id(), name=name, operator=True, password_hash=password_hash)
    session.add(row)
    await session.flush()
    return row


async def replace_token(session: Session, user_id: str, name: str, token: str) -> None:
    """Make `token` the user's only access token of that name."""
    await session.execute(
        delete(AccessTokenRow).where(AccessTokenRow.user_id == user_id, AccessTokenRow.name == name)
    )
    session.add(
        AccessTokenRow(
            id=new_id("tok"),
            user_id=user_id,
            name=name,
            hash=digest(token),
            tail=token[-4:],
        )
    )


async def all_keys(session: Session) -> list[KeyRow]:
    return list(await session.scalars(select(KeyRow).order_by(KeyRow.seq)))


async def key_of(session: Session, user_id: str, key_id: str) -> KeyRow | None:
    statement = select(KeyRow).where(KeyRow.id == key_id, KeyRow.user_id == user_id)
    return (await session.scalars(statement)).one_or_none()


async def key_by_hash(session: Session, hashed: str) -> KeyRow | None:
    return (await session.scalars(select(KeyRow).where(KeyRow.hash == hashed))).one_or_none()


async def remove_session_keys(session: Session, hashed: str | None) -> list[str]:
    """Delete the keys of one browser's session, and those of any that have expired. Their ids."""
    gone = KeyRow.session.is_not(None) & (KeyRow.expires_at <= now())
    if hashed is not None:
        # A comparison with None would be IS NULL: every key that somebody made.
        gone |= KeyRow.session == hashed
    return list(await session.scalars(delete(KeyRow).where(gone).returning(KeyRow.id)))


async def note_key_use(session: Session, last_used_at: dict[str, float]) -> None:
    for key_id, seconds in last_used_at.items():
        at = datetime.fromtimestamp(seconds, UTC)
        await session.execute(update(KeyRow).where(KeyRow.id == key_id).values(last_used_at=at))


async def find_keys(
    session: Session, user_id: str, *, of_sessions: bool, text: str, start: int, limit: int
) -> tuple[list[KeyRow], int]:
    """The user's keys, the newest first, from the row `start` on, and how many there are.

    `of_sessions`: those made for browsers' sessions, or else the others; `text`: a part of the
    name, or of what a masked key shows, without which every key is meant.
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
