"""What nodes have and use right now, for people who look.

No decision is made by it: what replicas are given comes from the inventory, which does not move
with every process that starts.
"""

import asyncio
import contextlib
import logging
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import psutil

from modelry.engines.inventory import GPU_USE_QUERY, Gpu, Inventory, parse_gpu_use
from modelry.executors.inventory import node_name, used_memory_bytes

log = logging.getLogger(__name__)

_KEPT_S = 2.0
"""How long a reading answers those who ask after it."""

_SAMPLE_S = 0.1
"""Over which the use of cores is measured. Two readings may lie hours apart."""

_PATIENCE_S = 1.0
"""With the driver of GPUs, for an answer that somebody waits for."""

_QUERY_TIMEOUT_S = 10.0
_END_WAIT_S = 1.0


@dataclass(frozen=True)
class GpuReading:
    """`used_bytes`: None where the driver does not say."""

    gpu: Gpu
    used_bytes: int | None


@dataclass(frozen=True)
class NodeReading:
    """`name` is the `node` of what an executor observes. The disk is that of the data directory.

    `cpu_percent` is of the whole machine, whoever uses it; `cores` and `memory_bytes` are those of
    the inventory.
    """

    name: str
    cores: int
    cpu_percent: float
    memory_bytes: int
    used_memory_bytes: int
    disk_bytes: int
    free_disk_bytes: int
    gpus: tuple[GpuReading, ...] = ()


class Nodes(Protocol):
    async def read(self) -> tuple[NodeReading, ...]:
        """Every node that replicas can run on. What was read a moment ago may be told again."""
        ...


class LocalNodes:
    """The one node that a local executor has: this machine. `folder` lies on the disk told of."""

    def __init__(self, inventory: Inventory, folder: Path) -> None:
        self._inventory = inventory
        self._folder = folder
        self._reading: asyncio.Task[NodeReading] | None = None
        self._read_at = float("-inf")
        self._asking: asyncio.Task[Mapping[int, int]] | None = None

    async def read(self) -> tuple[NodeReading, ...]:
        now = asyncio.get_running_loop().time()
        if self._reading is None or (self._reading.done() and now - self._read_at > _KEPT_S):
            self._reading, self._read_at = asyncio.create_task(self._read()), now
        # One of those who wait for it may go away.
        return (await asyncio.shield(self._reading),)

    async def _read(self) -> NodeReading:
        machine, used = await asyncio.gather(asyncio.to_thread(self._measured), self._gpu_use())
        gpus = tuple(GpuReading(gpu, used.get(gpu.index)) for gpu in self._inventory.gpus)
        return replace(machine, gpus=gpus)

    def _measured(self) -> NodeReading:
        disk = shutil.disk_usage(self._folder)
        return NodeReading(
            name=node_name(),
            cores=self._inventory.cores,
            cpu_percent=psutil.cpu_percent(interval=_SAMPLE_S),
            memory_bytes=self._inventory.memory_bytes,
            used_memory_bytes=min(used_memory_bytes(), self._inventory.memory_bytes),
            disk_bytes=disk.total,
            free_disk_bytes=disk.free,
        )

    async def _gpu_use(self) -> Mapping[int, int]:
        """A driver that is stuck costs this reading a moment, and is not asked twice at a time."""
        if not self._inventory.gpus:
            return {}
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(_ask_driver())
        done, _ = await asyncio.wait({self._asking}, timeout=_PATIENCE_S)
        return self._asking.result() if done else {}


async def _ask_driver() -> Mapping[int, int]:
    """By index, the bytes in use of each GPU's memory; nothing where the driver fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nvidia-smi", *GPU_USE_QUERY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        log.warning("nvidia-smi cannot be started: %s", error)
        return {}
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), _QUERY_TIMEOUT_S)
    except TimeoutError:
        log.warning("nvidia-smi does not answer")
        _kill(process)
        # Where the driver is stuck it does not even end: no other is started until it has.
        await process.wait()
        return {}
    finally:
        if process.returncode is None:
            # This process ends: it is not left behind, nor waited for where it is stuck.
            _kill(process)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _END_WAIT_S)
    return parse_gpu_use(printed.decode(errors="replace")) if process.returncode == 0 else {}


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
