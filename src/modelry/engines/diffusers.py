"""Diffusers: pipelines that make pictures, in a runtime of its own, on a GPU or the processor.

Its server is a runner of ours, `modelry.runners.image_runner`.
"""

from dataclasses import replace
from pathlib import Path

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.inventory import Inventory
from modelry.engines.options import Options
from modelry.engines.probing import probe
from modelry.engines.runner import explain_runner, runner_command
from modelry.engines.runner_arguments import Arguments, Choice, Number, Real, parse, rules
from modelry.errors import InvalidRequest

# As `Settings` of the runner's `image_settings` has them.
_ARGUMENTS: Arguments = {
    "--default-guidance": Real(0, 50),
    "--default-steps": Number(1, 150),
    "--dtype": Choice(("auto", "float32", "float16", "bfloat16")),
    "--max-batch": Number(1, 64),
    "--max-side": Number(64, 8192),
    "--offload": Choice(("auto", "off", "model", "sequential")),
    "--safety-checker": Choice(("on", "off")),
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
    rules = replace(
        rules(_ARGUMENTS),
        # Whether pictures are checked is the operator's to say.
        free=frozenset(_ARGUMENTS) - {"--safety-checker"},
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
        parse(_ARGUMENTS, options.arguments)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        if plan.adapter is not None:
            raise InvalidRequest("adapter: diffusers runs no adapters here", param="adapter")
        options = parse(_ARGUMENTS, plan.options.arguments)
        return runner_command("image", plan, endpoint, options)

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        return explain_runner("diffusers", exit_code, log_tail)
