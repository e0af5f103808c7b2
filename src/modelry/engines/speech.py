"""The engines that read text aloud, each in a runtime of its own: hibari and Kokoro.

Both run ONNX weights on the processor behind the same runner.
"""

from pathlib import Path

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.inventory import Inventory
from modelry.engines.options import Options
from modelry.engines.probing import probe
from modelry.engines.runner import explain_runner, runner_command
from modelry.engines.runner_arguments import Number, check, parse, rules

_ARGUMENTS = {
    # Of one call's text. OpenAI's own bound is the default.
    "--max-characters": Number(1, 100_000),
}


class _Speech:
    name: str
    tasks = ("speech",)
    formats = ("onnx",)
    stops_whole_answers = True
    embedded = False
    takes_adapters = False
    adapter_rank_max: int | None = None
    rules = rules(_ARGUMENTS)

    def open_to_adapters(self, weights: Path) -> bool:
        return False

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format not in self.formats:
            return f"{self.name} runs ONNX weights, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"{self.name} does not do {', '.join(missing)}"
        return None

    def converts(self, format: str) -> str | None:
        return None

    def preference(self, format: str, inventory: Inventory) -> int:
        return 20

    def gpus(self, inventory: Inventory) -> int:
        return 0

    def check(self, options: Options) -> None:
        check(self.name, _ARGUMENTS, options)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        options = parse(_ARGUMENTS, plan.options.arguments)
        return runner_command("speech", plan, endpoint, {"engine": self.name, **options})

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        return explain_runner(self.name, exit_code, log_tail)


class Hibari(_Speech):
    name = "hibari"


class Kokoro(_Speech):
    name = "kokoro"

    def preference(self, format: str, inventory: Inventory) -> int:
        # Where nobody says which: its models are the ones people have.
        return 10
