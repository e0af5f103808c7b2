"""llama.cpp, embedded through the prebuilt `xllamacpp` wheel.

Each replica is a process of `llama_cpp_runner`. The weights are one GGUF file.
"""

import importlib.metadata
import re
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.gguf_kind import read_kind
from modelry.engines.inventory import Inventory, usable_cores
from modelry.engines.llama_cpp_runner import (
    EXIT_LIBRARY_MISSING,
    EXIT_OTHER_TASK,
    EXIT_UNLOADABLE,
    RunnerConfig,
)
from modelry.engines.options import OptionRules, Options
from modelry.engines.probing import ended_from_outside, probe
from modelry.engines.waiting import waiting_environment
from modelry.errors import InvalidRequest

# The engine's own words for why weights do not load, newest first in its log.
_LOAD_ERROR = re.compile(r"error loading model[^:]*: (?P<reason>.+)$")
_NOT_GGUF = re.compile(r"(?P<reason>invalid magic characters.*)$")
_NO_PROJECTOR = re.compile(r"mtmd_init_from_file: error: (?P<reason>.+)$")
_NOT_BOUND = "couldn't bind HTTP server socket"
_OTHER_ERROR = re.compile(r"^\S+ E (?:\S+\s+\S+: )?(?P<reason>.+)$")


# The arguments of llama.cpp's own server that are of use here, and what each takes.
_ARGUMENTS: dict[str, Callable[[str], float] | None] = {
    "--threads": int,
    "--batch-size": int,
    "--ubatch-size": int,
    "--rope-freq-base": float,
    "--rope-freq-scale": float,
    "--no-repack": None,
}


# One process does one of these: it gives tokens, vectors or scores.
_WAYS = {"chat": "chat", "completion": "chat", "embedding": "embedding", "rerank": "rerank"}


class LlamaCpp:
    name = "llama.cpp"
    tasks = tuple(_WAYS)
    # Seen with xllamacpp 2026.10: a stream ends 0.1 s after its client has
    # hung up, an answer that is not a stream is generated to its end.
    stops_whole_answers = False
    embedded = True
    # Its server takes them at its start only.
    takes_adapters = False
    adapter_rank_max: int | None = None
    dialect = "llama.cpp"
    # What it decodes itself (stb_image); WebP it would leave to another program.
    image_types = ("image/png", "image/jpeg", "image/gif")
    rules = OptionRules(
        free=frozenset(_ARGUMENTS),
        flags=frozenset(name for name, takes in _ARGUMENTS.items() if takes is None),
        known=frozenset(_ARGUMENTS),
    )

    @property
    def version(self) -> str:
        return importlib.metadata.version("xllamacpp")

    def open_to_adapters(self, weights: Path) -> bool:
        return False

    def takes_projector(self, format: str) -> bool:
        return format == "gguf"

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format != "gguf":
            return f"llama.cpp runs GGUF weights, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"llama.cpp does not do {', '.join(missing)} here"
        if len({_WAYS[task] for task in tasks}) > 1:
            return "llama.cpp does not do " + " and ".join(tasks) + " in one replica"
        return None

    def raw_scores(self, weights: Path) -> bool:
        return _architecture(_gguf(weights)) not in _SCORED

    def renders_tools(self, weights: Path) -> bool:
        kind = read_kind(_gguf(weights))
        return kind is not None and kind.renders_tools

    def runs_on(self, weights: Path) -> bool:
        kind = read_kind(_gguf(weights))
        return kind is not None and kind.parameters < _SMALL

    def converts(self, format: str) -> str | None:
        return "gguf" if format == "safetensors" else None

    def preference(self, format: str, inventory: Inventory) -> int:
        # The embedded build computes on the processor alone.
        return 20 if inventory.gpus and format != "gguf" else 10

    def gpus(self, inventory: Inventory) -> int:
        return 0

    def check(self, options: Options) -> None:
        if options.environment:
            raise InvalidRequest("engine_env: llama.cpp takes none here", param="engine_env")
        _parsed(options.arguments)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        config = RunnerConfig(
            weights=str(_gguf(plan.weights)),
            alias=plan.access_path,
            address=endpoint.address,
            secret=endpoint.secret,
            slots=plan.slots,
            context_tokens=plan.context_tokens,
            threads=usable_cores(),
            task=_WAYS[plan.tasks[0]],
            adapter=None if plan.adapter is None else str(plan.adapter),
            projector=None if plan.projector is None else str(_gguf(plan.projector)),
            arguments=_parsed(plan.options.arguments),
            temperature=plan.defaults.temperature,
            top_p=plan.defaults.top_p,
            max_tokens=plan.defaults.max_tokens,
        )
        argv = (
            sys.executable,
            "-P",
            "-m",
            "modelry.engines.llama_cpp_runner",
            plan.replica_id,
        )
        return Command(argv=argv, stdin=msgspec.json.encode(config), env=waiting_environment())

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/slots")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        if exit_code == EXIT_UNLOADABLE and any(_NOT_BOUND in line for line in log_tail):
            return Failure(f"llama.cpp {_NOT_BOUND}")
        if exit_code == EXIT_UNLOADABLE:
            reason = _reason(log_tail) or "the engine gave no reason"
            return Failure(f"llama.cpp could not load the weights: {reason}", lasting=True)
        if exit_code == EXIT_LIBRARY_MISSING:
            reason = log_tail[-1] if log_tail else "a shared library is missing"
            return Failure(f"llama.cpp cannot start on this machine: {reason}", lasting=True)
        if exit_code == EXIT_OTHER_TASK:
            return Failure(log_tail[-1] if log_tail else "the weights are not for this task", True)
        outside = ended_from_outside("llama.cpp", exit_code)
        if outside is not None:
            return outside
        told = _reason(log_tail)
        end = f"llama.cpp exited with status {exit_code}"
        return Failure(f"{end}: {told}" if told else end)


def _parsed(arguments: tuple[str, ...]) -> dict[str, float]:
    """Each argument's number, 1 for one without. Raises `InvalidRequest`."""
    found: dict[str, float] = {}
    rest = list(arguments)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        takes = _ARGUMENTS.get(name)
        if takes is None:
            if has_value or name not in _ARGUMENTS:
                raise InvalidRequest(f"engine_args: {name} takes no value", param="engine_args")
            found[name] = 1
            continue
        try:
            number = takes(value if has_value else rest.pop(0))
        except (ValueError, IndexError):
            number = 0
        if not 0 < number < 1e9:
            raise InvalidRequest(
                f"engine_args: {name} takes a number above 0, such as {name}=1",
                param="engine_args",
            )
        found[name] = number
    return found


def _gguf(weights: Path) -> Path:
    """The file to open: of one that is split, the first part, which leads to the others."""
    return min(weights.glob("*.gguf")) if weights.is_dir() else weights


_SMALL = 1_000_000_000
"""Parameters."""

# It ends their graphs with the share of a yes among the two answers.
_SCORED = ("qwen3", "qwen3vl")


def _architecture(weights: Path) -> str:
    kind = read_kind(weights)
    return "" if kind is None else kind.architecture


def _reason(log_tail: list[str]) -> str | None:
    for pattern in (_NOT_GGUF, _LOAD_ERROR, _NO_PROJECTOR, _OTHER_ERROR):
        for line in reversed(log_tail):
            match = pattern.search(line)
            if match:
                return match["reason"].strip()
    return None
