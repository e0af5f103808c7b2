"""Runtimes: which versions of engines there are to install, each with every package pinned.

A runtime is a file in `requirements/`, written by `just lock-runtimes` and named
`<engine>-<version>-<flavour>.txt`. Old ones stay for the services that are pinned to them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from modelry.engines.inventory import Inventory

Flavour = Literal["cpu", "cuda"]

_SHIPPED = Path(__file__).parent / "requirements"
_NAME = re.compile(r"(?P<engine>[a-z][a-z-]*)-(?P<version>[0-9][0-9.]*)-(?P<flavour>cpu|cuda)")


@dataclass(frozen=True)
class Runtime:
    """An engine at one version, or a converter, for machines with GPUs or without."""

    engine: str
    version: str
    flavour: Flavour
    requirements: Path

    @property
    def id(self) -> str:
        return f"{self.engine}-{self.version}-{self.flavour}"

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".") if part)


def shipped_runtimes(folder: Path = _SHIPPED) -> dict[str, Runtime]:
    """By id, each engine's newest first."""
    found = []
    for file in folder.glob("*.txt"):
        match = _NAME.fullmatch(file.stem)
        if match is not None:
            flavour = cast(Flavour, match["flavour"])
            found.append(Runtime(match["engine"], match["version"], flavour, file))
    found.sort(key=lambda runtime: (runtime.order, runtime.flavour), reverse=True)
    found.sort(key=lambda runtime: runtime.engine)
    return {runtime.id: runtime for runtime in found}


def default_runtime(
    runtimes: Iterable[Runtime], engine: str, inventory: Inventory
) -> Runtime | None:
    """The newest of the engine that suits the machine: for GPUs where it has any."""
    flavours = ("cuda", "cpu") if inventory.gpus else ("cpu",)
    for flavour in flavours:
        fitting = [
            runtime
            for runtime in runtimes
            if runtime.engine == engine and runtime.flavour == flavour
        ]
        if fitting:
            return max(fitting, key=lambda runtime: runtime.order)
    return None
