"""Diffusers: pipelines that make pictures, in a runtime of its own, on a GPU or the processor.

Its server is a runner of ours, `modelry.runners.image_runner`.
"""

from collections.abc import Callable
from pathlib import Path

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.inventory import Inventory
from modelry.engines.options import OptionRules, Options
from modelry.engines.probing import probe
from modelry.engines.runner import explain_runner, runner_command
from modelry.errors import InvalidRequest


def _one_of(*words: str) -> tuple[Callable[[str], str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read, " or ".join(words)


def _whole(lowest: int, highest: int) -> tuple[Callable[[str], int], str]:
    def read(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read, f"a whole number from {lowest} to {highest}"


def _number(lowest: float, highest: float) -> tuple[Callable[[str], float], str]:
    def read(text: str) -> float:
        number = float(text)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read, f"a number from {lowest:g} to {highest:g}"


# What each argument takes, as the runner's `image_settings` has it, and how to say it.
_ARGUMENTS: dict[str, tuple[Callable[[str], str | int | float], str]] = {
    "--default-guidance": _number(0, 50),
    "--default-steps": _whole(1, 150),
    "--dtype": _one_of("auto", "float32", "float16", "bfloat16"),
    "--max-batch": _whole(1, 64),
    "--max-side": _whole(64, 8192),
    "--offload": _one_of("auto", "off", "model", "sequential"),
    "--safety-checker": _one_of("on", "off"),
}
_OURS = frozenset(
    {
        "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
        "PYTHONUNBUFFERED",
    }
)  # fmt: skip


class Diffusers:
    name = "diffusers"
    tasks = ("image",)
    formats = ("diffusers",)
    stops_whole_answers = True
    embedded = False
    takes_adapters = False
    adapter_rank_max: int | None = None
    rules = OptionRules(
        # Whether pictures are checked is the operator's to say.
        free=frozenset(_ARGUMENTS) - {"--safety-checker"},
        known=frozenset(_ARGUMENTS),
        reserved_variables=_OURS,
    )

    def open_to_adapters(self, weights: Path) -> bool:
        return False

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format not in self.formats:
            return f"diffusers runs folders with a model_index.json, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"diffusers does not do {', '.join(missing)}"
        return None

    def converts(self, format: str) -> str | None:
        return None

    def preference(self, format: str, inventory: Inventory) -> int:
        return 10

    def gpus(self, inventory: Inventory) -> int:
        return 1 if inventory.gpus else 0

    def check(self, options: Options) -> None:
        _parsed(options.arguments)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        if plan.adapter is not None:
            raise InvalidRequest("adapter: diffusers runs no adapters here", param="adapter")
        return runner_command("image", plan, endpoint, dict(_parsed(plan.options.arguments)))

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        return explain_runner("diffusers", exit_code, log_tail)


def _parsed(arguments: tuple[str, ...]) -> dict[str, str | int | float]:
    """What each argument says, by its name as the runner knows it: `max_batch`.

    Raises `InvalidRequest`.
    """
    found: dict[str, str | int | float] = {}
    rest = list(arguments)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name not in _ARGUMENTS:
            raise InvalidRequest(
                f"engine_args: diffusers takes no {name}",
                hint="it takes " + ", ".join(_ARGUMENTS),
                param="engine_args",
            )
        read, takes = _ARGUMENTS[name]
        try:
            found[name.removeprefix("--").replace("-", "_")] = read(
                value if has_value else rest.pop(0)
            )
        except (ValueError, IndexError):
            raise InvalidRequest(
                f"engine_args: {name} takes {takes}", param="engine_args"
            ) from None
    return found
