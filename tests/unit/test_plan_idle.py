"""When a service goes idle, rule by rule."""

from dataclasses import replace

import pytest

from modelry.services.plan import next_look, plan, status
from modelry.services.situation import (
    Desired,
    DrainReplica,
    Seen,
    StartReplica,
    Want,
    WeightsAbsent,
    WeightsFailed,
)
from modelry.services.states import ReplicaState, ServiceState
from tests.unit.worlds import (
    Simulation,
    at,
    drained,
    failed,
    seen,
    service,
    starts,
    world,
)

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING

QUIET = service(idle_after=60, active=-61.5)


def test_a_service_that_was_quiet_long_enough_drains_its_replicas() -> None:
    there = world([QUIET], [seen("a", READY), seen("b", READY, revision=0)])
    assert plan(there) == [
        DrainReplica("a", "idle: nobody calls it"),
        DrainReplica("b", "idle: nobody calls it"),
    ]
    told = status(there, QUIET)
    assert (told.state, told.message) == (ServiceState.IDLE, "idle; the next call wakes it")


def test_until_then_it_keeps_them_and_is_looked_at_again_in_time() -> None:
    """A use within the last second and a half may not have been reported yet."""
    recent = service(idle_after=60, active=-60.5)
    there = world([recent], [seen("a", READY)])
    assert plan(there) == []
    assert status(there, recent).state is ServiceState.RUNNING
    assert next_look(there) == at(1)


def test_without_a_limit_it_never_goes_idle() -> None:
    always = service(active=-(10**6))
    there = world([always], [seen("a", READY)])
    assert plan(there) == []
    assert next_look(there) is None


@pytest.mark.parametrize("replicas", [[], [seen("a", DRAINING)]])
def test_an_idle_service_is_idle_while_its_replicas_drain_and_after(replicas: list[Seen]) -> None:
    there = world([QUIET], replicas)
    assert plan(there) == []
    assert status(there, QUIET).state is ServiceState.IDLE
    assert next_look(there) is None


def test_a_call_while_they_drain_starts_new_ones_at_once() -> None:
    asked = service(idle_after=60)
    there = world([asked], [seen("a", DRAINING)])
    assert plan(there) == [StartReplica("svc", 1)]
    assert status(there, asked).state is ServiceState.STARTING


def test_what_was_asked_for_and_is_not_ready_yet_has_time() -> None:
    asked = service(idle_after=1)
    assert starts(plan(world([asked], now=10**6))) == [StartReplica("svc", 1)]
    assert plan(world([asked], [seen("a", STARTING)], now=10**6)) == []
    fetching = world([asked], weights=WeightsAbsent(), now=10**6)
    assert status(fetching, asked).state is ServiceState.PENDING


def test_while_no_gateway_tells_nothing_goes_idle_and_nothing_idle_starts() -> None:
    unknown = world([QUIET], [seen("a", READY)], known=None)
    assert plan(unknown) == []
    assert next_look(unknown) is None
    assert status(unknown, QUIET).state is ServiceState.RUNNING
    assert plan(world([QUIET], known=None)) == []
    assert status(world([QUIET], known=None), QUIET).state is ServiceState.IDLE


def test_a_gateway_that_has_just_connected_gets_time_to_tell() -> None:
    there = world([QUIET], [seen("a", READY)], known=3)
    assert plan(there) == []
    assert next_look(there) == at(3)
    assert drained(plan(world([QUIET], [seen("a", READY)], now=3, known=3))) == ["a"]


def test_an_idle_service_does_not_mind_its_weights() -> None:
    for weights in (WeightsAbsent(), WeightsFailed("gone")):
        assert plan(world([QUIET], weights=weights)) == []
        assert status(world([QUIET], weights=weights), QUIET).state is ServiceState.IDLE


def test_what_serves_in_place_of_a_change_that_cannot_start_is_not_drained() -> None:
    changed = replace(QUIET, revision=2)
    crashes = [
        replace(failed(str(n), created=n - 99.0, crashed=n - 98.5), revision=2) for n in range(3)
    ]
    never_starts = world([changed], [seen("old", READY), *crashes])
    never_comes = world([changed], [seen("old", READY)], weights=WeightsFailed("gone"))
    for there in (never_starts, never_comes):
        assert plan(there) == []
        told = status(there, changed)
        assert (told.state, told.stuck) == (ServiceState.UPDATING, True)
    once_it_has = world([changed], [seen("old", READY), seen("new", READY, revision=2), *crashes])
    assert drained(plan(once_it_has)) == ["old", "new"]


@pytest.mark.parametrize("want", [Want.STOP, Want.DELETE])
def test_what_is_to_end_is_not_idle(want: Want) -> None:
    ending = service(want=want, idle_after=60, active=-60)
    assert status(world([ending]), ending).state is not ServiceState.IDLE


def test_a_service_that_has_failed_stays_so() -> None:
    crashed = [failed("a", created=-500, crashed=-400, was_ready=-499, lasting=True)]
    there = world([QUIET], crashed)
    assert status(there, QUIET).state is ServiceState.FAILED
    assert next_look(there) is None


def test_a_service_that_served_goes_idle_though_a_replica_of_it_could_not_start() -> None:
    crashes = [failed(str(n), created=n - 900.0, crashed=n - 899.5) for n in range(3)]
    two = service(replicas=2, idle_after=60, active=-61.5)
    end = Simulation(world([two], [seen("a", READY), *crashes])).run()
    assert end.live("svc") == []
    (left,) = end.services
    assert status(end.world, left).state is ServiceState.IDLE
    end.wake("svc")
    assert starts(plan(end.world)) == [StartReplica("svc", 1)] * 2


def test_a_quiet_service_whose_replica_crashed_is_not_started_again() -> None:
    crashed = [failed("a", created=-500, crashed=-1, was_ready=-499)]
    assert plan(world([QUIET], crashed, known=None)) == []


# -- endpoints elsewhere -----------------------------------------------------


@pytest.mark.parametrize(("count", "message"), [(1, "1 endpoint"), (2, "2 endpoints")])
def test_a_service_on_endpoints_runs_at_once_and_needs_nothing(count: int, message: str) -> None:
    desired = Desired("svc", Want.RUN, 1, 0, at(0), endpoints=count)
    there = world([desired], weights={})
    assert plan(there) == []
    told = status(there, desired)
    assert (told.state, told.message) == (ServiceState.RUNNING, f"stands on {message}")
