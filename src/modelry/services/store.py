"""Rows of services, revisions, replicas and events, and the queries on them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    JSON,
    ForeignKey,
    String,
    Text,
    UniqueConstraint,
    delete,
    func,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapped, mapped_column

from modelry.db import Base, Numbered, Session
from modelry.services.spec import ServiceSpec, Spec, access_path, parse_spec
from modelry.services.states import LIVE

Revisions: TypeAlias = Mapping[tuple[str, int], Spec]
"""Specs by service id and revision."""


def now() -> datetime:
    return datetime.now(UTC)


class ServiceRow(Numbered):
    """`want`, `since` are what its owner asked; `state`, `message` what was observed.

    `since` and `active_at` are as in `Desired`; `active_at` lags behind a little.
    """

    __tablename__ = "services"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[str] = mapped_column(String(24), unique=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    tasks: Mapped[list[str]] = mapped_column(JSON)
    want: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime]
    revision: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    active_at: Mapped[datetime | None]

    @property
    def access_path(self) -> str:
        return access_path(self.owner_id, self.name)


class RevisionRow(Base):
    __tablename__ = "revisions"

    service_id: Mapped[str] = mapped_column(
        ForeignKey("services.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReplicaRow(Numbered):
    """`failure`: why it failed, in words; `lasting`: trying again changes nothing."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(24), unique=True)
    service_id: Mapped[str] = mapped_column(
        ForeignKey("services.id", ondelete="CASCADE"), index=True
    )
    revision: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    ready_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    failure: Mapped[str | None] = mapped_column(Text)
    lasting: Mapped[bool] = mapped_column(default=False)


class EventRow(Numbered):
    """One transition of a service or of one of its replicas, with its reason in words."""

    __tablename__ = "events"

    service_id: Mapped[str] = mapped_column(
        ForeignKey("services.id", ondelete="CASCADE"), index=True
    )
    replica_id: Mapped[str | None] = mapped_column(String(24))
    at: Mapped[datetime] = mapped_column(default=now)
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    log_tail: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


async def services_of(session: Session, owner_id: str) -> list[ServiceRow]:
    statement = select(ServiceRow).where(ServiceRow.owner_id == owner_id)
    return list(await session.scalars(statement.order_by(ServiceRow.seq)))


async def guests_of(session: Session, host: ServiceRow) -> list[tuple[ServiceRow, ServiceSpec]]:
    """The services whose adapters run on its replicas, with their specs."""
    rows, specs = await services_with_specs(session, host.owner_id)
    return [
        (row, spec)
        for id_, row in rows.items()
        if isinstance(spec := specs[id_], ServiceSpec) and spec.host == host.id
    ]


async def all_replicas(session: Session) -> list[ReplicaRow]:
    return list(await session.scalars(select(ReplicaRow).order_by(ReplicaRow.seq)))


async def live_replicas_with_services(
    session: Session, owner_id: str | None
) -> list[tuple[ReplicaRow, ServiceRow]]:
    """Replicas that run, each with its service; of one owner's services, or of all."""
    statement = (
        select(ReplicaRow, ServiceRow)
        .join(ServiceRow, ServiceRow.id == ReplicaRow.service_id)
        .where(ReplicaRow.state.in_(LIVE))
        .order_by(ReplicaRow.seq)
    )
    if owner_id is not None:
        statement = statement.where(ServiceRow.owner_id == owner_id)
    return [(replica, service) for replica, service in await session.execute(statement)]


async def service_ids(session: Session) -> set[str]:
    return set(await session.scalars(select(ServiceRow.id)))


async def live_replicas(session: Session) -> list[ReplicaRow]:
    return list(await session.scalars(select(ReplicaRow).where(ReplicaRow.state.in_(LIVE))))


async def replica_by_id(session: Session, replica_id: str) -> ReplicaRow | None:
    statement = select(ReplicaRow).where(ReplicaRow.id == replica_id)
    return (await session.scalars(statement)).one_or_none()


async def replicas_of(session: Session, service_id: str) -> list[ReplicaRow]:
    statement = select(ReplicaRow).where(ReplicaRow.service_id == service_id)
    return list(await session.scalars(statement.order_by(ReplicaRow.seq)))


async def services_with_specs(
    session: Session, owner_id: str | None = None
) -> tuple[dict[str, ServiceRow], dict[str, Spec]]:
    """One owner's services, or all, and the spec of the current revision of each, by service id.
    In one statement, so that a change that is made meanwhile shows in both or in neither.
    """
    current = (RevisionRow.service_id == ServiceRow.id) & (
        RevisionRow.number == ServiceRow.revision
    )
    statement = select(ServiceRow, RevisionRow).join(RevisionRow, current)
    if owner_id is not None:
        statement = statement.where(ServiceRow.owner_id == owner_id)
    services: dict[str, ServiceRow] = {}
    specs: dict[str, Spec] = {}
    for row, revision in await session.execute(statement.order_by(ServiceRow.seq)):
        services[row.id], specs[row.id] = row, parse_spec(revision.spec)
    return services, specs


