"""faster-whisper: Whisper models in CTranslate2's format, on the processor or on a GPU."""

import os
from dataclasses import replace
from pathlib import Path

from modelry.engines.base import Command, Endpoint, ReplicaPlan
from modelry.engines.runner import RunnerEngine
from modelry.engines.runner_arguments import Arguments, Choice, Flag, Number, rules

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


class FasterWhisper(RunnerEngine):
    name = "faster-whisper"
    kind = "transcription"
    tasks = ("transcription",)
    formats = ("ctranslate2",)
    runs = "CTranslate2 weights"
    arguments = _ARGUMENTS
    rules = rules(_ARGUMENTS)
    on_gpus = True

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        assert plan.runtime is not None
        command = super().command(plan, endpoint)
        libraries = _cuda(plan.runtime) if plan.gpus else []
        if libraries:
            # Before those of the machine, which stay: its driver may be found there alone.
            inherited = os.environ.get("LD_LIBRARY_PATH")
            path = ":".join([*libraries, *([inherited] if inherited else [])])
            command = replace(command, env={**command.env, "LD_LIBRARY_PATH": path})
        return command


def _cuda(runtime: Path) -> list[str]:
    """Where CUDA's libraries lie: CTranslate2 opens them by name, and Python's packages of them
    are in none of the places that are searched.
    """
    found = sorted(runtime.glob("lib/python*/site-packages/nvidia/*/lib"))
    return [str(folder) for folder in found]
