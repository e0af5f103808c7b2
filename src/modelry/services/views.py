"""Services, events and examples as the management API takes and shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)

from modelry.access.credentials import masked
from modelry.catalog.cards import Task
from modelry.catalog.formats import Quantisation
from modelry.catalog.views import ProgressView, progress_view
from modelry.errors import InvalidRequest
from modelry.executors.base import Observed
from modelry.services.drafts import Wish
from modelry.services.elsewhere import EndpointWish
from modelry.services.lifecycle import Connection
from modelry.services.situation import Progress
from modelry.services.spec import (
    MAX_ENDPOINT_SLOTS,
    MAX_GPUS,
    MAX_SLOTS,
    EndpointsSpec,
    EndpointUrl,
    IdleAfter,
    Replicas,
    ServiceName,
    ServiceSpec,
    Spec,
)
from modelry.services.states import ReplicaState
from modelry.services.store import EventRow, ReplicaRow, ServiceRow
from modelry.services.supplies import Part
from modelry.settings import Secret


def _sendable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable() and 0 < len(text) <= 4096) or " " in text:
        raise ValueError("must be ASCII without spaces, 4096 characters at most")
    return key


class NewEndpoint(BaseModel):
    """An OpenAI-compatible endpoint elsewhere."""

    model_config = ConfigDict(extra="forbid")

    url: EndpointUrl = Field(
        description="The base under which chat/completions lies, such as https://api.example.com/v1"
    )
    api_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None, description="Its own key; stored encrypted, and not shown again."
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="What it calls the model; without it, it gets the access path.",
    )
    weight: int = Field(1, ge=1, le=100, description="Its share of the calls.")

    def wish(self) -> EndpointWish:
        key = None if self.api_key is None else Secret(self.api_key.get_secret_value())
        return EndpointWish(url=self.url, api_key=key, model=self.model, weight=self.weight)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class NewService(BaseModel):
    """A service to create, from a `model` or on an `endpoint` elsewhere, or several."""

    model_config = ConfigDict(extra="forbid")

    name: ServiceName
    model: str | None = Field(None, min_length=1, max_length=200)
    variant: str | None = Field(
        None, max_length=64, description="Of the model; without it, the best that fits here."
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="A model that is a LoRA adapter of `model`, by its name or id.",
    )
    engine: str | None = None
    runtime: str | None = Field(
        None, description="The version of the engine, of `GET /engines`; it stays pinned."
    )
    quantisation: Quantisation | None = Field(
        None, description="For weights that are converted to GGUF; null keeps their precision."
    )
    gpus: int | None = Field(None, ge=0, le=MAX_GPUS, description="Of each replica.")
    engine_args: list[str] = Field(
        [], description='Extra arguments for the engine, such as ["--seed", "1"].'
    )
    engine_env: dict[str, str] = Field({}, description="Extra environment for the engine.")
    replicas: Replicas | None = None
    slots: int | None = Field(
        None,
        ge=1,
        le=MAX_ENDPOINT_SLOTS,
        description=f"Requests at a time; of a replica {MAX_SLOTS} at most, else of an endpoint.",
    )
    context_tokens: int | None = Field(None, ge=64, le=10_000_000)
    idle_after_s: IdleAfter | None = Field(
        None, description="Replicas end after so many seconds without a call; null: never."
    )
    endpoint: (
        Annotated[
            list[NewEndpoint],
            Field(min_length=1, max_length=16),
            BeforeValidator(_as_list, json_schema_input_type=NewEndpoint | list[NewEndpoint]),
        ]
        | None
    ) = None
    tasks: Annotated[list[Task], Field(min_length=1, max_length=7)] | None = Field(
        None, description="What the endpoints do; chat where it is not said."
    )

    def wish(self) -> Wish | Connection:
        """Raises `InvalidRequest` where the fields do not go together."""
        if self.endpoint is None:
            return self._model_wish()
        self._refuse(
            "a service that stands on endpoints elsewhere has none",
            *("model", "variant", "adapter", "engine", "runtime", "quantisation", "gpus"),
            *("engine_args", "engine_env", "replicas", "context_tokens", "idle_after_s"),
        )
        return Connection(
            name=self.name,
            endpoints=tuple(endpoint.wish() for endpoint in self.endpoint),
            tasks=tuple(dict.fromkeys(self.tasks or ["chat"])),
            slots=self.slots,
        )

    def _model_wish(self) -> Wish:
        if self.model is None:
            raise InvalidRequest(
                "model: a service needs a model, or an endpoint elsewhere",
                hint="GET /api/v1/models lists the models",
                param="model",
            )
        self._refuse("they are the model's; only endpoints elsewhere are told theirs", "tasks")
        if self.slots is not None and self.slots > MAX_SLOTS:
            raise InvalidRequest(f"slots: a replica has {MAX_SLOTS} at most", param="slots")
        return Wish(
            name=self.name,
            model=self.model,
            variant=self.variant,
            adapter=self.adapter,
            engine=self.engine,
            runtime=self.runtime,
            quantisation=self.quantisation,
            gpus=self.gpus,
            engine_args=tuple(self.engine_args),
            engine_env=self.engine_env,
            stays="idle_after_s" in self.model_fields_set and self.idle_after_s is None,
            replicas=self.replicas,
            slots=self.slots,
            context_tokens=self.context_tokens,
            idle_after_s=self.idle_after_s,
        )

    def _refuse(self, why: str, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) not in (None, [], {}):
                raise InvalidRequest(f"{field}: {why}", param=field)


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
    log_tail: list[str] | None = Field(
        None,
        description="The end of the failed replica's log, for a service that has failed.",
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
) -> ServiceView:
    return ServiceView(
        id=row.id,
        name=row.name,
        access_path=row.access_path,
        model=spec.model_name,
        tasks=row.tasks,
        spec=_endpoints_view(spec) if isinstance(spec, EndpointsSpec) else spec,
        status=StatusView(
            state=row.state,
            message=row.message,
            progress=None if progress is None else progress_view(progress),
            replicas=[
                _replica_view(replica, observed.get(replica.id))
                for replica in shown_replicas(replicas)
            ],
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
