"""What owners do with services: create, connect, start, stop, delete. Each only states a wish.

The wish is stored with its event, and the reconciler is nudged to carry it out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog.catalog import Catalog, Model
from modelry.catalog.fetches import Fetches
from modelry.db import Database, Session
from modelry.engines.base import Engine
from modelry.errors import Conflict, InvalidRequest, NotFound
from modelry.sealing import Sealer
from modelry.services import store
from modelry.services.elsewhere import EndpointWish, admit
from modelry.services.plan import Want
from modelry.services.spec import EndpointsSpec, Replicas, ServiceSpec, Spec
from modelry.services.states import ServiceState

DEFAULT_CONTEXT_TOKENS = 4096


@dataclass(frozen=True)
class Wish:
    """What a caller asks of a new service; None leaves the choice to Modelry."""

    name: str
    model: str
    engine: str | None = None
    replicas: Replicas | None = None
    slots: int | None = None
    context_tokens: int | None = None
    idle_after_s: float | None = None


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
        fetches: Fetches,
        engines: Mapping[str, Engine],
        sealer: Sealer,
        nudge: Callable[[], None],
    ) -> None:
        self._db = db
        self._catalog = catalog
        self._fetches = fetches
        self._engines = engines
        self._sealer = sealer
        self._nudge = nudge

    async def create(self, principal: Principal, wish: Wish) -> store.ServiceRow:
        """Raises `NotFound` for the model, `Conflict` for the name, `InvalidRequest`."""
        async with self._db.begin() as session:
            model = await self._catalog.get(session, principal, wish.model, keep=True)
            spec = self._spec(wish, model)
            row = await _add(session, principal, wish.name, model.card.tasks, spec)
        self._forget_fetch_failure(model, spec)
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
                model = await self._catalog.by_id(session, spec.model)
                if model is not None:
                    self._forget_fetch_failure(model, spec)
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

    def _spec(self, wish: Wish, model: Model) -> ServiceSpec:
        card, variant = model.card, model.card.default_variant
        engine = self._engine(wish.engine, variant.format, card.tasks)
        context = wish.context_tokens
        if context is None:
            context = min(card.context_tokens or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)
        elif card.context_tokens is not None and context > card.context_tokens:
            raise InvalidRequest(
                f"context_tokens: {card.id} was trained with {card.context_tokens} tokens at most",
                param="context_tokens",
            )
        return ServiceSpec(
            model=card.id,
            model_name=card.id if model.owner_id is None else card.name,
            variant=variant.name,
            engine=engine.name,
            replicas=wish.replicas or Replicas(),
            slots=wish.slots or ServiceSpec.model_fields["slots"].default,
            context_tokens=context,
            defaults=card.defaults,
            idle_after_s=wish.idle_after_s,
        )

    def _engine(self, name: str | None, format: str, tasks: tuple[str, ...]) -> Engine:
        if name is not None and name not in self._engines:
            there_are = ", ".join(self._engines)
            raise InvalidRequest(
                f"engine: there is no engine {name!r}",
                hint=f"there are: {there_are}",
                param="engine",
            )
        candidates = [self._engines[name]] if name else list(self._engines.values())
        reasons = []
        for engine in candidates:
            reason = engine.supports(format, tasks)
            if reason is None:
                return engine
            reasons.append(reason)
        raise InvalidRequest(f"engine: {'; '.join(reasons)}", param="engine")

    def _forget_fetch_failure(self, model: Model, spec: ServiceSpec) -> None:
        for variant in model.card.variants:
            if variant.name == spec.variant:
                self._fetches.forget_failure(variant)


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
