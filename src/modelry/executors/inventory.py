"""What this machine has to run engines on."""

import logging
import os
import shutil
import subprocess
from pathlib import Path

import psutil

from modelry.engines.inventory import GPU_QUERY, Gpu, Inventory, parse_gpus, usable_cores

log = logging.getLogger(__name__)

_QUERY_TIMEOUT_S = 10.0
_CGROUP = Path("/sys/fs/cgroup")


def read_inventory(cgroup: Path = _CGROUP, query_timeout_s: float = _QUERY_TIMEOUT_S) -> Inventory:
    """Blocks where there is a GPU's driver to ask, until it answers or the time is over."""
    return Inventory(usable_cores(), _memory_bytes(cgroup), _gpus(query_timeout_s))


def _memory_bytes(cgroup: Path) -> int:
    """The machine's memory, or what a container may use of it (cgroup v2 and v1)."""
    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return min(total, int((cgroup / name).read_text()))
        except (OSError, ValueError):
            continue  # there is none, or it says `max`
    return total


def _gpus(timeout_s: float) -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        asked = subprocess.run(
            [tool, *GPU_QUERY],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("nvidia-smi does not answer, so no GPU is used: %s", error)
        return ()
    if asked.returncode != 0:
        log.warning("nvidia-smi: %s; no GPU is used", (asked.stdout or asked.stderr).strip())
        return ()
    return _given(parse_gpus(asked.stdout))


def _given(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Those of them that we were started with. GPUs that are named by another thing than their
    index are not known to be any of these, so none is used.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return gpus
    return tuple(gpu for gpu in gpus if str(gpu.index) in given.replace(" ", "").split(","))
