"""Which services use a model."""

from sqlalchemy import select

from modelry.catalog.catalog import OWN_VARIANT
from modelry.catalog.uses import Use
from modelry.db import Session
from modelry.services.situation import Want
from modelry.services.spec import ServiceSpec, parse_spec
from modelry.services.states import LIVE
from modelry.services.store import ReplicaRow, RevisionRow, ServiceRow


async def uses_of(session: Session, model_id: str) -> list[Use]:
    """By their current revisions, and by those that their replicas still serve. One that is
    being deleted counts no more.
    """
    live = select(ReplicaRow.revision).where(
        ReplicaRow.service_id == ServiceRow.id, ReplicaRow.state.in_(LIVE)
    )
    statement = (
        select(ServiceRow, RevisionRow)
        .join(RevisionRow, RevisionRow.service_id == ServiceRow.id)
        .where(
            ServiceRow.want != Want.DELETE,
            (RevisionRow.number == ServiceRow.revision) | RevisionRow.number.in_(live),
        )
        .order_by(ServiceRow.seq)
    )
    found: dict[tuple[str, str], Use] = {}
    for row, revision in await session.execute(statement):
        spec = parse_spec(revision.spec)
        if not isinstance(spec, ServiceSpec):
            continue
        # An adapter is an own model, which has one variant.
        for model, variant in ((spec.model, spec.variant), (spec.adapter, OWN_VARIANT)):
            if model == model_id:
                found[row.id, variant] = Use(row.name, row.owner_id, variant, row.want == Want.RUN)
    return list(found.values())
