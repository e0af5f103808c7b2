"""Rows of own models: registered by a user, visible to their owner, and to all where shared."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Select,
    String,
    UniqueConstraint,
    false,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column

from modelry.db import Numbered, Session

# Databases bound how many values one statement may have.
_AT_ONCE = 500

RowLock: TypeAlias = Literal["keep", "change"]


class ModelRow(Numbered):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    id: Mapped[str] = mapped_column(String(24), unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(1000))
    format: Mapped[str] = mapped_column(String(16), server_default="gguf")
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    public_only: Mapped[bool] = mapped_column(server_default=false())
    allow_pickles: Mapped[bool] = mapped_column(server_default=false())
    allow_remote_code: Mapped[bool] = mapped_column(server_default=false())
    copied: Mapped[bool] = mapped_column(server_default=false())
    tasks: Mapped[list[str]] = mapped_column(JSON)
    description: Mapped[str | None] = mapped_column(String(1000))
    shared: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


async def own_models(session: Session, user_id: str) -> list[ModelRow]:
    statement = select(ModelRow).where(ModelRow.user_id == user_id).order_by(ModelRow.seq)
    return list(await session.scalars(statement))


async def all_models(session: Session) -> list[ModelRow]:
    return list(await session.scalars(select(ModelRow).order_by(ModelRow.seq)))


async def own_model(
    session: Session, user_id: str, reference: str, lock: RowLock | None = None
) -> ModelRow | None:
    """The user's model of that id or name. `lock`: until the transaction ends nobody else
    deletes it ("keep"), nor relies on it ("change").
    """
    statement = select(ModelRow).where(
        ModelRow.user_id == user_id,
        or_(ModelRow.id == reference, ModelRow.name == reference),
    )
    return (await session.scalars(_locked(statement, lock))).one_or_none()


def _locked(statement: Select[ModelRow], lock: RowLock | None) -> Select[ModelRow]:
    # SQLite has one writing transaction at a time anyway.
    return statement if lock is None else statement.with_for_update(read=lock == "keep")


async def shared_models(session: Session, but_of: str) -> list[ModelRow]:
    """What others share with everyone."""
    statement = (
        select(ModelRow).where(ModelRow.shared, ModelRow.user_id != but_of).order_by(ModelRow.seq)
    )
    return list(await session.scalars(statement))


async def model_of(
    session: Session, reference: str, lock: RowLock | None = None
) -> ModelRow | None:
    """Anybody's model by its id, or by its owner's id and its name: `u-0123456789ab/name`."""
    owner, slash, name = reference.partition("/")
    statement = select(ModelRow).where(
        (ModelRow.user_id == owner) & (ModelRow.name == name) if slash else ModelRow.id == owner
    )
    return (await session.scalars(_locked(statement, lock))).one_or_none()


async def model_by_id(session: Session, id_: str) -> ModelRow | None:
    return (await session.scalars(select(ModelRow).where(ModelRow.id == id_))).one_or_none()


async def models_by_ids(session: Session, ids: Collection[str]) -> list[ModelRow]:
    wanted, found = sorted(ids), []
    for start in range(0, len(wanted), _AT_ONCE):
        some = ModelRow.id.in_(wanted[start : start + _AT_ONCE])
        found += list(await session.scalars(select(ModelRow).where(some)))
    return found
