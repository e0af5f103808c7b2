"""What an owner wants of a service. Pure data and rules."""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from modelry.catalog.fit import DEFAULT_CONTEXT_TOKENS, DEFAULT_SLOTS
from modelry.catalog.formats import Quantisation
from modelry.engines.base import Defaults

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")
NAME_RULE = (
    "must be 2-64 characters of a-z, 0-9 and '-', start with a letter and end with a "
    "letter or digit"
)


def check_name(name: str) -> str:
    """The contract's rule for service names. Raises `ValueError` with the rule."""
    if not _NAME.fullmatch(name):
        raise ValueError(NAME_RULE)
    return name


_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:\d{1,5})?"
    r"(?P<path>/[a-z0-9._~!$&'()*+,;=:@%/-]*)?",
    re.IGNORECASE | re.ASCII,
)
URL_RULE = (
    "must look like https://api.example.com/v1, the base under which chat/completions lies, "
    "without user, query or fragment"
)


def check_url(text: str) -> str:
    """The base address of an endpoint elsewhere, without a final slash.

    Raises `ValueError` with the rule.
    """
    match = _URL.fullmatch(text)
    if match is None or not _possible(match["host"], match["port"]):
        raise ValueError(URL_RULE)
    path = (match["path"] or "").rstrip("/")
    if path.endswith("/chat/completions"):
        raise ValueError(f"{URL_RULE}; leave /chat/completions out")
    return f"{match['scheme']}://{match['host']}{match['port'] or ''}".lower() + path


def _possible(host: str, port: str | None) -> bool:
    if port is not None and not 0 < int(port[1:]) < 65536:
        return False
    try:
        return not host.startswith("[") or bool(IPv6Address(host[1:-1]))
    except ValueError:
        return False


ServiceName = Annotated[str, AfterValidator(check_name)]
EndpointUrl = Annotated[str, Field(max_length=2000), AfterValidator(check_url)]
MAX_SLOTS = 256
MAX_GPUS = 64
MAX_ENDPOINT_SLOTS = 4096
# 30 days: who means longer means never.
IdleAfter = Annotated[float, Field(strict=True, ge=1, le=30 * 24 * 3600)]


class Replicas(BaseModel):
    """How many replicas: `min` run; `max`, `min` by default, is for when load decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(1, ge=1, le=64)
    max: int = Field(default_factory=lambda data: data.get("min", 1), ge=1, le=64)

    @model_validator(mode="after")
    def _in_order(self) -> "Replicas":
        if self.min > self.max:
            raise ValueError("min must not be more than max")
        return self


class ServiceSpec(BaseModel):
    """One immutable revision of a service that runs a model on replicas of ours.

    `model` is the model's id, `model_name` what its owner calls it.
    `context_tokens` is per request. `idle_after_s`: without a call for so long
    it needs no replicas; None is never. `adapter` is the model's id of the LoRA weights
    it runs with, and `adapter_name` what its owner calls them; `host` the service
    whose replicas take them, where it has none of its own. `runtime`: the version of
    its engine, None where that is embedded. `gguf_converter`: the runtime that makes
    GGUF of its weights, in `quantisation`, where the engine takes nothing else.
    `gpus`: of each replica. `dimensions_min`: its embeddings may be cut to so many numbers.
    `projector`: it runs with its variant's, and takes images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    model_name: str
    engine: str
    variant: str
    runtime: str | None = None
    gguf_converter: str | None = None
    quantisation: Quantisation | None = None
    projector: bool = False
    adapter: str | None = None
    adapter_name: str | None = None
    host: str | None = None
    gpus: int = Field(0, ge=0, le=MAX_GPUS)
    engine_args: tuple[str, ...] = ()
    engine_env: dict[str, str] = {}
    replicas: Replicas = Replicas()
    slots: int = Field(DEFAULT_SLOTS, ge=1, le=MAX_SLOTS)
    defaults: Defaults = Defaults()
    dimensions_min: int | None = None
    context_tokens: int = Field(DEFAULT_CONTEXT_TOKENS, ge=64, le=10_000_000)
    idle_after_s: IdleAfter | None = None

    def replicas_alike(self, other: "ServiceSpec") -> bool:
        """Whether a replica of the one serves as one of the other does: they differ, if at all,
        in how many there are and when, in names, and in what gateways alone go by.
        """
        others = {name: getattr(other, name) for name in _OF_NO_REPLICA}
        return self.model_copy(update=others) == other


_OF_NO_REPLICA = ("replicas", "idle_after_s", "model_name", "adapter_name", "dimensions_min")


class EndpointSpec(BaseModel):
    """An OpenAI-compatible endpoint elsewhere. `url`, `model`, `sealed_key` and
    `public_only` are as in `EndpointAddress`; `key_tail` tells keys apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    url: str
    model: str | None = None
    weight: int = Field(1, ge=1, le=100)
    sealed_key: str | None = None
    key_tail: str | None = None
    public_only: bool = False


class EndpointsSpec(BaseModel):
    """One immutable revision of a service that stands on endpoints elsewhere.

    `slots` is for each of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[EndpointSpec, ...] = Field(min_length=1, max_length=16)
    slots: int = Field(64, ge=1, le=MAX_ENDPOINT_SLOTS)

    @property
    def model_name(self) -> str | None:
        """What its endpoints call the model; None where they do not say, or differ."""
        names = {endpoint.model for endpoint in self.endpoints}
        return names.pop() if len(names) == 1 else None


Spec: TypeAlias = ServiceSpec | EndpointsSpec


def hosted_on(base: ServiceSpec, guest: ServiceSpec) -> ServiceSpec:
    """The spec of a service whose adapter runs on the replicas of another, of that one's spec."""
    own = ("adapter", "adapter_name", "host")
    named = {name: getattr(guest, name) for name in own}
    return base.model_copy(update={**named, "idle_after_s": None})


def parse_spec(stored: Mapping[str, Any]) -> Spec:
    kind = EndpointsSpec if "endpoints" in stored else ServiceSpec
    return kind.model_validate(stored)


def access_path(owner_id: str, name: str) -> str:
    return f"{owner_id}/{name}"
