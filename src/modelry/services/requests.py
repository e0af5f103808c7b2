"""Services as callers of the management API ask for them: to be made, or to be otherwise."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from modelry.catalog.cards import Task
from modelry.catalog.formats import Quantisation
from modelry.errors import InvalidRequest
from modelry.services.changes import Change, EndpointsChange
from modelry.services.drafts import Wish
from modelry.services.elsewhere import EndpointChange, EndpointWish
from modelry.services.lifecycle import Connection
from modelry.services.spec import (
    MAX_ENDPOINT_SLOTS,
    MAX_GPUS,
    MAX_SLOTS,
    EndpointUrl,
    IdleAfter,
    Replicas,
    ServiceName,
)
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


class EndpointUpdate(BaseModel):
    """An endpoint that a service is to have from now on: one of those it has, or a new one."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(
        None,
        max_length=64,
        description="The one it has been until now; without it, the one of the same url, or a new "
        "one. What is left out of one that it has stays.",
    )
    url: EndpointUrl | None = Field(None, description="As of a new service.")
    api_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None, description="Null: none. To be given again where the url changes."
    )
    model: str | None = Field(None, min_length=1, max_length=200)
    weight: int = Field(1, ge=1, le=100)

    def change(self) -> EndpointChange:
        return EndpointChange(
            named=frozenset(self.model_fields_set),
            id=self.id,
            url=self.url,
            api_key=None if self.api_key is None else Secret(self.api_key.get_secret_value()),
            model=self.model,
            weight=self.weight,
        )


_OF_REPLICAS = (
    *("model", "variant", "adapter", "engine", "runtime", "quantisation", "gpus"),
    *("engine_args", "engine_env", "replicas", "context_tokens", "idle_after_s"),
)
_HAS_NONE = "a service that stands on endpoints elsewhere has none"
_OF_THE_MODEL = "they are the model's; only endpoints elsewhere are told theirs"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class ServiceFields(BaseModel):
    """What both a new service and a change of one may name."""

    model_config = ConfigDict(extra="forbid")

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
    tasks: Annotated[list[Task], Field(min_length=1, max_length=7)] | None = Field(
        None, description="What the endpoints do; chat where it is not said."
    )

    def _refuse(self, why: str, *fields: str) -> None:
        """Raises `InvalidRequest` for the first of these that was given."""
        for field in fields:
            if getattr(self, field) not in (None, [], {}):
                raise InvalidRequest(f"{field}: {why}", param=field)

    def _refuse_many_slots(self) -> None:
        if self.slots is not None and self.slots > MAX_SLOTS:
            raise InvalidRequest(f"slots: a replica has {MAX_SLOTS} at most", param="slots")


class NewService(ServiceFields):
    """A service to create, from a `model` or on an `endpoint` elsewhere, or several."""

    name: ServiceName
    engine_args: list[str] = Field(
        [], description='Extra arguments for the engine, such as ["--seed", "1"].'
    )
    engine_env: dict[str, str] = Field({}, description="Extra environment for the engine.")
    endpoint: (
        Annotated[
            list[NewEndpoint],
            Field(min_length=1, max_length=16),
            BeforeValidator(_as_list, json_schema_input_type=NewEndpoint | list[NewEndpoint]),
        ]
        | None
    ) = None

    def wish(self) -> Wish | Connection:
        """Raises `InvalidRequest` where the fields do not go together."""
        if self.endpoint is None:
            return self._model_wish()
        self._refuse(_HAS_NONE, *_OF_REPLICAS)
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
        self._refuse(_OF_THE_MODEL, "tasks")
        self._refuse_many_slots()
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


class ServiceUpdate(ServiceFields):
    """What changes of a service; a field that is left out stays. Null takes back what its owner
    chose: what a new service would have counts again.
    """

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Cannot be null. With another, variant, engine and what follows of them are "
        "chosen anew, unless they are named too.",
    )
    adapter: str | None = Field(
        None, min_length=1, max_length=200, description="As of a new service; null: none."
    )
    engine_args: list[str] | None = Field(None, description="All of them; null: none.")
    engine_env: dict[str, str] | None = Field(None, description="All of it; null: none.")
    endpoint: (
        Annotated[
            list[EndpointUpdate],
            Field(min_length=1, max_length=16),
            BeforeValidator(_as_list, json_schema_input_type=EndpointUpdate | list[EndpointUpdate]),
        ]
        | None
    ) = Field(None, description="All that it is to have. Cannot be null.")

    def change(self) -> Change:
        """Of a service of a model. Raises `InvalidRequest`."""
        self._refuse("a service of a model does not become one of endpoints", "endpoint")
        self._refuse(_OF_THE_MODEL, "tasks")
        self._refuse_null("model", "a service of a model needs one")
        self._refuse_many_slots()
        return Change(
            named=frozenset(self.model_fields_set - {"endpoint", "tasks"}),
            model=self.model,
            variant=self.variant,
            adapter=self.adapter,
            engine=self.engine,
            runtime=self.runtime,
            quantisation=self.quantisation,
            replicas=self.replicas,
            slots=self.slots,
            context_tokens=self.context_tokens,
            idle_after_s=self.idle_after_s,
            gpus=self.gpus,
            engine_args=tuple(self.engine_args or ()),
            engine_env=self.engine_env or {},
        )

    def endpoints_change(self) -> EndpointsChange:
        """Of a service that stands on endpoints elsewhere. Raises `InvalidRequest`."""
        self._refuse(_HAS_NONE, *_OF_REPLICAS)
        self._refuse_null("endpoint", "a service without a model needs one")
        return EndpointsChange(
            named=frozenset(self.model_fields_set & {"endpoint", "tasks", "slots"}),
            endpoints=tuple(endpoint.change() for endpoint in self.endpoint or ()),
            tasks=tuple(dict.fromkeys(self.tasks or ["chat"])),
            slots=self.slots,
        )

    def _refuse_null(self, field: str, why: str) -> None:
        if field in self.model_fields_set and getattr(self, field) is None:
            raise InvalidRequest(f"{field}: {why}", param=field)
