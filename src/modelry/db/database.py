"""Opening and migrating the database: SQLite (WAL) by default, PostgreSQL where configured."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import Connection, DateTime, Dialect, MetaData, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from modelry.errors import SettingsError

Session: TypeAlias = AsyncSession

_MIGRATIONS = Path(__file__).parent / "migrations"
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_ALIASES = {"postgres": "postgresql", "postgresql+asyncpg": "postgresql"}

# Names are given to every constraint, so that a later migration can alter it
# on both databases.
_NAMES = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC on both databases; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[type, type]] = {datetime: UtcDateTime}


class Numbered(Base):
    """A table that can be listed: `seq` counts up in the order of creation."""

    __abstract__ = True

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, sort_order=-1)


class Database:
    """One engine and its sessions. One request or one reconciler step is one transaction."""

    def __init__(self, url: str | None, file: Path) -> None:
        self.url = _parse(url, file)
        arguments: dict[str, Any] = {}
        if self.url.get_backend_name() == "sqlite":
            arguments["connect_args"] = {"timeout": 30}
        self._engine = create_async_engine(
            self.url, pool_pre_ping=True, hide_parameters=True, **arguments
        )
        if self.url.get_backend_name() == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_immediately)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session whose transaction commits at the end, or rolls back on an error."""
        async with self._sessions.begin() as session:
            yield session

    async def migrate(self) -> None:
        """Bring the schema to this version's. Raises `SettingsError` where that is not possible."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(_upgrade)
        except (OSError, SQLAlchemyError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            shown = self.url.render_as_string(hide_password=True)
            hint = "check MODELRY_DATABASE_URL and that the server is up"
            if self.url.get_backend_name() == "sqlite":
                hint = "restore the file from a backup, or move it away to start anew"
            raise SettingsError(
                f"database {shown} cannot be opened: {reason}",
                hint=hint,
                param="database_url",
            ) from None

    async def ping(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("select 1"))

    async def close(self) -> None:
        await asyncio.shield(self._engine.dispose())


def _parse(url: str | None, file: Path) -> URL:
    if url is None:
        return URL.create(_DRIVERS["sqlite"], database=str(file))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    backend = None if parsed is None else parsed.drivername
    backend = _ALIASES.get(backend or "", backend)
    if parsed is None or backend not in _DRIVERS:
        raise SettingsError(
            "MODELRY_DATABASE_URL: must look like postgresql://user:password@host/name "
            "or sqlite:////path/to/file",
            param="database_url",
        )
    return parsed.set(drivername=_DRIVERS[backend])


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own habit is to begin at the first write, which leaves the
    # reads before it outside the transaction.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=normal")
    cursor.execute("pragma foreign_keys=on")
    cursor.close()


def _begin_immediately(connection: Connection) -> None:
    # Taking the write lock at once means waiting for it, where upgrading to it
    # later would fail at once with "database is locked".
    connection.exec_driver_sql("begin immediate")


def _versions() -> list[str]:
    """The schema versions this code knows, oldest first: `0001`, `0002`, …"""
    return sorted(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("0*.py"))


def _upgrade(connection: Connection) -> None:
    versions = _versions()
    found = None
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("select version_num from alembic_version")).scalar()
    if found == versions[-1]:
        return
    if found is not None and found not in versions:
        raise SettingsError(
            f"the database was made by a newer Modelry (its schema is {found!r})",
            hint="start that version, or restore a backup from before the upgrade",
            param="database_url",
        )
    # Alembic takes longer to import than everything else a start does, and
    # hardly any start has something to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
