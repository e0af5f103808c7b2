"""What a node has to run engines on: cores, memory and GPUs, and how NVIDIA's own tool says it."""

import os
from dataclasses import dataclass

_MIB = 1024 * 1024

GPU_QUERY = ("--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits")
"""The arguments of `nvidia-smi` whose output `parse_gpus` reads."""

GPU_USE_QUERY = ("--query-gpu=index,memory.used", "--format=csv,noheader,nounits")
"""The arguments of `nvidia-smi` whose output `parse_gpu_use` reads."""


@dataclass(frozen=True)
class Gpu:
    """`index`: as the driver counts them, and `CUDA_VISIBLE_DEVICES` names them."""

    index: int
    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Inventory:
    """`cores`: those we may run on; `memory_bytes`: what we may use, not what is free."""

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()


def parse_gpus(printed: str) -> tuple[Gpu, ...]:
    """The GPUs that `nvidia-smi` listed; a line that is no GPU with memory of its own is none.

    A GPU that shares the machine's memory prints `[N/A]` for its own.
    """
    gpus = []
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdecimal() and fields[2].isdecimal():
            gpus.append(Gpu(int(fields[0]), fields[1], int(fields[2]) * _MIB))
    return tuple(gpus)


def parse_gpu_use(printed: str) -> dict[int, int]:
    """How many bytes of each GPU's memory are in use, as `nvidia-smi` listed it, by index."""
    used = {}
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 2 and fields[0].isdecimal() and fields[1].isdecimal():
            used[int(fields[0])] = int(fields[1]) * _MIB
    return used


def usable_cores() -> int:
    """The cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
