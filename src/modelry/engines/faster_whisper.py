"""faster-whisper: Whisper models in CTranslate2's format, on the processor or on a GPU."""

import os
from dataclasses import replace
from pathlib import Path

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.inventory import Inventory
from modelry.engines.options import Options
from modelry.engines.probing import probe
from modelry.engines.runner import explain_runner, runner_command
from modelry.engines.runner_arguments import Arguments, Choice, Flag, Number, check, parse, rules

_ARGUMENTS: Arguments = {
    "--beam-size": Number(1, 10),
    # https://opennmt.net/CTranslate2/quantization.html
    "--compute-type": Choice(
        ("int8", "int8_float16", "int8_float32", "int8_bfloat16", "float16", "bfloat16", "float32")
    ),
    "--vad": Flag(),
    # Of one recording.
    "--max-minutes": Number(1, 24 * 60),
}


class FasterWhisper:
    name = "faster-whisper"
    tasks = ("transcription",)
    formats = ("ctranslate2",)
    stops_whole_answers = True
    embedded = False
    takes_adapters = False
    adapter_rank_max: int | None = None
    rules = rules(_ARGUMENTS)

    def open_to_adapters(self, weights: Path) -> bool:
        return False

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format not in self.formats:
            return f"faster-whisper runs CTranslate2 weights, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"faster-whisper does not do {', '.join(missing)}"
        return None

    def converts(self, format: str) -> str | None:
        return None

    def preference(self, format: str, inventory: Inventory) -> int:
        return 10

    def gpus(self, inventory: Inventory) -> int:
        return 1 if inventory.gpus else 0

    def check(self, options: Options) -> None:
        check(self.name, _ARGUMENTS, options)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        assert plan.runtime is not None
        options = parse(_ARGUMENTS, plan.options.arguments)
        command = runner_command("transcription", plan, endpoint, options)
        libraries = _cuda(plan.runtime) if plan.gpus else []
        if libraries:
            # Before those of the machine, which stay: its driver may be found there alone.
            inherited = os.environ.get("LD_LIBRARY_PATH")
            path = ":".join([*libraries, *([inherited] if inherited else [])])
            command = replace(command, env={**command.env, "LD_LIBRARY_PATH": path})
        return command

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        return explain_runner(self.name, exit_code, log_tail)


def _cuda(runtime: Path) -> list[str]:
    """Where CUDA's libraries lie: CTranslate2 opens them by name, and Python's packages of them
    are in none of the places that are searched.
    """
    found = sorted(runtime.glob("lib/python*/site-packages/nvidia/*/lib"))
    return [str(folder) for folder in found]
