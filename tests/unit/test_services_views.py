"""Which replicas of a service are shown."""

from datetime import UTC, datetime, timedelta

from modelry.services.states import ReplicaState
from modelry.services.store import ReplicaRow
from modelry.services.views import shown_replicas

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def replica(
    id: str, state: ReplicaState, *, ready: int | None = None, ended: int | None = None
) -> ReplicaRow:
    return ReplicaRow(
        id=id,
        state=state,
        created_at=NOON,
        ready_at=None if ready is None else at(ready),
        ended_at=None if ended is None else at(ended),
    )


def shown(*replicas: ReplicaRow) -> list[str]:
    return [each.id for each in shown_replicas(list(replicas))]


def test_what_is_stopped_is_not_shown() -> None:
    going = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING)
    replicas = [replica(str(state), state) for state in going]
    assert shown(*replicas, replica("old", ReplicaState.STOPPED, ended=1)) == [
        str(state) for state in going
    ]


def test_one_that_failed_is_shown_until_another_is_ready() -> None:
    failed = replica("failed", ReplicaState.FAILED, ready=1, ended=5)
    assert shown(failed) == ["failed"]
    assert shown(failed, replica("next", ReplicaState.STARTING)) == ["failed", "next"]
    assert shown(failed, replica("next", ReplicaState.READY, ready=6)) == ["next"]


def test_one_that_was_ready_before_it_failed_does_not_hide_it() -> None:
    ready = replica("ready", ReplicaState.READY, ready=4)
    failed = replica("failed", ReplicaState.FAILED, ended=5)
    assert shown(ready, failed) == ["ready", "failed"]
    assert shown(failed, ready, replica("third", ReplicaState.READY, ready=6)) == ["ready", "third"]


def test_of_a_service_that_has_none_left_all_that_failed_are_shown() -> None:
    failed = [replica(str(minute), ReplicaState.FAILED, ended=minute) for minute in (1, 2)]
    draining = replica("draining", ReplicaState.DRAINING, ready=9)
    assert shown(*failed, draining) == ["1", "2", "draining"]
