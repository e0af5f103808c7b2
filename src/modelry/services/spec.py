"""What an owner wants of a service. Pure data and rules."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


ServiceName = Annotated[str, AfterValidator(check_name)]


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
    """One immutable revision of a service.

    `model` is the model's id, `model_name` what its owner calls it.
    `context_tokens` is per request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    model_name: str
    engine: str
    variant: str
    replicas: Replicas = Replicas()
    slots: int = Field(4, ge=1, le=256)
    defaults: Defaults = Defaults()
    context_tokens: int = Field(4096, ge=64, le=10_000_000)


def access_path(owner_id: str, name: str) -> str:
    return f"{owner_id}/{name}"
