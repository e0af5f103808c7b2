"""From the start of `modelry up --demo` to its first completion, and what it holds in memory.

The weights are fetched by a first start that does not count. Both figures are
of real processes and the real model.
"""

import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.instance import printed, up

RUNS = 5


@dataclass(frozen=True)
class Start:
    """Seconds to the first completion, and resident bytes of each part."""

    seconds: float
    gateway_bytes: int
    control_bytes: int


def measure(data_dir: Path) -> Start:
    """One start on `data_dir`: run the curl line it prints, look at memory, stop it."""
    begun = time.monotonic()
    with up(data_dir, "--demo") as process:
        curl = printed(process, "curl ")
        answer = subprocess.run(
            ["bash", "-c", curl], capture_output=True, text=True, check=True
        ).stdout
        seconds = time.monotonic() - begun
        assert '"chat.completion"' in answer, answer
        children = psutil.Process(process.pid).children()
        held = {
            part: child.memory_info().rss
            for child in children
            for part in ("gateway", "control")
            if f"modelry.app.{part}" in child.cmdline()
        }
        return Start(seconds, held["gateway"], held["control"])


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = Path(scratch) / "data"
        measure(data_dir)
        starts = [measure(data_dir) for _ in range(RUNS)]
    seconds = sorted(each.seconds for each in starts)
    gateway = statistics.median(each.gateway_bytes for each in starts) / 1e6
    control = statistics.median(each.control_bytes for each in starts) / 1e6
    median = statistics.median(seconds)
    print(f"start, {RUNS} runs with the weights there")
    print("  from `up --demo` to its first completion, by the curl line it prints, in seconds")
    print(f"    min {seconds[0]:.2f}   median {median:.2f}   max {seconds[-1]:.2f}")
    print("  resident memory after it, MB")
    print(f"    gateway {gateway:.0f}   control {control:.0f}   together {gateway + control:.0f}")
