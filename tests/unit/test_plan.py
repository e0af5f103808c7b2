"""The reconciler's decisions, rule by rule."""

import pytest

from modelry.services.plan import next_look, plan
from modelry.services.situation import (
    DrainReplica,
    FetchWeights,
    ForgetReplica,
    RemoveService,
    StartReplica,
    Want,
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsSeen,
)
from modelry.services.states import ReplicaState
from tests.unit.worlds import at, drained, failed, forgotten, seen, service, starts, world

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING
STOPPED = ReplicaState.STOPPED


# -- starting ----------------------------------------------------------------


def test_a_new_service_gets_its_weights_first() -> None:
    assert plan(world([service()], weights=WeightsAbsent())) == [FetchWeights("svc")]


@pytest.mark.parametrize("weights", [WeightsFetching(1, 2), WeightsFailed("no such file")])
def test_nothing_starts_without_weights(weights: WeightsSeen) -> None:
    assert plan(world([service()], weights=weights)) == []


def test_every_missing_replica_is_started_at_once() -> None:
    actions = plan(world([service(replicas=3)], [seen("a", READY)]))
    assert actions == [StartReplica("svc", 1)] * 2


def test_a_replica_that_loads_counts_as_there() -> None:
    assert plan(world([service()], [seen("a", STARTING)])) == []


def test_a_replica_that_drains_does_not_count_as_there() -> None:
    assert starts(plan(world([service()], [seen("a", DRAINING)]))) == [StartReplica("svc", 1)]


def test_a_running_service_does_not_ask_for_weights_that_were_deleted() -> None:
    assert plan(world([service()], [seen("a", READY)], WeightsAbsent())) == []


def test_services_are_planned_for_apart() -> None:
    one, other = service("one"), service("other")
    actions = plan(world([one, other], [seen("a", READY, service_id="one")]))
    assert actions == [StartReplica("other", 1)]


# -- crashes -----------------------------------------------------------------


def test_a_crash_is_tried_again_after_a_back_off() -> None:
    crashed = [failed("a", created=-10, crashed=0)]
    assert plan(world([service()], crashed, now=0.4)) == []
    assert plan(world([service()], crashed, now=0.5)) == [StartReplica("svc", 1)]


def test_the_back_off_doubles_with_each_crash() -> None:
    crashed = [failed("a", created=-10, crashed=-5), failed("b", created=-4, crashed=0)]
    assert next_look(world([service()], crashed)) == at(1.0)


def test_the_back_off_grows_to_a_minute_and_no_further() -> None:
    crashed = [
        failed(f"r{number}", created=number - 20, was_ready=number - 20, crashed=number - 19)
        for number in range(19)
    ]
    due = next_look(world([service()], crashed))
    assert due == at(-1 + 60)
    assert plan(world([service()], crashed, now=58.9)) == [
        ForgetReplica(f"r{number}") for number in range(11)
    ]


def test_the_crashes_that_are_kept_are_enough_for_the_longest_back_off() -> None:
    crashed = [
        failed(f"r{number}", created=number - 20, was_ready=number - 20, crashed=number - 19)
        for number in range(19)
    ]
    gone = set(forgotten(plan(world([service()], crashed))))
    kept = [replica for replica in crashed if replica.id not in gone]
    assert next_look(world([service()], kept)) == next_look(world([service()], crashed))


def test_three_crashes_without_ever_being_ready_are_the_end() -> None:
    crashed = [failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)]
    for later in (0, 60, 3600, 10**6):
        assert plan(world([service()], crashed, now=later)) == []
    assert next_look(world([service()], crashed)) is None


def test_a_lasting_failure_is_not_tried_again() -> None:
    crashed = [failed("a", created=-10, crashed=-5, lasting=True)]
    assert plan(world([service()], crashed, now=10**6)) == []
    assert next_look(world([service()], crashed)) is None


def test_a_service_that_was_ready_once_is_tried_again_for_ever() -> None:
    crashed = [
        failed(str(n), created=n - 9.0, was_ready=n - 8.9, crashed=n - 8.5) for n in range(6)
    ]
    assert starts(plan(world([service()], crashed, now=60))) == [StartReplica("svc", 1)]


