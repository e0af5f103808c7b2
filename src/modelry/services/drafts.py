"""A service's spec, made of what its owner asked and what this machine has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelry.access.principal import Principal
from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Model
from modelry.catalog.choice import Choice, Machine, Wanted, choose
from modelry.catalog.fit import DEFAULT_SLOTS
from modelry.catalog.formats import Quantisation
from modelry.catalog.offers import Offers, Size, context_of, variant_of
from modelry.engines.base import Projecting
from modelry.engines.options import Options, check_options
from modelry.errors import InvalidRequest
from modelry.services.spec import Replicas, ServiceSpec

ADAPTER_IDLE_AFTER_S = 300.0
"""An adapter that nobody calls costs no memory, unless its owner wants it to stay."""


@dataclass(frozen=True)
class Wish:
    """What a caller asks of a new service; None leaves the choice to Modelry.

    `stays`: it never goes idle, as its owner said so.
    """

    name: str
    model: str
    variant: str | None = None
    adapter: str | None = None
    engine: str | None = None
    runtime: str | None = None
    quantisation: Quantisation | None = None
    replicas: Replicas | None = None
    slots: int | None = None
    context_tokens: int | None = None
    idle_after_s: float | None = None
    stays: bool = False
    gpus: int | None = None
    engine_args: tuple[str, ...] = ()
    engine_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """A service of the same owner and model whose replicas take adapters."""

    service_id: str
    spec: ServiceSpec


def draft(
    wish: Wish,
    model: Model,
    adapter: Model | None,
    hosts: list[Host],
    machine: Machine,
    offers: Offers,
    principal: Principal,
) -> ServiceSpec:
    """Raises `InvalidRequest` or `PermissionDenied` that names the field at fault."""
    wanted = Wanted(wish.engine, wish.runtime)
    if wish.variant is not None:
        variant = variant_of(model, wish.variant)
    else:
        size = Size(wish.context_tokens, wish.slots)
        variant = offers.offer(model, size, wanted).variant
    if variant.format == "lora":
        raise InvalidRequest(
            f"model: {model.card.name} is an adapter: it needs the model that it was trained on",
            hint=f"modelry deploy BASE --adapter {model.card.name}",
            param="model",
        )
    if adapter is not None:
        _check_adapter(adapter)
        host = _host(wish, hosts)
        if host is not None:
            return _hosted(wish, adapter, host, principal)
    choice = offers.choice(model, variant, wanted)
    if adapter is not None and choice.engine.takes_adapters:
        choice = _for_adapter(wish, choice, machine, variant, model)
    options = Options(wish.engine_args, wish.engine_env)
    check_options(choice.engine.name, choice.engine.rules, options, operator=principal.operator)
    choice.engine.check(options)
    if wish.quantisation is not None and choice.converter is None:
        raise InvalidRequest(
            f"quantisation: {choice.engine.name} runs these weights as they are",
            hint="it is for weights that are converted to GGUF",
            param="quantisation",
        )
    idle_after_s = wish.idle_after_s
    if adapter is not None and idle_after_s is None and not wish.stays:
        idle_after_s = ADAPTER_IDLE_AFTER_S
    return ServiceSpec(
        model=model.card.id,
        model_name=model.reference(principal.owner_id),
        variant=variant.name,
        engine=choice.engine.name,
        runtime=choice.runtime,
        gguf_converter=choice.converter,
        quantisation=wish.quantisation,
        projector=_projects(variant, choice),
        adapter=None if adapter is None else adapter.card.id,
        adapter_name=None if adapter is None else adapter.reference(principal.owner_id),
        replicas=wish.replicas or Replicas(),
        slots=wish.slots or DEFAULT_SLOTS,
        context_tokens=_context_tokens(wish, model),
        defaults=model.card.defaults,
        dimensions_min=model.card.dimensions_min,
        idle_after_s=idle_after_s,
        gpus=_gpus(wish, choice, machine),
        engine_args=wish.engine_args,
        engine_env=dict(wish.engine_env),
    )


def _check_adapter(adapter: Model) -> None:
    format = adapter.card.default_variant.format
    if format not in ("lora", "gguf"):
        raise InvalidRequest(
            f"adapter: {adapter.card.name} is no adapter, but {format} weights",
            hint="an adapter is a folder with adapter_config.json beside "
            "adapter_model.safetensors, as PEFT writes it, or a GGUF file of one",
            param="adapter",
        )


def _host(wish: Wish, hosts: list[Host]) -> Host | None:
    """The service whose replicas take the adapter, if there is one and nobody wants another."""
    for host in hosts:
        if wish.engine in (None, host.spec.engine):
            return host
    return None


def _hosted(wish: Wish, adapter: Model, host: Host, principal: Principal) -> ServiceSpec:
    own = {
        "variant": wish.variant,
        "runtime": wish.runtime,
        "quantisation": wish.quantisation,
        "replicas": wish.replicas,
        "slots": wish.slots,
        "context_tokens": wish.context_tokens,
        "idle_after_s": wish.idle_after_s,
        "gpus": wish.gpus,
        "engine_args": wish.engine_args or None,
        "engine_env": wish.engine_env or None,
    }
    for param, value in own.items():
        if value is not None:
            raise InvalidRequest(
                f"{param}: the adapter runs on the replicas of its base, and has none of its own",
                param=param,
            )
    return host.spec.model_copy(
        update={
            "adapter": adapter.card.id,
            "adapter_name": adapter.reference(principal.owner_id),
            "host": host.service_id,
            "idle_after_s": None,
        }
    )


def _for_adapter(
    wish: Wish, choice: Choice, machine: Machine, variant: Variant, model: Model
) -> Choice:
    """An engine that starts with an adapter, where no service of the base takes it."""
    if wish.engine is None and wish.runtime is None:
        for name, engine in machine.engines.items():
            if not engine.takes_adapters:
                found = choose(machine, variant, model.card.tasks, Wanted(name))
                if isinstance(found, Choice):
                    return found
    name = model.card.name
    raise InvalidRequest(
        f"adapter: no service of yours runs {name} with {choice.engine.name}, "
        "whose replicas would take it",
        hint=f"modelry deploy {name} --engine {choice.engine.name}, then again",
        param="adapter",
    )


def _context_tokens(wish: Wish, model: Model) -> int:
    longest, context = model.card.context_tokens, context_of(model, wish.context_tokens)
    if longest is not None and context > longest:
        raise InvalidRequest(
            f"context_tokens: {model.card.id} was trained with {longest} tokens at most",
            param="context_tokens",
        )
    return context


def _projects(variant: Variant, choice: Choice) -> bool:
    """Whether the engine takes images with the variant's projector."""
    engine = choice.engine
    return (
        variant.projector is not None
        and isinstance(engine, Projecting)
        and engine.takes_projector(variant.format)
    )


def _gpus(wish: Wish, choice: Choice, machine: Machine) -> int:
    runtime = machine.runtimes.get(choice.runtime or "")
    for_processors = runtime is not None and runtime.flavour == "cpu"
    usual = 0 if for_processors else choice.engine.gpus(machine.inventory)
    if wish.gpus is None:
        return usual
    if wish.gpus and not usual:
        raise InvalidRequest(f"gpus: {choice.engine.name} uses none on this machine", param="gpus")
    if wish.gpus > len(machine.inventory.gpus):
        raise InvalidRequest(f"gpus: this machine has {len(machine.inventory.gpus)}", param="gpus")
    if not wish.gpus and usual:
        raise InvalidRequest(f"gpus: {choice.engine.name} needs one", param="gpus")
    return wish.gpus
