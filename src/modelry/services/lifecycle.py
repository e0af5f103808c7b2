"""What owners do with services: create, connect, start, stop, delete. Each only states a wish.

The wish is stored with its event, and the reconciler is nudged to carry it out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import IntegrityError

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog.catalog import Catalog, Model
from modelry.catalog.choice import Machine
from modelry.catalog.offers import Offers
from modelry.db import Database, Session
from modelry.errors import Conflict, NotFound
from modelry.sealing import Sealer
from modelry.services import store
from modelry.services.drafts import Host, Wish, draft
from modelry.services.elsewhere import EndpointWish, admit
from modelry.services.hosting import Hosting
from modelry.services.needs import models_of, needs_of
from modelry.services.situation import Want
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec
from modelry.services.states import ServiceState
from modelry.services.supplies import Needs, Part, Supplies


@dataclass(frozen=True)
class Connection:
    """What a caller asks of a new service that stands on endpoints elsewhere."""

    name: str
    endpoints: tuple[EndpointWish, ...]
    tasks: tuple[str, ...]
    slots: int | None = None


class Lifecycle:
    def __init__(
        self,
        db: Database,
        catalog: Catalog,
        supplies: Supplies,
        hosting: Hosting,
        machine: Machine,
        offers: Offers,
        sealer: Sealer,
        nudge: Callable[[], None],
    ) -> None:
        self._db = db
        self._catalog = catalog
        self._supplies = supplies
        self._hosting = hosting
        self._machine = machine
        self._offers = offers
        self._sealer = sealer
        self._nudge = nudge

    async def create(self, principal: Principal, wish: Wish) -> store.ServiceRow:
        """Raises `NotFound` for the model, `Conflict` for the name, `InvalidRequest`."""
        async with self._db.begin() as session:
            model = await self._catalog.get(session, principal, wish.model, keep=True)
            adapter, hosts = None, []
            if wish.adapter is not None:
                adapter = await self._adapter(session, principal, wish.adapter)
                hosts = await self._hosts(session, principal, model)
            spec = draft(wish, model, adapter, hosts, self._machine, self._offers, principal)
            row = await _add(session, principal, wish.name, model.card.tasks, spec)
            if spec.adapter is not None and spec.idle_after_s is not None:
                # It waits for its first call, with all that it needs at hand.
                row.active_at = store.now() - timedelta(seconds=spec.idle_after_s)
            await self._forget_failures(session, row, spec)
        self._nudge()
        return row

    async def connect(self, principal: Principal, wish: Connection) -> store.ServiceRow:
        """Raises `Conflict` for the name, `PermissionDenied` for an endpoint."""
        # Names are resolved here, so before there is a transaction.
        endpoints = await admit(principal, wish.endpoints, self._sealer)
        slots = wish.slots or EndpointsSpec.model_fields["slots"].default
        spec = EndpointsSpec(endpoints=endpoints, slots=slots)
        async with self._db.begin() as session:
            row = await _add(session, principal, wish.name, wish.tasks, spec)
        self._nudge()
        return row

    async def start(self, principal: Principal, reference: str) -> store.ServiceRow:
        """Wanted to run, afresh: earlier failures no longer count."""
        async with self._db.begin() as session:
            row = await _get(session, principal, reference)
            _refuse_deleting(row)
            spec = await store.spec_of(session, row)
            if isinstance(spec, ServiceSpec):
                await self._forget_failures(session, row, spec)
            if row.want != Want.RUN or row.state in (ServiceState.FAILED, ServiceState.IDLE):
                row.want = Want.RUN
                row.since = store.now()
                row.active_at = None
                store.set_status(session, row, ServiceState.PENDING, "started by its owner")
        self._nudge()
        return row

    async def stop(self, principal: Principal, reference: str) -> store.ServiceRow:
        async with self._db.begin() as session:
            row = await _get(session, principal, reference)
            _refuse_deleting(row)
            if row.want != Want.STOP:
                row.want = Want.STOP
                store.set_status(session, row, ServiceState.STOPPED, "stopped by its owner")
        self._nudge()
        return row

    async def delete(self, principal: Principal, reference: str) -> store.ServiceRow:
        async with self._db.begin() as session:
            row = await _get(session, principal, reference)
            if row.want != Want.DELETE:
                await _refuse_with_guests(session, row)
                row.want = Want.DELETE
                store.set_status(
                    session,
                    row,
                    ServiceState.DELETING,
                    "requests in flight finish, then it is removed",
                )
        self._nudge()
        return row

    async def get(self, session: Session, principal: Principal, reference: str) -> store.ServiceRow:
        """The caller's service of that name, or any by its id. Raises `NotFound`."""
        return await _get(session, principal, reference)

    async def parts(self, session: Session, spec: Spec) -> list[Part]:
        """The weights that a revision runs, as far as they are here."""
        if not isinstance(spec, ServiceSpec):
            return []
        models = await self._catalog.by_ids(session, models_of(spec))
        needs = needs_of(models, self._machine.engines, spec)
        return self._supplies.parts(needs) if isinstance(needs, Needs) else []

    async def _adapter(self, session: Session, principal: Principal, reference: str) -> Model:
        try:
            return await self._catalog.get(session, principal, reference, keep=True)
        except NotFound as error:
            raise NotFound(
                error.message.replace("model", "adapter", 1),
                hint="`modelry register SOURCE` registers one",
                param="adapter",
                code=error.code,
            ) from None

    async def _hosts(self, session: Session, principal: Principal, model: Model) -> list[Host]:
        specs = await store.current_specs(session)
        rows = await store.services_of(session, principal.owner_id)
        return [
            Host(row.id, spec)
            for row in rows
            if row.want == Want.RUN
            and isinstance(spec := specs[row.id], ServiceSpec)
            and spec.model == model.card.id
            and spec.adapter is None
            and self._is_open(model, spec)
        ]

    def _is_open(self, model: Model, spec: ServiceSpec) -> bool:
        """Whether the replicas of such a service take adapters, as far as that is known."""
        engine = self._machine.engines.get(spec.engine)
        if engine is None or not engine.takes_adapters:
            return False
        needs = needs_of({model.card.id: model}, self._machine.engines, spec)
        supplied = self._supplies.ready(needs) if isinstance(needs, Needs) else None
        return supplied is None or engine.open_to_adapters(supplied.weights.path)

    async def _forget_failures(
        self, session: Session, row: store.ServiceRow, spec: ServiceSpec
    ) -> None:
        models = await self._catalog.by_ids(session, models_of(spec))
        needs = needs_of(models, self._machine.engines, spec)
        if isinstance(needs, Needs):
            self._supplies.forget_failures(needs)
        self._hosting.forget_failures(row.id)


