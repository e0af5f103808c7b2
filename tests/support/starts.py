"""Starts that must fail: what a person sees of one, and what is left of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_WITHOUT_ROOTS_POWERS = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search,-fowner",
)


@dataclass(frozen=True)
class Refusal:
    """How `up` ended. `output` is what it wrote, to either stream."""

    status: int
    output: str

    @property
    def line(self) -> str:
        """The one line it wrote. Fails where there is another number of lines."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        assert len(lines) == 1, self.output
        assert "Traceback" not in lines[0]
        return lines[0]


def refused_start(
    data_dir: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    ordinary_user: bool = False,
) -> Refusal:
    """Run an `up` that is to end by itself. `ordinary_user`: file permissions bind it."""
    kept = {name: value for name, value in os.environ.items() if "MODELRY" not in name}
    prefix = _WITHOUT_ROOTS_POWERS if ordinary_user and os.geteuid() == 0 else ()
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "modelry", "up", *options],
        env={
            **kept,
            "MODELRY_DATA_DIR": str(data_dir),
            "MODELRY_PORT": "0",
            "COLUMNS": "80",
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return Refusal(done.returncode, done.stdout)


def processes_on(data_dir: Path) -> list[int]:
    """Pids of every part of Modelry that was started for a data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MODELRY_DATA_DIR") == str(data_dir):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
