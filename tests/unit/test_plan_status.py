"""What owners are told of their services."""

from dataclasses import replace

import pytest

from modelry.services.plan import status
from modelry.services.situation import (
    NodeFull,
    Progress,
    Seen,
    Status,
    Want,
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsReady,
    WeightsSeen,
)
from modelry.services.states import ReplicaState, ServiceState
from tests.unit.worlds import failed, seen, service, world

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def told(*replicas: Seen, weights: WeightsSeen | None = None, **wish: int) -> Status:
    desired = service(**wish)  # type: ignore[arg-type]
    return status(world([desired], replicas, weights or WeightsReady()), desired)


def test_a_service_without_weights_is_pending() -> None:
    assert told(weights=WeightsAbsent()).state is ServiceState.PENDING


def test_a_fetch_shows_how_far_it_is() -> None:
    found = told(weights=WeightsFetching(10, 200))
    assert found.state is ServiceState.FETCHING
    assert found.progress == Progress(10, 200)


def test_weights_that_cannot_be_had_fail_the_service_with_the_reason() -> None:
    found = told(weights=WeightsFailed("the disk is full"))
    assert (found.state, found.message) == (ServiceState.FAILED, "the disk is full")


@pytest.mark.parametrize("replicas", [[], [seen("a", STARTING)], [seen("a", DRAINING)]])
def test_a_service_is_starting_until_a_replica_is_ready(replicas: list[Seen]) -> None:
    assert told(*replicas).state is ServiceState.STARTING


def test_one_ready_replica_makes_it_running() -> None:
    assert told(seen("a", READY)).state is ServiceState.RUNNING


def test_a_replica_short_is_said() -> None:
    found = told(seen("a", READY), seen("b", STARTING), replicas=2)
    assert found.state is ServiceState.RUNNING
    assert "1 of 2" in found.message
    assert "of" not in told(seen("a", READY), seen("b", READY), replicas=2).message


def test_a_crash_is_told_while_it_starts_again() -> None:
    found = told(failed("a", created=-10, crashed=-1))
    assert found.state is ServiceState.STARTING
    assert "a crashed" in found.message


def test_giving_up_tells_the_last_reason() -> None:
    found = told(*(failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)))
    assert (found.state, found.message) == (ServiceState.FAILED, "2 crashed")


def test_a_lasting_failure_fails_at_once() -> None:
    found = told(failed("a", created=-10, crashed=-9, lasting=True))
    assert (found.state, found.message) == (ServiceState.FAILED, "a crashed")


def test_a_service_that_serves_is_not_failed_by_a_second_replica_that_cannot_start() -> None:
    crashes = [failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)]
    assert told(seen("a", READY), *crashes, replicas=2).state is ServiceState.RUNNING


def test_serving_with_an_older_revision_is_updating() -> None:
    found = told(seen("a", READY), seen("b", STARTING, revision=2), revision=2)
    assert found.state is ServiceState.UPDATING


def test_an_older_revision_that_is_alike_runs() -> None:
    there, changed = [seen("a", READY)], service(revision=2, alike=[1])
    assert status(world([changed], there), changed).state is ServiceState.RUNNING


def test_a_change_says_how_far_its_weights_are() -> None:
    found = told(seen("a", READY), weights=WeightsFetching(10, 200), revision=2)
    assert (found.state, found.progress) == (ServiceState.UPDATING, Progress(10, 200))
    assert "fetching its weights" in found.message
    assert not found.stuck


@pytest.mark.parametrize(
    ("weights", "why"),
    [(WeightsFailed("the disk is full"), "the disk is full"), (NodeFull("no GPU"), "stopped and")],
)
def test_a_change_that_does_not_get_on_says_why_and_that_the_old_serves(
    weights: WeightsSeen, why: str
) -> None:
    found = told(seen("a", READY), weights=weights, revision=2)
    assert (found.state, found.stuck) == (ServiceState.UPDATING, True)
    assert why in found.message.lower()
    assert "the one before serves on" in found.message


def test_weights_that_are_gone_matter_no_more_once_all_new_replicas_are_there() -> None:
    there = [seen("a", READY), seen("b", STARTING, revision=2)]
    assert not told(*there, weights=WeightsFailed("gone"), revision=2).stuck


def test_a_change_that_never_starts_is_stuck_with_the_reason() -> None:
    crashes = [
        replace(failed(str(n), created=n - 9.0, crashed=n - 8.5), revision=2) for n in (0, 1)
    ]
    trying = told(seen("a", READY), *crashes, revision=2)
    assert (trying.state, trying.stuck) == (ServiceState.UPDATING, False)
    assert "1 crashed" in trying.message
    crashes.append(replace(failed("2", created=-7, crashed=-6.5), revision=2))
    found = told(seen("a", READY), *crashes, revision=2)
    assert (found.state, found.stuck) == (ServiceState.UPDATING, True)
    assert "2 crashed" in found.message


def test_a_stopped_service_says_when_requests_still_finish() -> None:
    stopped = service(want=Want.STOP)
    over = status(world([stopped]), stopped)
    still = status(world([stopped], [seen("a", DRAINING)]), stopped)
    assert over.state is still.state is ServiceState.STOPPED
    assert "in flight" in still.message
    assert "in flight" not in over.message


@pytest.mark.parametrize("replicas", [[], [seen("a", READY)], [seen("a", DRAINING)]])
def test_a_deleted_service_is_deleting_whatever_it_has(replicas: list[Seen]) -> None:
    deleted = service(want=Want.DELETE)
    assert status(world([deleted], replicas), deleted).state is ServiceState.DELETING


def test_a_stopped_service_needs_no_word_on_its_weights() -> None:
    stopped = service(want=Want.STOP)
    found = status(world([stopped], weights=WeightsFailed("gone")), stopped)
    assert found.state is ServiceState.STOPPED


def test_replicas_of_other_services_are_of_no_account() -> None:
    other = seen("a", READY, service_id="other")
    assert told(other).state is ServiceState.STARTING
