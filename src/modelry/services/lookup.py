"""The service that a caller means, if it is one they may see and change."""

from modelry.access.principal import Principal
from modelry.db import Session
from modelry.errors import Conflict, NotFound
from modelry.services import store
from modelry.services.situation import Want


async def service_of(
    session: Session, principal: Principal, reference: str, *, lock: bool = False
) -> store.ServiceRow:
    """The caller's service of that name, or any by its id; `lock` as of `find_service`. Raises
    `NotFound`.
    """
    row = await store.find_service(session, principal.owner_id, reference, lock=lock)
    if row is None or (row.owner_id != principal.owner_id and not principal.operator):
        raise NotFound(
            f"there is no service {reference!r}",
            hint="`modelry list` lists your services",
            code="service_not_found",
        )
    return row


def refuse_deleting(row: store.ServiceRow) -> None:
    """Raises `Conflict`."""
    if row.want == Want.DELETE:
        raise Conflict(f"service {row.name!r} is being deleted", code="service_deleting")