def test_a_replica_that_was_steady_clears_the_crashes_before_it() -> None:
    crashed = [
        failed("a", created=-500, crashed=-499),
        failed("b", created=-498, crashed=-497),
        failed("c", created=-400, was_ready=-399, crashed=0),
    ]
    assert next_look(world([service()], crashed)) == at(0.5)


def test_a_steady_replica_clears_crashes_of_those_that_started_after_it() -> None:
    crashed = [
        failed("steady", created=-900, was_ready=-899, crashed=-1),
        *(failed(str(n), created=n - 800.0, crashed=n - 799.5) for n in range(3)),
    ]
    wanted = service(replicas=2)
    assert starts(plan(world([wanted], crashed))) == [StartReplica("svc", 1)] * 2


def test_the_back_off_counts_from_the_crash_that_came_last() -> None:
    crashed = [
        failed("older", created=-20, was_ready=-19, crashed=0),
        failed("younger", created=-10, was_ready=-9, crashed=-5),
    ]
    due = next_look(world([service(replicas=2)], crashed))
    assert due is not None
    assert due >= at(0.5)


def test_replicas_that_crash_side_by_side_are_one_try() -> None:
    crashed = [failed(name, created=-2, crashed=-1) for name in "abc"]
    actions = plan(world([service(replicas=3)], crashed, now=60))
    assert starts(actions) == [StartReplica("svc", 1)] * 3


def test_starting_a_service_anew_forgets_the_crashes_before() -> None:
    crashed = [failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)]
    actions = plan(world([service(since=-1)], crashed))
    assert starts(actions) == [StartReplica("svc", 1)]
    assert forgotten(actions) == ["0", "1", "2"]


def test_a_new_revision_does_not_pay_for_the_crashes_of_the_last() -> None:
    crashed = [failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)]
    actions = plan(world([service(revision=2)], crashed))
    assert starts(actions) == [StartReplica("svc", 2)]


def test_a_crash_does_not_stop_the_replicas_that_serve() -> None:
    replicas = [seen("a", READY), failed("b", created=-10, crashed=-5)]
    assert plan(world([service(replicas=2)], replicas)) == [StartReplica("svc", 1)]


# -- changing revision -------------------------------------------------------


def test_an_old_revision_serves_until_the_new_one_is_ready() -> None:
    loading = [seen("old", READY), seen("new", STARTING, revision=2)]
    assert plan(world([service(revision=2)], loading)) == []
    ready = [seen("old", READY), seen("new", READY, revision=2)]
    assert drained(plan(world([service(revision=2)], ready))) == ["old"]


def test_one_ready_replica_of_two_does_not_end_the_old_revision() -> None:
    replicas = [
        seen("old", READY),
        seen("new1", READY, revision=2),
        seen("new2", STARTING, revision=2),
    ]
    assert plan(world([service(revision=2, replicas=2)], replicas)) == []


def test_a_new_revision_that_cannot_start_leaves_the_old_one_serving() -> None:
    crashes = [failed(str(n), created=n - 9.0, crashed=n - 8.5) for n in range(3)]
    actions = plan(world([service(revision=1)], [seen("old", READY, revision=0), *crashes]))
    assert actions == []


def test_replicas_of_an_earlier_revision_that_is_alike_stay() -> None:
    changed = service(revision=2, replicas=2, alike=[1])
    assert plan(world([changed], [seen("a", READY)])) == [StartReplica("svc", 2)]
    both = [seen("a", READY), seen("b", READY, revision=2)]
    assert plan(world([changed], both)) == []


def test_what_goes_back_needs_no_new_replicas() -> None:
    there = [seen("first", READY), seen("second", STARTING, revision=2)]
    assert drained(plan(world([service(revision=3, alike=[1])], there))) == ["second"]
    assert starts(plan(world([service(revision=3, alike=[1])], there))) == []


def test_of_two_changes_quickly_after_another_only_the_last_is_brought_up() -> None:
    there = [seen("serves", READY), seen("loads", STARTING, revision=2)]
    actions = plan(world([service(revision=3)], there))
    assert drained(actions) == ["loads"]
    assert starts(actions) == [StartReplica("svc", 3)]


