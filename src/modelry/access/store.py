"""Rows of users, access tokens and API keys, and the queries on them."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import JSON, ForeignKey, String, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from modelry.access.credentials import digest, new_id, new_owner_id
from modelry.db import Base, Numbered, Session

USE_NOTED_EVERY = timedelta(minutes=1)
"""So that an access token's calls cost no write each."""


def now() -> datetime:
    return datetime.now(UTC)


class Origin(StrEnum):
    """Where an access token comes from.

    `START`: the operator's of the first start, or the one that a setting presets. `LOCAL`: that of
    the command line on this machine, a fresh one at each start.
    """

    USER = "user"
    START = "start"
    LOCAL = "local"


class UserRow(Numbered):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(16), unique=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    operator: Mapped[bool]
    password_hash: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(default=now)


class AccessTokenRow(Numbered):
    """`last_used_at` lags behind by up to `USE_NOTED_EVERY`."""

    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(String(24), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    tail: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    origin: Mapped[str] = mapped_column(
        String(16), default=Origin.USER, server_default=Origin.USER.value
    )


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


async def user_by_token(session: Session, token: str) -> tuple[UserRow, AccessTokenRow] | None:
    """Whose access token it is, and its row; None of one that has expired."""
    valid = AccessTokenRow.expires_at.is_(None) | (AccessTokenRow.expires_at > now())
    statement = (
        select(UserRow, AccessTokenRow)
        .join(AccessTokenRow, AccessTokenRow.user_id == UserRow.id)
        .where(AccessTokenRow.hash == digest(token), valid)
    )
    found = (await session.execute(statement)).one_or_none()
    return None if found is None else (found[0], found[1])


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


async def remove_other_sessions(session: Session, user_id: str, kept: str | None) -> None:
    """Sign the user's browsers out, but for the one whose session has the hash `kept`."""
    gone = SessionRow.user_id == user_id
    if kept is not None:
        gone &= SessionRow.hash != kept
    await session.execute(delete(SessionRow).where(gone))


async def change_password(session: Session, user_id: str, old: str | None, new: str) -> bool:
    """Put the hash `new` in the place of `old`; False where that is no longer the user's."""
    statement = (
        update(UserRow)
        .where(UserRow.id == user_id, UserRow.password_hash == old)
        .values(password_hash=new)
        .returning(UserRow.id)
    )
    return (await session.scalars(statement)).one_or_none() is not None


async def has_password(session: Session, user_id: str, hashed: str) -> bool:
    """Whether that is the user's hash, and stays it until the transaction's end."""
    statement = select(UserRow.id).where(UserRow.id == user_id, UserRow.password_hash == hashed)
    return (await session.scalars(statement.with_for_update())).one_or_none() is not None


async def add_operator(session: Session, name: str, password_hash: str) -> UserRow:
    row = UserRow(id=new_owner_id(), name=name, operator=True, password_hash=password_hash)
    session.add(row)
    await session.flush()
    return row


def add_token(
    session: Session,
    user_id: str,
    name: str,
    token: str,
    *,
    expires_at: datetime | None = None,
    origin: Origin = Origin.USER,
) -> AccessTokenRow:
    row = AccessTokenRow(
        id=new_id("tok"),
        user_id=user_id,
        name=name,
        hash=digest(token),
        tail=token[-4:],
        expires_at=expires_at,
        origin=origin,
    )
    session.add(row)
    return row


async def replace_token(
    session: Session, user_id: str, name: str, token: str, origin: Origin
) -> None:
    """Make `token` the user's only one of that origin; where it is that already, it stays."""
    hashed = digest(token)
    of_origin = (AccessTokenRow.user_id == user_id) & (AccessTokenRow.origin == origin)
    same = of_origin & (AccessTokenRow.hash == hashed) & AccessTokenRow.expires_at.is_(None)
    # A preset one may have been made by hand before.
    await session.execute(
        delete(AccessTokenRow).where(of_origin | (AccessTokenRow.hash == hashed), ~same)
    )
    if (await session.scalars(select(AccessTokenRow.id).where(same))).one_or_none() is None:
        add_token(session, user_id, name, token, origin=origin)


async def token_of(session: Session, user_id: str, token_id: str) -> AccessTokenRow | None:
    statement = select(AccessTokenRow).where(
        AccessTokenRow.id == token_id, AccessTokenRow.user_id == user_id
    )
    return (await session.scalars(statement)).one_or_none()


async def count_tokens(session: Session, user_id: str) -> int:
    """How many the user made; those that a start makes are not among them."""
    statement = select(func.count()).where(
        AccessTokenRow.user_id == user_id, AccessTokenRow.origin == Origin.USER
    )
    return await session.scalar(statement) or 0


def token_use_is_news(row: AccessTokenRow) -> bool:
    return row.last_used_at is None or now() - row.last_used_at >= USE_NOTED_EVERY


async def note_token_use(session: Session, token_id: str) -> None:
    await session.execute(
        update(AccessTokenRow).where(AccessTokenRow.id == token_id).values(last_used_at=now())
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


async def remove_keys_of_other_sessions(
    session: Session, user_id: str, kept: str | None
) -> list[str]:
    """Delete the keys of the user's browser sessions, but for the one of hash `kept`. Their ids."""
    gone = (KeyRow.user_id == user_id) & KeyRow.session.is_not(None)
    if kept is not None:
        gone &= KeyRow.session != kept
    return list(await session.scalars(delete(KeyRow).where(gone).returning(KeyRow.id)))


async def note_key_use(session: Session, last_used_at: dict[str, float]) -> None:
    for key_id, seconds in last_used_at.items():
        at = datetime.fromtimestamp(seconds, UTC)
        await session.execute(update(KeyRow).where(KeyRow.id == key_id).values(last_used_at=at))
