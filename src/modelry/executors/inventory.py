"""What this machine has to run engines on."""

import logging
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelry.engines.inventory import GPU_QUERY, Gpu, Inventory, parse_gpus, usable_cores

log = logging.getLogger(__name__)

_QUERY_TIMEOUT_S = 10.0
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _CgroupFiles:
    """Where a version of cgroups says how much memory there is, and how much of it is used."""

    limit: str
    used: str
    stat: str
    cached: str


_CGROUP_FILES = (
    _CgroupFiles("memory.max", "memory.current", "memory.stat", "inactive_file"),
    _CgroupFiles(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def node_name() -> str:
    """What this machine is called among the nodes."""
    return socket.gethostname()


def read_inventory(cgroup: Path = _CGROUP, query_timeout_s: float = _QUERY_TIMEOUT_S) -> Inventory:
    """Blocks where there is a GPU's driver to ask, until it answers or the time is over."""
    return Inventory(usable_cores(), _memory_bytes(cgroup), _gpus(query_timeout_s))


def _memory_bytes(cgroup: Path) -> int:
    """The machine's memory, or what a container may use of it (cgroup v2 and v1)."""
    total = int(psutil.virtual_memory().total)
    for names in _CGROUP_FILES:
        limit = _number(cgroup / names.limit)
        if limit is not None:
            return min(total, limit)
    return total


def used_memory_bytes(cgroup: Path = _CGROUP) -> int:
    """What is in use of the inventory's memory, without what the kernel gives back when asked."""
    machine = psutil.virtual_memory()
    for names in _CGROUP_FILES:
        limit, used = _number(cgroup / names.limit), _number(cgroup / names.used)
        if limit is not None and limit < machine.total and used is not None:
            return max(0, used - _cached(cgroup / names.stat, names.cached))
    return int(machine.total - machine.available)


def _number(file: Path) -> int | None:
    """None where there is no such file, or it says `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _cached(stat: Path, name: str) -> int:
    """A container's use has the files that were read last in it, which cost nobody anything."""
    try:
        values = dict(line.split(" ", 1) for line in stat.read_text().splitlines())
        return int(values[name])
    except (OSError, ValueError, KeyError):
        return 0


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