async def current_specs(session: Session) -> dict[str, Spec]:
    """The spec of every service's current revision, by service id."""
    current = (RevisionRow.service_id == ServiceRow.id) & (
        RevisionRow.number == ServiceRow.revision
    )
    rows = await session.scalars(select(RevisionRow).join(ServiceRow, current))
    return {row.service_id: parse_spec(row.spec) for row in rows}


async def live_specs(session: Session) -> Revisions:
    """The specs of the revisions that replicas run which are not over, by service and number."""
    # From the replicas, which are few: many more revisions are kept than run.
    live = select(ReplicaRow.service_id, ReplicaRow.revision).where(ReplicaRow.state.in_(LIVE))
    numbered = tuple_(RevisionRow.service_id, RevisionRow.number)
    rows = await session.scalars(select(RevisionRow).where(numbered.in_(live)))
    return {(row.service_id, row.number): parse_spec(row.spec) for row in rows}


async def revisions_of(session: Session, service_id: str) -> list[RevisionRow]:
    """Oldest first."""
    statement = select(RevisionRow).where(RevisionRow.service_id == service_id)
    return list(await session.scalars(statement.order_by(RevisionRow.number)))


def add_revision(session: Session, service: ServiceRow, spec: Spec, why: str) -> None:
    """Make it the service's own from now on, and an event of it."""
    service.revision += 1
    stored = spec.model_dump(mode="json")
    session.add(RevisionRow(service_id=service.id, number=service.revision, spec=stored))
    message = f"revision {service.revision}: {why}"
    session.add(EventRow(service_id=service.id, state=service.state, message=message))


async def spec_of(session: Session, service: ServiceRow) -> Spec:
    row = await session.get_one(RevisionRow, (service.id, service.revision))
    return parse_spec(row.spec)


async def find_service(
    session: Session, owner_id: str, reference: str, *, lock: bool = False
) -> ServiceRow | None:
    """The owner's service of that name, or any service by its id. `lock`: nobody else changes it
    before the transaction ends.
    """
    statement = select(ServiceRow).where(
        (ServiceRow.id == reference)
        | ((ServiceRow.owner_id == owner_id) & (ServiceRow.name == reference))
    )
    if lock:
        statement = statement.with_for_update()
    return (await session.scalars(statement)).one_or_none()


async def service_by_id(session: Session, service_id: str) -> ServiceRow | None:
    statement = select(ServiceRow).where(ServiceRow.id == service_id)
    return (await session.scalars(statement)).one_or_none()


async def latest_events(session: Session, service_id: str, count: int) -> list[EventRow]:
    """The latest events, newest first."""
    statement = select(EventRow).where(EventRow.service_id == service_id)
    return list(await session.scalars(statement.order_by(EventRow.seq.desc()).limit(count)))


async def last_log_tail(session: Session, service_id: str) -> list[str] | None:
    """The log's end of the replica that failed last."""
    statement = (
        select(EventRow.log_tail)
        .where(EventRow.service_id == service_id, EventRow.log_tail.is_not(None))
        .order_by(EventRow.seq.desc())
        .limit(1)
    )
    return (await session.scalars(statement)).one_or_none()


async def prune_events(session: Session, kept: int) -> None:
    """Of every service's events, keep the newest `kept`."""
    counted = select(EventRow.service_id).group_by(EventRow.service_id)
    for service_id in await session.scalars(counted.having(func.count() > kept)):
        of_it = select(EventRow.seq).where(EventRow.service_id == service_id)
        oldest = await session.scalar(of_it.order_by(EventRow.seq.desc()).offset(kept - 1).limit(1))
        await session.execute(
            delete(EventRow).where(EventRow.service_id == service_id, EventRow.seq < oldest)
        )


async def prune_revisions(session: Session, kept: int) -> None:
    """Of every service's revisions, keep the newest `kept` and those that replicas run."""
    oldest = select(ServiceRow.revision - kept).where(ServiceRow.id == RevisionRow.service_id)
    runs = select(ReplicaRow.seq).where(
        ReplicaRow.service_id == RevisionRow.service_id,
        ReplicaRow.revision == RevisionRow.number,
        ReplicaRow.state.in_(LIVE),
    )
    statement = delete(RevisionRow).where(
        RevisionRow.number <= oldest.scalar_subquery(), ~runs.exists()
    )
    await session.execute(statement, execution_options={"synchronize_session": False})


async def remove_service(session: Session, service_id: str) -> None:
    """Deletes the service with its revisions, replicas and events."""
    await session.execute(delete(ServiceRow).where(ServiceRow.id == service_id))


def set_status(session: Session, row: ServiceRow, state: str, message: str) -> None:
    """Note what was observed; every transition is an event."""
    if (row.state, row.message) != (state, message):
        row.state, row.message = state, message
        session.add(EventRow(service_id=row.id, state=state, message=message))


def set_replica_state(
    session: Session,
    row: ReplicaRow,
    state: str,
    message: str,
    log_tail: list[str] | None = None,
) -> None:
    row.state = state
    session.add(
        EventRow(
            service_id=row.service_id,
            replica_id=row.id,
            state=state,
            message=message,
            log_tail=log_tail,
        )
    )
