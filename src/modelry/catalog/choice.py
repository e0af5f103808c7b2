"""Which engine runs a model on this machine, at which version, and what that takes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelry.catalog.cards import Variant
from modelry.engines.base import Engine
from modelry.engines.inventory import Inventory
from modelry.engines.runtimes import Runtime, default_runtime
from modelry.errors import InvalidRequest

GGUF_CONVERTER = "gguf-converter"


@dataclass(frozen=True)
class Choice:
    """`runtime` and `converter` are ids of runtimes, None where none is needed."""

    engine: Engine
    runtime: str | None = None
    converter: str | None = None


@dataclass(frozen=True)
class Machine:
    """What services can be given here."""

    engines: Mapping[str, Engine]
    runtimes: Mapping[str, Runtime]
    inventory: Inventory


@dataclass(frozen=True)
class Wanted:
    """What whoever asks has decided already."""

    engine: str | None = None
    runtime: str | None = None


ANY = Wanted()


def choose(
    machine: Machine, variant: Variant, tasks: tuple[str, ...], wanted: Wanted = ANY
) -> Choice | str:
    """The engine that suits best, or is asked for; or each one's reason why none can. Engines that
    the card names are taken in its order.

    Raises `InvalidRequest` where there is no such engine or runtime.
    """
    if wanted.engine is not None and wanted.engine not in machine.engines:
        raise InvalidRequest(
            f"engine: there is no engine {wanted.engine!r}",
            hint="there are: " + ", ".join(machine.engines),
            param="engine",
        )
    if wanted.runtime is not None and wanted.runtime not in machine.runtimes:
        raise InvalidRequest(
            f"runtime: there is no runtime {wanted.runtime!r}",
            hint="`modelry engines list` lists them",
            param="runtime",
        )
    if variant.format == "lora":
        return "it is an adapter, which is deployed with its base: --adapter"
    candidates = [
        engine for name, engine in machine.engines.items() if wanted.engine in (None, name)
    ]
    if variant.engines:
        by_name = {engine.name: engine for engine in candidates}
        candidates = [by_name[name] for name in variant.engines if name in by_name]
        if not candidates:
            named = " or ".join(variant.engines)
            return f"{variant.name} is for {named}, which is not installed here"
    possible: list[Choice] = []
    reasons: list[str] = []
    for engine in candidates:
        found = _choice(machine, engine, variant.format, tasks, wanted.runtime)
        if isinstance(found, Choice):
            possible.append(found)
        else:
            reasons.append(found)
    if not possible:
        return "; ".join(reasons)
    if variant.engines:
        return possible[0]
    return min(
        possible, key=lambda choice: choice.engine.preference(variant.format, machine.inventory)
    )


def _choice(
    machine: Machine, engine: Engine, format: str, tasks: tuple[str, ...], runtime: str | None
) -> Choice | str:
    """Or why it cannot run it."""
    needs_converter = False
    reason = engine.supports(format, tasks)
    if reason is not None:
        made = engine.converts(format)
        if made is None or engine.supports(made, tasks) is not None:
            return reason
        needs_converter = True
    chosen = _runtime(machine, engine, runtime)
    if isinstance(chosen, str):
        return chosen
    converter = None
    if needs_converter:
        found = default_runtime(machine.runtimes.values(), GGUF_CONVERTER, machine.inventory)
        if found is None:
            return f"{reason}, and there is no converter here"
        converter = found.id
    return Choice(engine, None if chosen is None else chosen.id, converter)


def _runtime(machine: Machine, engine: Engine, wanted: str | None) -> Runtime | str | None:
    if engine.embedded:
        return f"{engine.name} is embedded: it has one version" if wanted else None
    if wanted is not None:
        chosen = machine.runtimes.get(wanted)
        if chosen is None or chosen.engine != engine.name:
            return f"{engine.name} has no runtime {wanted!r}"
    else:
        chosen = default_runtime(machine.runtimes.values(), engine.name, machine.inventory)
    if chosen is None:
        return f"{engine.name} has no runtime for this machine"
    if chosen.flavour == "cuda" and not machine.inventory.gpus:
        return f"{chosen.id} needs a GPU, and there is none"
    return chosen
