"""Machines to make services for: with and without GPUs, with every engine and some runtimes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from modelry.catalog.choice import Machine
from modelry.engines.base import Engine
from modelry.engines.inventory import Inventory, parse_gpus
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.runtimes import Runtime
from modelry.engines.vllm import Vllm

NO_GPU = Inventory(cores=2, memory_bytes=8 * 1024**3)
# As `nvidia-smi` printed it.
TWO_GPUS = Inventory(
    cores=32,
    memory_bytes=128 * 1024**3,
    gpus=parse_gpus("0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 4090, 24564\n"),
)

RUNTIMES = (
    "vllm-0.9.2-cpu",
    "vllm-0.10.0-cpu",
    "vllm-0.10.0-cuda",
    "gguf-converter-0.1.1-cpu",
)


def runtime(id_: str) -> Runtime:
    engine, version, flavour = id_.rsplit("-", 2)
    return Runtime(
        engine, version, cast(Literal["cpu", "cuda"], flavour), Path("/requirements") / f"{id_}.txt"
    )


def machine(
    inventory: Inventory = NO_GPU,
    runtimes: Iterable[str] = RUNTIMES,
    engines: Iterable[Engine] | None = None,
) -> Machine:
    every: Iterable[Engine] = (LlamaCpp(), Vllm()) if engines is None else engines
    return Machine(
        {engine.name: engine for engine in every},
        {id_: runtime(id_) for id_ in runtimes},
        inventory,
    )
