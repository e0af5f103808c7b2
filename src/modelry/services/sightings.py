"""A replica's row, brought up to date with what its executor sees of the process.

It writes to a session and decides nothing: what to do about it is the plan's.
"""

from modelry.db import Session
from modelry.executors.base import Executor, Observed, ProcessState
from modelry.services import store
from modelry.services.states import LIVE, ReplicaState

_TAIL_LINES = 40


def take_note(
    session: Session, row: store.ReplicaRow, seen: Observed | None, executor: Executor
) -> None:
    """`seen` is None where the executor knows nothing of it; `executor` is asked for its log."""
    if row.state not in LIVE:
        return
    if seen is None:
        row.ended_at = store.now()
        if row.state == ReplicaState.DRAINING:
            store.set_replica_state(session, row, ReplicaState.STOPPED, "it has ended")
            return
        row.failure = "its process was never started or its record is lost"
        store.set_replica_state(session, row, ReplicaState.FAILED, row.failure)
    elif seen.state is ProcessState.EXITED:
        row.ended_at = store.now()
        if row.state == ReplicaState.DRAINING or seen.failure is None:
            store.set_replica_state(session, row, ReplicaState.STOPPED, "it has ended")
            return
        row.failure, row.lasting = seen.failure.message, seen.failure.lasting
        tail = executor.log_tail(row.id, _TAIL_LINES)
        store.set_replica_state(session, row, ReplicaState.FAILED, row.failure, tail)
    elif seen.state is ProcessState.READY and row.state == ReplicaState.STARTING:
        row.ready_at = store.now()
        store.set_replica_state(session, row, ReplicaState.READY, "the engine answers")
    elif seen.state is ProcessState.STARTING and row.state == ReplicaState.READY:
        # Adopted, but it has not answered yet.
        store.set_replica_state(session, row, ReplicaState.STARTING, "it was found again")