def test_an_old_replica_that_was_found_again_serves_on() -> None:
    adopted = seen("old", STARTING, was_ready=-50)
    assert drained(plan(world([service(revision=2)], [adopted]))) == []


# -- too many ----------------------------------------------------------------


def test_of_too_many_replicas_the_youngest_goes() -> None:
    replicas = [seen("young", READY, created=-10), seen("old", READY, created=-20)]
    assert drained(plan(world([service()], replicas))) == ["young"]


def test_of_too_many_replicas_one_that_still_loads_goes_first() -> None:
    replicas = [seen("loads", STARTING, created=-20), seen("serves", READY, created=-10)]
    assert drained(plan(world([service()], replicas))) == ["loads"]


def test_an_adopted_replica_that_does_not_answer_yet_goes_before_one_that_serves() -> None:
    replicas = [
        seen("adopted", STARTING, created=-20, was_ready=-19),
        seen("serves", READY, created=-10),
    ]
    assert drained(plan(world([service()], replicas))) == ["adopted"]


# -- ending ------------------------------------------------------------------


@pytest.mark.parametrize("want", [Want.STOP, Want.DELETE])
def test_a_service_that_is_to_end_drains_all_it_has(want: Want) -> None:
    replicas = [seen("a", READY), seen("b", STARTING), seen("c", READY, revision=0)]
    assert drained(plan(world([service(want=want)], replicas))) == ["a", "b", "c"]


def test_draining_is_asked_for_once() -> None:
    assert plan(world([service(want=Want.STOP)], [seen("a", DRAINING)])) == []


def test_a_deleted_service_goes_once_nothing_of_it_runs() -> None:
    deleted = service(want=Want.DELETE)
    assert plan(world([deleted], [seen("a", DRAINING)])) == []
    assert RemoveService("svc") in plan(world([deleted], [seen("a", STOPPED)]))
    assert plan(world([deleted])) == [RemoveService("svc")]


def test_a_stopped_service_stays() -> None:
    assert plan(world([service(want=Want.STOP)])) == []


def test_a_stopped_service_fetches_nothing() -> None:
    assert plan(world([service(want=Want.STOP)], weights=WeightsAbsent())) == []


def test_a_replica_without_a_service_is_drained() -> None:
    actions = plan(world([], [seen("a", READY)]))
    assert actions == [DrainReplica("a", "its service is gone")]


# -- forgetting --------------------------------------------------------------


def test_a_stopped_replica_is_forgotten() -> None:
    assert forgotten(plan(world([service()], [seen("a", READY), seen("b", STOPPED)]))) == ["b"]


def test_a_failed_replica_is_kept_to_be_read_about() -> None:
    replicas = [seen("a", READY), failed("b", created=-10, crashed=-5)]
    assert plan(world([service()], replicas)) == []
    assert plan(world([service(want=Want.STOP)], replicas[1:])) == []


def test_of_many_failed_replicas_the_latest_are_kept() -> None:
    crashed = [failed(f"r{n:02}", created=n - 99.0, crashed=n - 98.5) for n in range(10)]
    gone = forgotten(plan(world([service()], crashed)))
    assert "r00" in gone
    assert "r09" not in gone


def test_no_replica_that_lives_is_ever_forgotten() -> None:
    replicas = [seen(state, state, revision=0) for state in (STARTING, READY, DRAINING)]
    assert forgotten(plan(world([service(want=Want.DELETE)], replicas))) == []


# -- looking again -----------------------------------------------------------


def test_without_a_crash_there_is_nothing_to_wait_for() -> None:
    assert next_look(world([service()], [seen("a", READY)])) is None


def test_the_next_look_is_the_earliest_of_all_services() -> None:
    crashes = [
        failed("a", created=-10, crashed=-0.2),
        seen("b", ReplicaState.FAILED, service_id="other", created=-10, crashed=-0.1),
    ]
    assert next_look(world([service(), service("other")], crashes)) == at(0.3)


def test_a_back_off_that_is_over_is_not_waited_for() -> None:
    assert next_look(world([service()], [failed("a", created=-10, crashed=-9)])) is None


def test_a_stopped_service_waits_for_no_back_off() -> None:
    crashed = [failed("a", created=-10, crashed=0)]
    assert next_look(world([service(want=Want.STOP)], crashed)) is None
