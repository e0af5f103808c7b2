"""The contract of an executor, and what it reports."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from modelry.engines.base import Endpoint, Engine, Failure, ReplicaPlan


class ProcessState(Enum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    EXITED = "exited"


@dataclass(frozen=True)
class Observed:
    """A replica as its executor sees it.

    `failure` is set once it exited without having been asked to.
    """

    replica_id: str
    state: ProcessState
    node: str
    endpoint: Endpoint
    memory_bytes: int | None = None
    failure: Failure | None = None
    gpus: tuple[int, ...] = ()


class Executor(Protocol):
    async def adopt(self, engines: Mapping[str, Engine]) -> None:
        """Find the replicas that an earlier control plane started. Call once, first."""
        ...

    async def start(self, plan: ReplicaPlan, engine: Engine) -> None:
        """Start a replica; returns once its process runs. Raises `ExecutorError`."""
        ...

    def stop(self, replica_id: str, grace_s: float) -> None:
        """Begin to end a replica: it may finish what it does within `grace_s` seconds."""
        ...

    def forget(self, replica_id: str) -> None:
        """Drop what is kept of a replica that has exited, its log included."""
        ...

    def observe(self) -> Mapping[str, Observed]:
        """Every replica that was started or adopted and not forgotten."""
        ...

    def log_tail(self, replica_id: str, lines: int) -> list[str]: ...

    def follow_log(self, replica_id: str, lines: int) -> AsyncIterator[str]:
        """The last `lines` lines, then every further one until the replica is forgotten."""
        ...

    async def close(self) -> None:
        """Stop watching. Replicas go on."""
        ...
