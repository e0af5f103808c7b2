"""What a runner is told on its standard input, so that no secret stands in its arguments."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

EXIT_UNLOADABLE = 65  # EX_DATAERR of sysexits.h
UNITS_HEADER = "x-modelry-usage"
"""Names what an answer used beyond tokens, as JSON: images, pixels, audio_s, characters."""


@dataclass(frozen=True)
class RunnerConfig:
    """`address`: `unix:<path>` or `tcp:<host>:<port>`. `slots`: requests it works on at a time.

    `weights`: a folder or file. `gpus`: how many it may use. `options`: what only one kind of
    runner knows, plain JSON values.
    """

    alias: str
    address: str
    secret: str = field(repr=False)
    weights: str
    slots: int
    threads: int
    gpus: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_config(file: TextIO) -> RunnerConfig:
    return RunnerConfig(**json.load(file))
