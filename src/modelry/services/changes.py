"""A service's next revision, made of the present one and what its owner wants otherwise. Pure.

What is not named stays. Only what follows from something that changes is chosen anew: the
variant from the model, the engine from the variant, its version from the engine.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from modelry.catalog.formats import Quantisation
from modelry.errors import Conflict
from modelry.services.drafts import Wish
from modelry.services.elsewhere import EndpointChange
from modelry.services.spec import Replicas, ServiceSpec

_FOLLOWS = {
    "model": ("variant", "engine", "runtime", "quantisation", "gpus"),
    "variant": ("engine", "runtime", "quantisation", "gpus"),
    "engine": ("runtime", "quantisation", "gpus"),
    "runtime": ("gpus",),
}
"""What is chosen anew where this changes, unless it is named itself."""
_OF_WEIGHTS = ("model", "variant", "adapter", "engine", "runtime", "quantisation")
_HELD = ("gguf_converter", "projector", "defaults", "dimensions_min", "model_name", "adapter_name")
"""Not named by anybody: they stay while all of `_OF_WEIGHTS` does."""
_FIXED_FOR_GUESTS = ("model", "variant", "adapter", "engine", "gguf_converter", "quantisation")


@dataclass(frozen=True)
class Change:
    """What an owner wants otherwise of a service of a model. `named`: the fields that were given;
    None in one of these gives the choice back to Modelry. The rest is of no account.
    """

    named: frozenset[str]
    model: str | None = None
    variant: str | None = None
    adapter: str | None = None
    engine: str | None = None
    runtime: str | None = None
    quantisation: Quantisation | None = None
    replicas: Replicas | None = None
    slots: int | None = None
    context_tokens: int | None = None
    idle_after_s: float | None = None
    gpus: int | None = None
    engine_args: tuple[str, ...] = ()
    engine_env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EndpointsChange:
    """The same of one on endpoints elsewhere. `endpoints`: all that it is to have."""

    named: frozenset[str]
    endpoints: tuple[EndpointChange, ...] = ()
    tasks: tuple[str, ...] = ()
    slots: int | None = None


def wish_of(change: Change, spec: ServiceSpec, name: str) -> Wish:
    """The whole of what is wanted. `change` names models by their ids."""
    present = Wish(
        name=name,
        model=spec.model,
        variant=spec.variant,
        adapter=spec.adapter,
        engine=spec.engine,
        runtime=spec.runtime,
        quantisation=spec.quantisation,
        replicas=spec.replicas,
        slots=spec.slots,
        context_tokens=spec.context_tokens,
        idle_after_s=spec.idle_after_s,
        gpus=spec.gpus,
        engine_args=spec.engine_args,
        engine_env=spec.engine_env,
    )
    named: dict[str, Any] = {name: getattr(change, name) for name in change.named}
    wanted = replace(present, **named)
    anew = {
        follower
        for leader, followers in _FOLLOWS.items()
        if getattr(wanted, leader) != getattr(present, leader)
        for follower in followers
        if follower not in change.named
    }
    chosen_anew: dict[str, Any] = dict.fromkeys(anew)
    wanted = replace(wanted, **chosen_anew)
    # That an adapter ends its replicas after a while is for those who did not say.
    return replace(wanted, stays=wanted.idle_after_s is None)


def next_spec(spec: ServiceSpec, drafted: ServiceSpec) -> ServiceSpec:
    """The draft, with what a service keeps as long as it runs the same weights in the same way:
    not what its card, or this version of Modelry, says by now.
    """
    if any(getattr(spec, name) != getattr(drafted, name) for name in _OF_WEIGHTS):
        return drafted
    return drafted.model_copy(update={name: getattr(spec, name) for name in _HELD})


def check_guests(spec: ServiceSpec, wanted: ServiceSpec, guests: Collection[str]) -> None:
    """Raises `Conflict` where adapters run on its replicas that other weights may not fit."""
    for name in _FIXED_FOR_GUESTS:
        if guests and getattr(spec, name) != getattr(wanted, name):
            param = "quantisation" if name == "gguf_converter" else name
            raise Conflict(
                f"{param}: adapters run on its replicas, and are of what it runs now: "
                + ", ".join(guests),
                hint="delete those first, or deploy another service beside it",
                param=param,
                code="service_has_adapters",
            )


def in_words(spec: ServiceSpec, wanted: ServiceSpec) -> str:
    """Which fields differ, without their values: an environment may hold secrets."""
    differing = [
        name
        for name in ServiceSpec.model_fields
        if name not in _HELD and getattr(spec, name) != getattr(wanted, name)
    ]
    return ", ".join(differing) or "what its model's card says"
