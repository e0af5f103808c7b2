"""Diffusers: pipelines that make pictures, in a runtime of its own, on a GPU or the processor.

Its server is a runner of ours, `modelry.runners.image_runner`.
"""

from dataclasses import replace

from modelry.engines.base import Command, Endpoint, ReplicaPlan
from modelry.engines.options import Options
from modelry.engines.runner import RunnerEngine
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


class Diffusers(RunnerEngine):
    name = "diffusers"
    kind = "image"
    tasks = ("image",)
    formats = ("diffusers",)
    runs = "folders with a model_index.json"
    arguments = _ARGUMENTS
    rules = replace(
        rules(_ARGUMENTS),
        # Whether pictures are checked is the operator's to say.
        free=frozenset(_ARGUMENTS) - {"--safety-checker"},
        reserved_variables=_OURS,
    )
    on_gpus = True

    def check(self, options: Options) -> None:
        """An operator may give it any variable but ours."""
        parse(_ARGUMENTS, options.arguments)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        if plan.adapter is not None:
            raise InvalidRequest("adapter: diffusers runs no adapters here", param="adapter")
        return super().command(plan, endpoint)
