"""Services, events and examples as the management API shows them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from modelry.executors.base import Observed
from modelry.services.lifecycle import Wish
from modelry.services.plan import Progress
from modelry.services.spec import Replicas, ServiceName, ServiceSpec
from modelry.services.states import ReplicaState
from modelry.services.store import EventRow, ReplicaRow, ServiceRow


class NewService(BaseModel):
    """A service to create. Only `name` and `model` are needed; the rest has defaults."""

    model_config = ConfigDict(extra="forbid")

    name: ServiceName
    model: str = Field(min_length=1, max_length=200)
    engine: str | None = None
    replicas: Replicas | None = None
    slots: int | None = Field(None, ge=1, le=256)
    context_tokens: int | None = Field(None, ge=64, le=10_000_000)

    def wish(self) -> Wish:
        return Wish(
            name=self.name,
            model=self.model,
            engine=self.engine,
            replicas=self.replicas,
            slots=self.slots,
            context_tokens=self.context_tokens,
        )


class ReplicaView(BaseModel):
    id: str
    state: str
    node: str | None
    memory_bytes: int | None
    revision: int


class ProgressView(BaseModel):
    """How far a fetch is; `total_bytes` is null while it is not known."""

    done_bytes: int
    total_bytes: int | None


class StatusView(BaseModel):
    state: str
    message: str
    progress: ProgressView | None
    replicas: list[ReplicaView]
    log_tail: list[str] | None = Field(
        None,
        description="The end of the failed replica's log, for a service that has failed.",
    )


class ServiceView(BaseModel):
    id: str
    name: str
    access_path: str
    model: str
    tasks: list[str]
    spec: ServiceSpec
    status: StatusView
    revision: int
    created_at: datetime


class EventView(BaseModel):
    at: datetime
    replica: str | None
    state: str
    message: str
    log_tail: list[str] | None


class ExampleView(BaseModel):
    language: str
    title: str
    streaming: bool
    install: str | None
    code: str


def service_view(
    row: ServiceRow,
    spec: ServiceSpec,
    replicas: list[ReplicaRow],
    observed: dict[str, Observed],
    progress: Progress | None,
    log_tail: list[str] | None,
) -> ServiceView:
    shown = [replica for replica in replicas if replica.state != ReplicaState.STOPPED]
    return ServiceView(
        id=row.id,
        name=row.name,
        access_path=row.access_path,
        model=spec.model_name,
        tasks=row.tasks,
        spec=spec,
        status=StatusView(
            state=row.state,
            message=row.message,
            progress=None
            if progress is None
            else ProgressView(
                done_bytes=progress.done_bytes, total_bytes=progress.total_bytes or None
            ),
            replicas=[_replica_view(replica, observed.get(replica.id)) for replica in shown],
            log_tail=log_tail,
        ),
        revision=row.revision,
        created_at=row.created_at,
    )


def _replica_view(row: ReplicaRow, seen: Observed | None) -> ReplicaView:
    return ReplicaView(
        id=row.id,
        state=row.state,
        node=None if seen is None else seen.node,
        memory_bytes=None if seen is None else seen.memory_bytes,
        revision=row.revision,
    )


def event_view(row: EventRow) -> EventView:
    return EventView(
        at=row.at,
        replica=row.replica_id,
        state=row.state,
        message=row.message,
        log_tail=row.log_tail,
    )
