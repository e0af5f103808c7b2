"""What gateways are told of each service: its route.

A route is of one revision at a time, the one that serves: calls are made ready for its engine,
its context, its slots. An earlier one serves until enough replicas of the present one are ready;
then all of the route changes at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelry.catalog.catalog import Model
from modelry.engines.base import Constraining, Engine, Projecting, Speaking
from modelry.executors.base import Observed
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route
from modelry.services import situation, store
from modelry.services.hosting import Hosting
from modelry.services.needs import needs_of
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec, hosted_on
from modelry.services.states import ReplicaState, ServiceState
from modelry.services.supplies import Needs
from modelry.services.traits import NO_TRAITS, Traits, TraitsReader
from modelry.services.world import are_alike


@dataclass(frozen=True)
class Serving:
    """The revision that serves, and its replicas that are ready."""

    spec: Spec
    replicas: tuple[store.ReplicaRow, ...] = ()


@dataclass(frozen=True)
class Sight:
    """What routes are made of. `revisions`: those that have replicas now; `models`: by id, those
    that specs and revisions name.
    """

    services: Mapping[str, store.ServiceRow]
    specs: Mapping[str, Spec]
    revisions: store.Revisions
    replicas: Sequence[store.ReplicaRow]
    observed: Mapping[str, Observed]
    models: Mapping[str, Model]
    needs: Mapping[str, Needs]


class Routes:
    def __init__(
        self, engines: Mapping[str, Engine], hosting: Hosting, traits: TraitsReader
    ) -> None:
        self._engines = engines
        self._hosting = hosting
        self._traits = traits

    async def of(self, sight: Sight) -> dict[str, Route]:
        """By service id. It may read of weights, so it is nothing for within a transaction."""
        ready: dict[str, list[store.ReplicaRow]] = {}
        for replica in sight.replicas:
            if replica.state == ReplicaState.READY and replica.id in sight.observed:
                ready.setdefault(replica.service_id, []).append(replica)
        serving = {id_: self._serving(row, sight, ready) for id_, row in sight.services.items()}
        specs = {id_: each.spec for id_, each in serving.items()}
        tasks = {id_: _tasks(row, sight, specs[id_]) for id_, row in sight.services.items()}
        traits = await self._traits.read(tasks, specs, self._needs(sight, specs))
        return {
            id_: self._route(
                row, serving[id_], tasks[id_], traits.get(id_, NO_TRAITS), sight.observed
            )
            for id_, row in sight.services.items()
        }

    def _serving(
        self, row: store.ServiceRow, sight: Sight, ready: Mapping[str, list[store.ReplicaRow]]
    ) -> Serving:
        spec = sight.specs[row.id]
        if isinstance(spec, EndpointsSpec):
            return Serving(spec)
        if spec.host is None:
            return serving(spec, ready.get(row.id, []), sight.revisions)
        base = sight.specs.get(spec.host)
        if row.want != situation.Want.RUN or not isinstance(base, ServiceSpec):
            return Serving(spec)
        on = self._hosting.seen(row.id).on
        mine = [replica for replica in ready.get(spec.host, []) if replica.id in on]
        found = serving(base, mine, sight.revisions)
        assert isinstance(found.spec, ServiceSpec)
        return Serving(hosted_on(found.spec, spec), found.replicas)

    def _needs(self, sight: Sight, specs: Mapping[str, Spec]) -> dict[str, Needs]:
        """Of the revisions that serve."""
        found = dict(sight.needs)
        for id_, spec in specs.items():
            if spec is not sight.specs[id_] and isinstance(spec, ServiceSpec):
                needs = needs_of(sight.models, self._engines, spec)
                found.pop(id_, None)
                if isinstance(needs, Needs):
                    found[id_] = needs
        return found

    def _route(
        self,
        row: store.ServiceRow,
        serving: Serving,
        tasks: tuple[str, ...],
        traits: Traits,
        observed: Mapping[str, Observed],
    ) -> Route:
        spec = serving.spec
        ours = spec if isinstance(spec, ServiceSpec) else None
        engine = None if ours is None else self._engines.get(ours.engine)
        return Route(
            service_id=row.id,
            access_path=row.access_path,
            owner_id=row.owner_id,
            tasks=tasks,
            state=row.state,
            message=row.message,
            created_at=int(row.created_at.timestamp()),
            replicas=_replica_addresses(row, serving, engine, observed),
            collect=engine is not None and not engine.stops_whole_answers,
            endpoints=_endpoint_addresses(row, spec),
            dimensions_min=None if ours is None else ours.dimensions_min,
            raw_scores=traits.raw_scores,
            grammars=isinstance(engine, Constraining),
            tools=traits.tools,
            small=traits.small,
            dialect=_dialect(engine),
            context_tokens=None if ours is None else ours.context_tokens,
            max_tokens=None if ours is None else ours.defaults.max_tokens,
            images=traits.images,
            image_types=_image_types(engine) if traits.images else (),
        )


def serving(
    spec: ServiceSpec, ready: Sequence[store.ReplicaRow], revisions: store.Revisions
) -> Serving:
    """`spec` is the present one, `ready` the replicas that could serve, of whatever revision."""

    def of(wanted: Spec) -> tuple[store.ReplicaRow, ...]:
        return tuple(
            row for row in ready if are_alike(wanted, revisions[row.service_id, row.revision])
        )

    current = of(spec)
    others = [row for row in ready if row not in current]
    if not others or len(current) >= spec.replicas.min:
        return Serving(spec, current)
    # The one that was served by until now has most, and else is the earliest.
    candidates = {row.revision: revisions[row.service_id, row.revision] for row in others}
    number = max(candidates, key=lambda each: (len(of(candidates[each])), -each))
    return Serving(candidates[number], of(candidates[number]))


def _tasks(row: store.ServiceRow, sight: Sight, spec: Spec) -> tuple[str, ...]:
    """What is done by the revision that serves: a change may have brought another model."""
    current = sight.specs[row.id]
    if isinstance(spec, EndpointsSpec) or isinstance(current, EndpointsSpec):
        return tuple(row.tasks)
    earlier = None if spec.model == current.model else sight.models.get(spec.model)
    return tuple(row.tasks if earlier is None else earlier.card.tasks)


def _dialect(engine: object) -> str:
    return engine.dialect if isinstance(engine, Speaking) else ""


def _image_types(engine: object) -> tuple[str, ...]:
    return engine.image_types if isinstance(engine, Projecting) else ()


def _replica_addresses(
    row: store.ServiceRow,
    serving: Serving,
    engine: Engine | None,
    observed: Mapping[str, Observed],
) -> tuple[ReplicaAddress, ...]:
    spec = serving.spec
    if row.state == ServiceState.IDLE or engine is None or isinstance(spec, EndpointsSpec):
        # Those that an idle one still has are about to be drained.
        return ()
    return tuple(
        ReplicaAddress(
            replica.id,
            observed[replica.id].endpoint.address,
            observed[replica.id].endpoint.secret,
            spec.slots,
            # Where several models share a replica, it has to be told by its exact name.
            row.access_path if engine.takes_adapters else None,
        )
        for replica in serving.replicas
    )


def _endpoint_addresses(row: store.ServiceRow, spec: Spec) -> tuple[EndpointAddress, ...]:
    if not isinstance(spec, EndpointsSpec) or row.state != ServiceState.RUNNING:
        return ()
    return tuple(
        EndpointAddress(
            id=endpoint.id,
            url=endpoint.url,
            slots=spec.slots,
            weight=endpoint.weight,
            model=endpoint.model,
            sealed_key=endpoint.sealed_key,
            public_only=endpoint.public_only,
        )
        for endpoint in spec.endpoints
    )
