"""The states of services and replicas, as the glossary has them."""

from enum import StrEnum


class ServiceState(StrEnum):
    PENDING = "pending"
    FETCHING = "fetching"
    STARTING = "starting"
    RUNNING = "running"
    UPDATING = "updating"
    IDLE = "idle"
    STOPPED = "stopped"
    FAILED = "failed"
    DELETING = "deleting"


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


LIVE = frozenset({ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING})
