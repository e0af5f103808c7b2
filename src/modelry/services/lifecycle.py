"""What owners do with services: create, connect, update, start, stop, delete. Each only states a
wish.

The wish is stored with its event, and the reconciler is nudged to carry it out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.exc import IntegrityError

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog.catalog import Catalog, Model
from modelry.catalog.choice import Machine
from modelry.catalog.offers import Offers
from modelry.db import Database, Session
from modelry.errors import Conflict, InvalidRequest, NotFound
from modelry.sealing import Sealer
from modelry.services import store
from modelry.services.changes import (
    Change,
    EndpointsChange,
    check_guests,
    in_words,
    next_spec,
    wish_of,
)
from modelry.services.drafts import Host, Wish, draft
from modelry.services.elsewhere import EndpointWish, admit, change_endpoints
from modelry.services.hosting import Hosting
from modelry.services.lookup import refuse_deleting, service_of
from modelry.services.needs import models_of, needs_of
from modelry.services.situation import Want
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec, hosted_on
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

    async def update(
        self, principal: Principal, reference: str, change: Change
    ) -> store.ServiceRow:
        """A new revision of a service of a model, unless it would be as the present one is.

        Raises as `create` does, and `Conflict` where it cannot be changed so.
        """
        async with self._db.begin() as session:
            row = await service_of(session, principal, reference, lock=True)
            refuse_deleting(row)
            spec = await store.spec_of(session, row)
            if not isinstance(spec, ServiceSpec):
                raise InvalidRequest(
                    "endpoint: the service stands on endpoints elsewhere", param="endpoint"
                )
            # What an operator changes is its owner's all the same.
            owner = replace(principal, owner_id=row.owner_id)
            wanted, tasks = await self._wanted(session, owner, row, spec, change)
            if wanted != spec:
                await self._revise(session, row, spec, wanted)
                row.tasks = list(tasks)
        self._nudge()
        return row

    async def update_endpoints(
        self, principal: Principal, reference: str, change: EndpointsChange
    ) -> store.ServiceRow:
        """The same of a service that stands on endpoints elsewhere."""
        async with self._db.begin() as session:
            row = await service_of(session, principal, reference)
            before = await store.spec_of(session, row)
        if not isinstance(before, EndpointsSpec):
            raise InvalidRequest("model: the service has a model, no endpoint", param="model")
        endpoints, named = before.endpoints, change.named
        if "endpoint" in named:
            # Names are resolved here, so before there is a transaction.
            endpoints = await change_endpoints(principal, endpoints, change.endpoints, self._sealer)
        usual = EndpointsSpec.model_fields["slots"].default
        slots = (change.slots or usual) if "slots" in named else before.slots
        wanted = EndpointsSpec(endpoints=endpoints, slots=slots)
        async with self._db.begin() as session:
            row, seen = await service_of(session, principal, reference, lock=True), row
            refuse_deleting(row)
            if (row.id, row.revision) != (seen.id, seen.revision):
                raise Conflict(
                    f"service {row.name!r} was changed meanwhile",
                    hint="look at it, and try again",
                    code="service_changed",
                )
            tasks = list(change.tasks) if "tasks" in named else row.tasks
            differing = {
                "endpoints": wanted.endpoints != before.endpoints,
                "slots": wanted.slots != before.slots,
                "tasks": tasks != row.tasks,
            }
            told = ", ".join(name for name, differs in differing.items() if differs)
            if told:
                row.tasks = tasks
                store.add_revision(session, row, wanted, told)
        self._nudge()
        return row

    async def start(self, principal: Principal, reference: str) -> store.ServiceRow:
        """Wanted to run, afresh: earlier failures no longer count."""
        async with self._db.begin() as session:
            row = await service_of(session, principal, reference)
            refuse_deleting(row)
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
            row = await service_of(session, principal, reference)
            refuse_deleting(row)
            if row.want != Want.STOP:
                row.want = Want.STOP
                store.set_status(session, row, ServiceState.STOPPED, "stopped by its owner")
        self._nudge()
        return row

    async def delete(self, principal: Principal, reference: str) -> store.ServiceRow:
        async with self._db.begin() as session:
            row = await service_of(session, principal, reference)
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
        return await service_of(session, principal, reference)

    async def parts(self, session: Session, spec: Spec) -> list[Part]:
        """The weights that a revision runs, as far as they are here."""
        if not isinstance(spec, ServiceSpec):
            return []
        models = await self._catalog.by_ids(session, models_of(spec))
        needs = needs_of(models, self._machine.engines, spec)
        return self._supplies.parts(needs) if isinstance(needs, Needs) else []

    async def _wanted(
        self,
        session: Session,
        owner: Principal,
        row: store.ServiceRow,
        spec: ServiceSpec,
        change: Change,
    ) -> tuple[ServiceSpec, tuple[str, ...]]:
        """The spec that is wanted, and the tasks of the service then."""
        model = adapter = None
        if change.model is not None:
            model = await self._catalog.get(session, owner, change.model, keep=True)
            change = replace(change, model=model.card.id)
        if change.adapter is not None:
            adapter = await self._adapter(session, owner, change.adapter)
            change = replace(change, adapter=adapter.card.id)
        wish = wish_of(change, spec, row.name)
        if _is_as(wish, spec):
            return spec, tuple(row.tasks)
        if spec.host is not None:
            raise Conflict(
                f"service {row.name!r} runs on the replicas of its base, and has none of its own",
                hint="change the base's service, or deploy the adapter anew under another name",
                code="service_is_hosted",
            )
        present = await self._catalog.by_ids(session, models_of(spec))
        model = model or present.get(wish.model)
        if wish.adapter is not None:
            adapter = adapter or present.get(wish.adapter)
        for param, reference, found in (
            ("model", wish.model, model),
            ("adapter", wish.adapter, adapter),
        ):
            if reference is not None and found is None:
                raise NotFound(
                    f"{param} {reference!r} is no longer in the catalogue",
                    hint=f"name another {param}",
                    param=param,
                    code="model_not_found",
                )
        assert model is not None
        if adapter is not None and wish.adapter != spec.adapter:
            self._require_own_replicas(wish, model)
        drafted = draft(wish, model, adapter, [], self._machine, self._offers, owner)
        same = model.card.id == spec.model
        return next_spec(spec, drafted), tuple(row.tasks) if same else model.card.tasks

    def _require_own_replicas(self, wish: Wish, model: Model) -> None:
        """Raises `InvalidRequest` where adapters are services of their own beside their base."""
        engine = self._machine.engines.get(wish.engine or "")
        if engine is not None and engine.takes_adapters:
            raise InvalidRequest(
                f"adapter: on {engine.name} an adapter is a service of its own, beside its base",
                hint=f"modelry deploy {model.card.name} --adapter ADAPTER",
                param="adapter",
            )

    async def _revise(
        self,
        session: Session,
        row: store.ServiceRow,
        spec: ServiceSpec,
        wanted: ServiceSpec,
    ) -> None:
        """Note the new revision, of what stands on its replicas too. Raises `Conflict`."""
        guests = [
            (guest, its)
            for guest, its in await store.guests_of(session, row)
            if guest.want != Want.DELETE
        ]
        check_guests(spec, wanted, [guest.name for guest, _ in guests])
        told = in_words(spec, wanted)
        store.add_revision(session, row, wanted, told)
        for guest, its in guests:
            store.add_revision(session, guest, hosted_on(wanted, its), f"{told} of its base")
        # Whatever went wrong before is of no account for it.
        row.since = store.now()
        if row.state == ServiceState.FAILED:
            row.active_at = None
        await self._forget_failures(session, row, wanted)
        for guest, _ in guests:
            self._hosting.forget_failures(guest.id)

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
        rows, specs = await store.services_with_specs(session, principal.owner_id)
        return [
            Host(id_, spec)
            for id_, row in rows.items()
            if row.want == Want.RUN
            and isinstance(spec := specs[id_], ServiceSpec)
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
    guests = [guest.name for guest, _ in await store.guests_of(session, row)]
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


def _is_as(wish: Wish, spec: ServiceSpec) -> bool:
    """Whether all that is wished for is what there is."""
    return wish_of(Change(frozenset()), spec, wish.name) == wish


def _taken(row: store.ServiceRow) -> Conflict:
    if row.want == Want.DELETE:
        message = f"a service {row.name!r} is still being deleted"
        hint = "try again in a moment, or choose another name"
    else:
        message = f"you have a service {row.name!r} already"
        hint = "choose another name, or delete it first"
    return Conflict(message, hint=hint, param="name", code="service_name_taken")
