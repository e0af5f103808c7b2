"""Many services and events at once, as pages list them: a few queries, however many there are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, and_, cast, false, func, or_, select

from modelry.db import Session
from modelry.services.spec import Spec, parse_spec
from modelry.services.states import ReplicaState
from modelry.services.store import EventRow, ReplicaRow, RevisionRow, ServiceRow

_CURRENT = and_(RevisionRow.service_id == ServiceRow.id, RevisionRow.number == ServiceRow.revision)


@dataclass(frozen=True)
class Filter:
    """Which of an owner's services. `text`: a part of the name, the access path, the id or the
    model's name, in whatever case; None of the others means all.
    """

    owner_id: str
    text: str = ""
    state: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Listed:
    """A service with what its row in a list needs. `ready`: how many of its replicas are."""

    row: ServiceRow
    spec: Spec
    ready: int


async def counts_by_state(session: Session, wanted: Filter) -> dict[str, int]:
    """How many services there are in each state, whichever state is wanted."""
    statement = (
        select(ServiceRow.state, func.count())
        .join(RevisionRow, _CURRENT)
        .where(*_conditions(wanted))
        .group_by(ServiceRow.state)
    )
    return {row[0]: row[1] for row in await session.execute(statement)}


async def listed(session: Session, wanted: Filter, offset: int, limit: int) -> list[Listed]:
    """The newest first."""
    conditions = _conditions(wanted)
    if wanted.state is not None:
        conditions.append(ServiceRow.state == wanted.state)
    statement = (
        select(ServiceRow, RevisionRow.spec)
        .join(RevisionRow, _CURRENT)
        .where(*conditions)
        .order_by(ServiceRow.seq.desc())
        .offset(offset)
        .limit(limit)
    )
    found = (await session.execute(statement)).all()
    ready = await _ready(session, [row.id for row, _ in found])
    return [Listed(row, parse_spec(spec), ready.get(row.id, 0)) for row, spec in found]


async def events_before(
    session: Session, service_id: str, offset: int, limit: int
) -> Sequence[EventRow]:
    """A service's events, the newest first."""
    statement = select(EventRow).where(EventRow.service_id == service_id)
    statement = statement.order_by(EventRow.seq.desc()).offset(offset).limit(limit)
    return (await session.scalars(statement)).all()


async def count_events(session: Session, service_id: str) -> int:
    statement = select(func.count()).where(EventRow.service_id == service_id)
    return await session.scalar(statement) or 0


async def failed_logs(session: Session, service_id: str) -> list[EventRow]:
    """The last event of each replica that failed and has left the end of its log, oldest first."""
    statement = select(EventRow).where(
        EventRow.service_id == service_id,
        EventRow.replica_id.is_not(None),
        EventRow.log_tail.is_not(None),
    )
    rows = await session.scalars(statement.order_by(EventRow.seq))
    return list({row.replica_id: row for row in rows}.values())


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """All but the state's."""
    found: list[ColumnElement[bool]] = [ServiceRow.owner_id == wanted.owner_id]
    if "\0" in wanted.text:
        # No name has it, and PostgreSQL does not even take it.
        found.append(false())
    elif wanted.text:
        path = ServiceRow.owner_id + "/" + ServiceRow.name
        model = RevisionRow.spec["model_name"].as_string()
        texts = (path, ServiceRow.id, model)
        found.append(or_(*(text.icontains(wanted.text, autoescape=True) for text in texts)))
    if wanted.task is not None:
        found.append(cast(ServiceRow.tasks, Text).contains(f'"{wanted.task}"', autoescape=True))
    return found


async def _ready(session: Session, service_ids: Iterable[str]) -> dict[str, int]:
    statement = (
        select(ReplicaRow.service_id, func.count())
        .where(ReplicaRow.service_id.in_(service_ids), ReplicaRow.state == ReplicaState.READY)
        .group_by(ReplicaRow.service_id)
    )
    return {row[0]: row[1] for row in await session.execute(statement)}
