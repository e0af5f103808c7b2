"""Services, events and examples as the management API shows them."""

from datetime import datetime

from pydantic import BaseModel, Field

from modelry.access.credentials import masked
from modelry.catalog.views import ProgressView, progress_view
from modelry.executors.base import Observed
from modelry.services.situation import Progress
from modelry.services.spec import EndpointsSpec, ServiceSpec, Spec, parse_spec
from modelry.services.states import ReplicaState
from modelry.services.store import EventRow, ReplicaRow, RevisionRow, ServiceRow
from modelry.services.supplies import Part


class EndpointView(BaseModel):
    id: str
    url: str
    model: str | None
    weight: int
    api_key: str | None = Field(description="Masked, like …abcd; null where it has none.")


class EndpointsView(BaseModel):
    """The spec of a service that stands on endpoints elsewhere; `slots` is of each."""

    endpoints: list[EndpointView]
    slots: int


class ReplicaView(BaseModel):
    id: str
    state: str
    node: str | None
    memory_bytes: int | None
    revision: int
    created_at: datetime
    ready_at: datetime | None = Field(description="When it was ready; null before that.")


class StatusView(BaseModel):
    state: str
    message: str
    progress: ProgressView | None
    replicas: list[ReplicaView]
    stuck: bool = Field(
        description="A change does not get on by itself: `message` says why, and the revision "
        "before serves on."
    )
    log_tail: list[str] | None = Field(
        None,
        description="The end of the failed replica's log, for a service that has failed, or whose "
        "change is stuck.",
    )


class PartView(BaseModel):
    """Weights that a service runs, or what they were converted from or to."""

    what: str = Field(
        description="`model`, `projector`, `conversion`, `adapter` or `adapter conversion`."
    )
    revision: str | None = Field(description="The commit of a hub's repository.")
    sha256: str = Field(description="Of the file, or of the list of files.")
    size_bytes: int


class ServiceView(BaseModel):
    id: str
    name: str
    access_path: str
    model: str | None = Field(
        description="Null on endpoints elsewhere that do not name theirs, or name several."
    )
    tasks: list[str]
    spec: ServiceSpec | EndpointsView
    status: StatusView
    weights: list[PartView] = Field(description="What is here of it; more in `GET /models`.")
    revision: int
    created_at: datetime


class RevisionView(BaseModel):
    number: int
    created_at: datetime
    spec: ServiceSpec | EndpointsView


class EventView(BaseModel):
    at: datetime
    replica: str | None
    state: str
    message: str
    log_tail: list[str] | None


class ExampleView(BaseModel):
    task: str = Field(description="The one of the service's `tasks` that the program is for.")
    path: str = Field(description="What it calls, below the base URL.")
    language: str
    title: str
    streaming: bool
    install: str | None
    code: str


def shown_replicas(replicas: list[ReplicaRow]) -> list[ReplicaRow]:
    """Without those that are over: stopped, or failed before another became ready."""
    ready = [each for each in replicas if each.state == ReplicaState.READY]
    newest = max((each.ready_at or each.created_at for each in ready), default=None)

    def is_over(replica: ReplicaRow) -> bool:
        if replica.state != ReplicaState.FAILED:
            return replica.state == ReplicaState.STOPPED
        return newest is not None and (replica.ended_at or replica.created_at) < newest

    return [each for each in replicas if not is_over(each)]


def service_view(
    row: ServiceRow,
    spec: Spec,
    replicas: list[ReplicaRow],
    observed: dict[str, Observed],
    progress: Progress | None,
    log_tail: list[str] | None,
    parts: list[Part],
    *,
    stuck: bool,
) -> ServiceView:
    return ServiceView(
        id=row.id,
        name=row.name,
        access_path=row.access_path,
        model=spec.model_name,
        tasks=row.tasks,
        spec=_spec_view(spec),
        status=StatusView(
            state=row.state,
            message=row.message,
            progress=None if progress is None else progress_view(progress),
            replicas=[
                _replica_view(replica, observed.get(replica.id))
                for replica in shown_replicas(replicas)
            ],
            stuck=stuck,
            log_tail=log_tail,
        ),
        weights=[
            PartView(
                what=part.what,
                revision=part.weights.revision,
                sha256=part.weights.sha256,
                size_bytes=part.weights.size_bytes,
            )
            for part in parts
        ],
        revision=row.revision,
        created_at=row.created_at,
    )


def revision_view(row: RevisionRow) -> RevisionView:
    spec = parse_spec(row.spec)
    return RevisionView(number=row.number, created_at=row.created_at, spec=_spec_view(spec))


def _spec_view(spec: Spec) -> ServiceSpec | EndpointsView:
    return _endpoints_view(spec) if isinstance(spec, EndpointsSpec) else spec


def _endpoints_view(spec: EndpointsSpec) -> EndpointsView:
    """Without what is sealed."""
    return EndpointsView(
        endpoints=[
            EndpointView(
                id=endpoint.id,
                url=endpoint.url,
                model=endpoint.model,
                weight=endpoint.weight,
                api_key=None if endpoint.key_tail is None else masked("", endpoint.key_tail),
            )
            for endpoint in spec.endpoints
        ],
        slots=spec.slots,
    )


def _replica_view(row: ReplicaRow, seen: Observed | None) -> ReplicaView:
    return ReplicaView(
        id=row.id,
        state=row.state,
        node=None if seen is None else seen.node,
        memory_bytes=None if seen is None else seen.memory_bytes,
        revision=row.revision,
        created_at=row.created_at,
        ready_at=row.ready_at,
    )


def event_view(row: EventRow) -> EventView:
    return EventView(
        at=row.at,
        replica=row.replica_id,
        state=row.state,
        message=row.message,
        log_tail=row.log_tail,
    )
