"""Which engine runs a model on this machine, at which version, and what that takes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

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


def choose(
    machine: Machine,
    format: str,
    tasks: tuple[str, ...],
    engine: str | None = None,
    runtime: str | None = None,
) -> Choice:
    """The engine that suits best, or the one that is asked for. Raises `InvalidRequest` with
    each engine's reason where none can.
    """
    if engine is not None and engine not in machine.engines:
        raise InvalidRequest(
            f"engine: there is no engine {engine!r}",
            hint="there are: " + ", ".join(machine.engines),
            param="engine",
        )
    candidates = [machine.engines[engine]] if engine else list(machine.engines.values())
    possible: list[tuple[int, Choice]] = []
    reasons: list[str] = []
    for each in candidates:
        found = _choice(machine, each, format, tasks, runtime)
        if isinstance(found, Choice):
            possible.append((each.preference(format, machine.inventory), found))
        else:
            reasons.append(found)
    if not possible:
        raise InvalidRequest(f"engine: {'; '.join(reasons)}", param="engine")
    return min(possible, key=lambda rated: rated[0])[1]


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
