"""The engines that read text aloud, each in a runtime of its own: hibari and Kokoro.

Both run ONNX weights on the processor behind the same runner.
"""

from modelry.engines.base import Command, Endpoint, ReplicaPlan
from modelry.engines.inventory import Inventory
from modelry.engines.runner import RunnerEngine, runner_command
from modelry.engines.runner_arguments import Arguments, Number, parse, rules

_ARGUMENTS: Arguments = {
    # Of one call's text. OpenAI's own bound is the default.
    "--max-characters": Number(1, 100_000),
}


class _Speech(RunnerEngine):
    kind = "speech"
    tasks = ("speech",)
    formats = ("onnx",)
    runs = "ONNX weights"
    arguments = _ARGUMENTS
    rules = rules(_ARGUMENTS)

    def preference(self, format: str, inventory: Inventory) -> int:
        return 20

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        options = parse(self.arguments, plan.options.arguments)
        return runner_command(self.kind, plan, endpoint, {"engine": self.name, **options})


class Hibari(_Speech):
    name = "hibari"


class Kokoro(_Speech):
    name = "kokoro"

    def preference(self, format: str, inventory: Inventory) -> int:
        # Where nobody says which: its models are the ones people have.
        return 10
