"""The planner from any state at all: it converges, and serving never suffers on the way."""

import copy
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.services.plan import next_look, plan, status
from modelry.services.situation import (
    Desired,
    Seen,
    StartReplica,
    Want,
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsReady,
    WeightsSeen,
    World,
)
from modelry.services.states import ReplicaState, ServiceState
from tests.unit.worlds import Simulation, at, drained, seen, service, starts, world

OBTAINABLE: list[WeightsSeen] = [WeightsReady(), WeightsAbsent(), WeightsFetching(1, 10)]
some_worlds = settings(max_examples=60)

idle_times = st.none() | st.integers(1, 600)
always_on = st.none()
known_times = st.none() | st.integers(-100, 100)
fates = st.lists(st.sampled_from(["ready", "never", "later"]), max_size=8)


@st.composite
def replicas_of(draw: st.DrawFn, desired: Desired, crashes: int, lasting: bool) -> list[Seen]:
    """Replicas as some past can have left them, with so many crashes at most."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        state = draw(st.sampled_from(ReplicaState))
        if state is ReplicaState.FAILED and crashes == 0:
            state = ReplicaState.STOPPED
        created = draw(st.integers(-2000, -500))
        ready = draw(st.none() | st.integers(created, -300))
        crashed = None
        if state is ReplicaState.FAILED:
            crashes -= 1
            crashed = draw(st.integers(max(created, ready or created), 0))
        found.append(
            seen(
                f"{desired.service_id}-{number}",
                state,
                service_id=desired.service_id,
                revision=draw(st.integers(1, desired.revision)),
                created=created,
                was_ready=ready,
                crashed=crashed,
                lasting=lasting and draw(st.booleans()),
            )
        )
    return found


@st.composite
def worlds(
    draw: st.DrawFn,
    wants: tuple[Want, ...] = tuple(Want),
    weights: tuple[WeightsSeen, ...] = (*OBTAINABLE, WeightsFailed("no")),
    crashes: int = 6,
    lasting: bool = True,
    idle_after: st.SearchStrategy[int | None] = idle_times,
    known: st.SearchStrategy[int | None] = known_times,
) -> World:
    services: list[Desired] = []
    replicas: list[Seen] = []
    for number in range(draw(st.integers(1, 3))):
        revision = draw(st.integers(1, 3))
        desired = service(
            f"svc{number}",
            want=draw(st.sampled_from(wants)),
            revision=revision,
            alike=draw(st.frozensets(st.integers(1, 3))) - {revision},
            replicas=draw(st.integers(1, 3)),
            since=draw(st.integers(-3000, 0)),
            idle_after=draw(idle_after),
            active=draw(st.none() | st.integers(-1000, 0)),
        )
        services.append(desired)
        replicas += draw(replicas_of(desired, crashes, lasting))
    orphans = st.sampled_from([ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING])
    for number, state in enumerate(draw(st.lists(orphans, max_size=2))):
        replicas.append(seen(f"orphan-{number}", state, service_id="gone"))
    seen_weights = {each.service_id: draw(st.sampled_from(weights)) for each in services}
    return world(services, draw(st.permutations(replicas)), seen_weights, known=draw(known))


def found_in(end: Simulation, desired: Desired) -> Desired:
    """The service as it is at the end of a simulation."""
    return next(each for each in end.services if each.service_id == desired.service_id)


def idle(found: World, desired: Desired) -> bool:
    return status(found, desired).state is ServiceState.IDLE


@some_worlds
@given(worlds((Want.RUN,), tuple(OBTAINABLE), crashes=2, lasting=False, idle_after=always_on))
def test_every_service_comes_to_the_wanted_number_of_ready_replicas(start: World) -> None:
    end = Simulation(start).run()
    for desired in start.services:
        assert end.ready(desired) == desired.replicas
        assert len(end.live(desired.service_id)) == desired.replicas
        assert status(end.world, desired).state is ServiceState.RUNNING


@some_worlds
@given(worlds(), fates)
def test_every_world_comes_to_rest(start: World, how: list[str]) -> None:
    end = Simulation(start, how).run()
    assert plan(end.world) == []
    assert next_look(end.world) is None
    assert end.live("gone") == []
    for desired in start.services:
        mine = end.live(desired.service_id)
        current = [found for found in mine if desired.is_current(found.revision)]
        assert len(current) <= desired.replicas
        if desired.want is Want.RUN and len(current) < desired.replicas:
            # It may be short for good only where something is told to be wrong.
            told = status(end.world, found_in(end, desired))
            assert told.state in (ServiceState.FAILED, ServiceState.IDLE) or mine


@some_worlds
@given(worlds(), fates)
def test_a_service_that_is_not_to_run_ends_with_no_live_replica(
    start: World, how: list[str]
) -> None:
    end = Simulation(start, how).run()
    left = {desired.service_id for desired in end.services}
    for desired in start.services:
        if desired.want is not Want.RUN:
            assert end.live(desired.service_id) == []
        assert (desired.service_id in left) == (desired.want is not Want.DELETE)
    assert not any(
        found.service_id == desired.service_id
        for desired in start.services
        if desired.want is Want.DELETE
        for found in end.replicas.values()
    )


@some_worlds
@given(worlds(), fates)
def test_an_old_revision_serves_until_enough_of_the_new_one_do(
    start: World, how: list[str]
) -> None:
    for before, actions in Simulation(start, how).run().planned:
        going = set(drained(actions))
        for desired in before.services:
            if desired.want is not Want.RUN or idle(before, desired):
                continue
            mine = [found for found in before.replicas if found.service_id == desired.service_id]
            ready = sum(
                found.state is ReplicaState.READY and desired.is_current(found.revision)
                for found in mine
            )
            outdated = {
                found.id
                for found in mine
                if not desired.is_current(found.revision) and found.ready_at is not None
            }
            assert not going & outdated or ready >= desired.replicas


@some_worlds
@given(worlds((Want.RUN,)), fates)
def test_what_is_wanted_no_longer_does_not_go_on_loading(start: World, how: list[str]) -> None:
    for before, actions in Simulation(start, how).run().planned:
        for desired in before.services:
            loading = {
                found.id
                for found in before.replicas
                if found.service_id == desired.service_id
                and found.state is ReplicaState.STARTING
                and found.ready_at is None
                and not desired.is_current(found.revision)
            }
            assert loading <= set(drained(actions))


@some_worlds
@given(worlds((Want.RUN,), idle_after=always_on), fates)
def test_a_service_that_serves_goes_on_serving_through_every_change(
    start: World, how: list[str]
) -> None:
    """Whatever becomes of the new replicas; of those that serve, none may crash."""
    before = {found.service_id for found in start.replicas if found.state is ReplicaState.READY}
    end = Simulation(start, [fate for fate in how if fate != "later"]).run()
    for at_that_time, _ in end.planned:
        now = {
            found.service_id for found in at_that_time.replicas if found.state is ReplicaState.READY
        }
        assert before & {desired.service_id for desired in start.services} <= now


@some_worlds
@given(worlds(), fates)
def test_no_plan_takes_serving_replicas_away_that_are_wanted(start: World, how: list[str]) -> None:
    for before, actions in Simulation(start, how).run().planned:
        going = set(drained(actions))
        for desired in before.services:
            serving = {
                found.id
                for found in before.replicas
                if found.service_id == desired.service_id and found.state is ReplicaState.READY
            }
            if desired.want is Want.RUN and not idle(before, desired):
                assert len(serving - going) >= min(len(serving), desired.replicas)


@some_worlds
@given(worlds(), fates)
def test_there_are_never_more_replicas_of_a_revision_than_wanted(
    start: World, how: list[str]
) -> None:
    for before, actions in Simulation(start, how).run().planned:
        for begun, number in Counter(starts(actions)).items():
            desired = next(each for each in before.services if each.service_id == begun.service_id)
            there = sum(
                found.service_id == begun.service_id
                and desired.is_current(found.revision)
                and found.state in (ReplicaState.STARTING, ReplicaState.READY)
                for found in before.replicas
            )
            assert begun.revision == desired.revision
            assert there + number <= desired.replicas


@some_worlds
@given(worlds())
def test_a_plan_depends_on_the_world_alone_and_leaves_it_as_it_was(start: World) -> None:
    before = copy.deepcopy(start)
    first = plan(start)
    for desired in start.services:
        status(start, desired)
    next_look(start)
    assert start == before
    assert plan(start) == first == plan(before)


@some_worlds
@given(worlds(), st.integers(0, 120))
def test_the_next_look_lies_ahead_and_no_plan_changes_before_it(start: World, later: int) -> None:
    due = next_look(start)
    if due is not None:
        assert due > start.now
    then = replace(start, now=at(later))
    if due is None or then.now < due:
        assert plan(then) == plan(start)


@some_worlds
@given(
    worlds(
        (Want.RUN,),
        tuple(OBTAINABLE),
        crashes=2,
        lasting=False,
        idle_after=st.integers(1, 600),
        known=st.integers(-100, 100),
    )
)
def test_a_service_that_nobody_calls_ends_idle_and_a_call_brings_it_back(start: World) -> None:
    end = Simulation(start).run()
    for desired in start.services:
        assert end.live(desired.service_id) == []
        assert idle(end.world, found_in(end, desired))

    woken = start.services[0]
    end.wake(woken.service_id)
    # Nobody tells that it is not in use, so it stays.
    end.known_from = None
    end.run()
    assert end.ready(woken) == woken.replicas
    assert status(end.world, found_in(end, woken)).state is ServiceState.RUNNING
    for other in start.services[1:]:
        assert end.live(other.service_id) == []


@some_worlds
@given(worlds(), st.integers(0, 600))
def test_a_service_that_is_in_use_never_goes_idle(start: World, later: int) -> None:
    now = at(later)
    used = [replace(each, active_at=now) for each in start.services]
    busy = replace(start, now=now, services=used)
    always = replace(busy, services=[replace(each, idle_after_s=None) for each in used])
    assert plan(busy) == plan(always)
    assert not any(idle(busy, desired) for desired in used)


@some_worlds
@given(worlds(known=st.none()), st.integers(0, 10**6))
def test_nothing_that_has_replicas_goes_idle_while_no_gateway_tells(
    start: World, later: int
) -> None:
    then = replace(start, now=at(later))
    for desired in then.services:
        there = [
            found
            for found in then.replicas
            if found.service_id == desired.service_id
            and found.state in (ReplicaState.STARTING, ReplicaState.READY)
        ]
        assert not (there and idle(then, desired))


@given(st.integers(0, 2))
def test_what_never_becomes_ready_is_tried_three_times_and_then_failed(crashed: int) -> None:
    desired = service()
    past = [
        seen(str(n), ReplicaState.FAILED, created=n - 9, crashed=n - 8.5) for n in range(crashed)
    ]
    end = Simulation(world([desired], past), ["never"] * 20).run()
    begun = [action for _, actions in end.planned for action in starts(actions)]
    assert begun == [StartReplica("svc", 1)] * (3 - crashed)
    assert status(end.world, desired).state is ServiceState.FAILED


@given(st.integers(1, 40))
def test_what_was_ready_is_brought_back_however_often_it_crashes(crashes: int) -> None:
    end = Simulation(world([service()]), ["later"] * crashes).run()
    assert end.ready(service()) == 1
