"""What the reconciler's decisions are made from, and what they can be: frozen data, no rules.

See `plan.py` for the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from modelry.services.states import ReplicaState, ServiceState


class Want(StrEnum):
    RUN = "run"
    STOP = "stop"
    DELETE = "delete"


@dataclass(frozen=True)
class Desired:
    """A service as its owner wants it.

    `since`: when its owner last asked for it to run, or it went idle; failures
    before that are of no account any more. `endpoints`: on how many of them
    elsewhere it stands instead of on replicas. `idle_after_s`: it needs no
    replicas once nobody has called it for so long; None is never. `active_at`:
    when it was last in use, or became ready; None from when it was asked for
    until it is ready. `host`: the service whose replicas take its adapter, instead
    of replicas of its own. `ahead`: what it needs is brought while it is idle, too.
    `alike`: earlier revisions whose replicas serve as those of `revision` do.
    """

    service_id: str
    want: Want
    revision: int
    replicas: int
    since: datetime
    endpoints: int = 0
    idle_after_s: float | None = None
    active_at: datetime | None = None
    host: str | None = None
    ahead: bool = False
    alike: frozenset[int] = frozenset()

    def is_current(self, revision: int) -> bool:
        """Whether replicas of that revision are as they are wanted now."""
        return revision == self.revision or revision in self.alike


@dataclass(frozen=True)
class Crash:
    """Why a replica failed, in words. `lasting`: trying again changes nothing."""

    at: datetime
    message: str
    lasting: bool


@dataclass(frozen=True)
class Seen:
    """A replica as it was observed. `ready_at` is None for one that never was ready."""

    id: str
    service_id: str
    revision: int
    state: ReplicaState
    created_at: datetime
    ready_at: datetime | None = None
    crash: Crash | None = None


@dataclass(frozen=True)
class WeightsReady:
    """Whole and verified on this node."""


@dataclass(frozen=True)
class WeightsAbsent:
    """Nobody fetches them yet."""


@dataclass(frozen=True)
class WeightsFetching:
    """On their way; `doing` says what is done, of which the bytes are."""

    done_bytes: int
    total_bytes: int
    doing: str = "fetching its weights"
    bytes_per_second: float | None = None
    left_s: float | None = None


@dataclass(frozen=True)
class WeightsFailed:
    message: str


@dataclass(frozen=True)
class NodeFull:
    """All of it is here, and the node has no room for another replica now; `message` says what
    it waits for.
    """

    message: str


WeightsSeen: TypeAlias = WeightsReady | WeightsAbsent | WeightsFetching | WeightsFailed | NodeFull


@dataclass(frozen=True)
class AdapterSeen:
    """On which replicas an adapter is, and of which that is not known: one was not asked yet, or
    is being given it. `refusing` are not to be asked to take it now; `failure`: why one of them
    is not asked again at all.
    """

    on: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    refusing: frozenset[str] = frozenset()
    failure: str | None = None


@dataclass(frozen=True)
class FetchWeights:
    service_id: str


@dataclass(frozen=True)
class StartReplica:
    service_id: str
    revision: int


@dataclass(frozen=True)
class DrainReplica:
    replica_id: str
    reason: str


@dataclass(frozen=True)
class ForgetReplica:
    """Drop a replica that ended and that nobody needs to read about any more."""

    replica_id: str


@dataclass(frozen=True)
class RemoveService:
    """Every trace of it may go: nothing of it runs."""

    service_id: str


@dataclass(frozen=True)
class LoadAdapter:
    """Give a service's adapter to a replica of its host."""

    service_id: str
    replica_id: str


@dataclass(frozen=True)
class UnloadAdapter:
    service_id: str
    replica_id: str


Action: TypeAlias = (
    FetchWeights
    | StartReplica
    | DrainReplica
    | ForgetReplica
    | RemoveService
    | LoadAdapter
    | UnloadAdapter
)


@dataclass(frozen=True)
class World:
    """All that `plan` looks at."""

    now: datetime
    services: Sequence[Desired]
    replicas: Sequence[Seen]
    weights: Mapping[str, WeightsSeen]
    """By service id, of its current revision; of those that have replicas, or an adapter."""
    known_from: datetime | None = None
    """From when on it is known which services are in use; None: no gateway tells."""
    adapters: Mapping[str, AdapterSeen] = field(default_factory=dict)
    """By service id, of those that have a host."""


@dataclass(frozen=True)
class Progress:
    """Of what is on its way; `total_bytes` is 0, and the others None, while not known."""

    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None = None
    left_s: float | None = None


@dataclass(frozen=True)
class Status:
    """`stuck`: a change does not get on by itself, and the message says what would help."""

    state: ServiceState
    message: str
    progress: Progress | None = None
    stuck: bool = False