async def _refuse_with_guests(session: Session, row: store.ServiceRow) -> None:
    """Raises `Conflict` where adapters run on its replicas."""
    guests = await store.guests_of(session, row)
    if guests:
        raise Conflict(
            f"adapters run on {row.name!r}: {', '.join(guests)}",
            hint="delete those first",
            code="service_has_adapters",
        )


async def _add(
    session: Session, principal: Principal, name: str, tasks: tuple[str, ...], spec: Spec
) -> store.ServiceRow:
    """A new service that is to run, with its first revision and event. Raises `Conflict`."""
    existing = await store.find_service(session, principal.owner_id, name)
    if existing is not None:
        raise _taken(existing)
    row = store.ServiceRow(
        id=new_id("svc"),
        owner_id=principal.owner_id,
        name=name,
        tasks=list(tasks),
        want=Want.RUN,
        since=store.now(),
        revision=1,
        state="",
        message="",
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        # Somebody else was quicker by a moment.
        raise _taken(row) from None
    session.add(store.RevisionRow(service_id=row.id, number=1, spec=spec.model_dump(mode="json")))
    store.set_status(session, row, ServiceState.PENDING, "created")
    return row


async def _get(session: Session, principal: Principal, reference: str) -> store.ServiceRow:
    row = await store.find_service(session, principal.owner_id, reference)
    if row is None or (row.owner_id != principal.owner_id and not principal.operator):
        raise NotFound(
            f"there is no service {reference!r}",
            hint="`modelry list` lists your services",
            code="service_not_found",
        )
    return row


def _refuse_deleting(row: store.ServiceRow) -> None:
    if row.want == Want.DELETE:
        raise Conflict(f"service {row.name!r} is being deleted", code="service_deleting")


def _taken(row: store.ServiceRow) -> Conflict:
    if row.want == Want.DELETE:
        message = f"a service {row.name!r} is still being deleted"
        hint = "try again in a moment, or choose another name"
    else:
        message = f"you have a service {row.name!r} already"
        hint = "choose another name, or delete it first"
    return Conflict(message, hint=hint, param="name", code="service_name_taken")
