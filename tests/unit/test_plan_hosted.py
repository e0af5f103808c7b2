"""Services whose adapters the replicas of another service take, and what is brought ahead."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.services.plan import next_look, plan, status
from modelry.services.situation import (
    AdapterSeen,
    Desired,
    DrainReplica,
    FetchWeights,
    LoadAdapter,
    Progress,
    RemoveService,
    Seen,
    StartReplica,
    UnloadAdapter,
    Want,
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsReady,
    WeightsSeen,
    World,
)
from modelry.services.states import ReplicaState, ServiceState
from tests.unit.test_plan_properties import fates, replicas_of
from tests.unit.worlds import Simulation, drained, failed, seen, service, starts, world

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING

BASE = service("base")
TUNED = service("tuned", host="base")
READY_BASE = seen("b1", READY, service_id="base")


def on(*replicas: str, failure: str | None = None) -> dict[str, AdapterSeen]:
    return {"tuned": AdapterSeen(frozenset(replicas), failure=failure)}


def there(
    *replicas: Seen,
    base: Desired | None = BASE,
    tuned: Desired = TUNED,
    weights: WeightsSeen | None = None,
    adapters: dict[str, AdapterSeen] | None = None,
) -> World:
    """`weights`: the adapter's; the base has its own."""
    services = [tuned] if base is None else [base, tuned]
    found: dict[str, WeightsSeen] = {"base": WeightsReady(), "tuned": weights or WeightsReady()}
    return world(services, replicas, found, adapters=adapters)


def told(found: World, desired: Desired = TUNED) -> tuple[ServiceState, str]:
    shown = status(found, desired)
    return shown.state, shown.message


# -- bringing it there ---------------------------------------------------------


def test_its_adapter_goes_to_every_ready_replica_of_its_base() -> None:
    two = replace(BASE, replicas=2)
    found = there(READY_BASE, seen("b2", READY, service_id="base"), base=two)
    assert [each for each in plan(found) if isinstance(each, LoadAdapter)] == [
        LoadAdapter("tuned", "b1"),
        LoadAdapter("tuned", "b2"),
    ]


def test_where_it_is_it_is_not_brought_again() -> None:
    two = replace(BASE, replicas=2)
    found = there(READY_BASE, seen("b2", READY, service_id="base"), base=two, adapters=on("b1"))
    assert plan(found) == [LoadAdapter("tuned", "b2")]
    assert plan(there(READY_BASE, adapters=on("b1"))) == []


@pytest.mark.parametrize("state", [each for each in ReplicaState if each is not READY])
def test_to_a_replica_that_is_not_ready_it_does_not_go(state: ReplicaState) -> None:
    found = there(seen("b1", state, service_id="base"))
    assert not [each for each in plan(found) if isinstance(each, LoadAdapter)]


@pytest.mark.parametrize("base", [BASE, None, replace(BASE, want=Want.STOP)])
def test_to_a_replica_that_is_to_go_it_does_not_go(base: Desired | None) -> None:
    """Whichever of both services is planned for first."""
    outdated = seen("b0", READY, service_id="base", revision=0)
    found = there(outdated, READY_BASE, base=base, adapters=on("b1"))
    for services in (found.services, list(reversed(found.services))):
        actions = plan(replace(found, services=services))
        assert "b0" in drained(actions)
        assert not [each for each in actions if isinstance(each, LoadAdapter)]


def test_to_the_replicas_of_others_it_does_not_go() -> None:
    other = service("other")
    found = world(
        [BASE, TUNED, other], [READY_BASE, seen("o1", READY, service_id="other")], adapters=on("b1")
    )
    assert plan(found) == []


def test_it_has_no_replicas_of_its_own() -> None:
    assert starts(plan(there(tuned=replace(TUNED, replicas=3)))) == [StartReplica("base", 1)]


def test_its_adapter_is_fetched_before_it_is_brought() -> None:
    assert plan(there(READY_BASE, weights=WeightsAbsent())) == [FetchWeights("tuned")]
    assert plan(there(READY_BASE, weights=WeightsFetching(1, 2))) == []
    assert plan(there(READY_BASE, weights=WeightsFailed("no"))) == []


def test_it_is_fetched_though_its_base_does_not_run() -> None:
    stopped = replace(BASE, want=Want.STOP)
    assert plan(there(base=stopped, weights=WeightsAbsent())) == [FetchWeights("tuned")]


# -- its base changes ----------------------------------------------------------

OLD = seen("old", READY, service_id="base")
NEW = seen("new", READY, service_id="base", revision=2)
CHANGED = replace(BASE, revision=2)


def test_the_old_replicas_of_its_base_stay_until_the_new_ones_have_the_adapter() -> None:
    brought = there(OLD, NEW, base=CHANGED, adapters=on("old"))
    assert plan(brought) == [LoadAdapter("tuned", "new")]
    assert told(brought, CHANGED) == (
        ServiceState.UPDATING,
        "changing to revision 2: its adapters are brought there",
    )
    assert drained(plan(there(OLD, NEW, base=CHANGED, adapters=on("old", "new")))) == ["old"]


def test_the_adapter_has_to_be_on_as_many_new_replicas_as_are_wanted() -> None:
    two = replace(CHANGED, replicas=2)
    other = replace(NEW, id="other")
    some = there(OLD, NEW, other, base=two, adapters=on("old", "new"))
    assert drained(plan(some)) == []
    every = there(OLD, NEW, other, base=two, adapters=on("old", "new", "other"))
    assert drained(plan(every)) == ["old"]


@pytest.mark.parametrize(
    ("tuned", "where"),
    [
        (TUNED, ()),
        (replace(TUNED, want=Want.STOP), ("old",)),
        (service("else", host="x"), ("old",)),
    ],
)
def test_an_adapter_that_does_not_serve_there_holds_nothing_up(
    tuned: Desired, where: tuple[str, ...]
) -> None:
    found = there(OLD, NEW, base=CHANGED, tuned=tuned, adapters=on(*where))
    found = replace(found, weights={**found.weights, tuned.service_id: WeightsReady()})
    assert drained(plan(found)) == ["old"]


def test_new_replicas_that_do_not_take_the_adapter_leave_the_old_ones_serving() -> None:
    refused = AdapterSeen(frozenset({"old"}), refusing=frozenset({"new"}), failure="rank 128")
    found = there(OLD, NEW, base=CHANGED, adapters={"tuned": refused})
    assert drained(plan(found)) == []
    shown = status(found, CHANGED)
    assert (shown.state, shown.stuck) == (ServiceState.UPDATING, True)
    assert "rank 128" in shown.message
    assert told(found) == (ServiceState.RUNNING, "serving on a replica of its base")


def test_what_was_refused_for_good_is_not_brought_again() -> None:
    refused = AdapterSeen(
        refusing=frozenset({"b1"}), failure="vLLM did not take the adapter: rank 128"
    )
    found = there(READY_BASE, adapters={"tuned": refused})
    assert plan(found) == []
    assert told(found) == (ServiceState.FAILED, "vLLM did not take the adapter: rank 128")


# -- its end -------------------------------------------------------------------


def test_while_a_replica_may_have_it_nothing_is_concluded() -> None:
    """Its name must be nowhere before another service can have it."""
    unsure = {"tuned": AdapterSeen(unsure=frozenset({"b1"}))}
    assert plan(there(READY_BASE, adapters=unsure)) == []
    gone = replace(TUNED, want=Want.DELETE)
    assert plan(there(READY_BASE, tuned=gone, adapters=unsure)) == []
    elsewhere = {"tuned": AdapterSeen(unsure=frozenset({"another"}))}
    found = plan(there(READY_BASE, tuned=gone, adapters=elsewhere))
    assert found == [RemoveService("tuned")]


def test_a_replica_that_refuses_does_not_keep_it_from_others() -> None:
    other = seen("b2", READY, service_id="base")
    refused = {"tuned": AdapterSeen(refusing=frozenset({"b1"}), failure="no room")}
    found = there(READY_BASE, other, base=service("base", replicas=2), adapters=refused)
    assert plan(found) == [LoadAdapter("tuned", "b2")]


@pytest.mark.parametrize("want", [Want.STOP, Want.DELETE])
def test_one_that_is_to_end_is_taken_from_every_replica(want: Want) -> None:
    ending = replace(TUNED, want=want)
    found = there(
        READY_BASE, seen("b0", READY, service_id="base"), tuned=ending, adapters=on("b1", "b0")
    )
    actions = plan(replace(found, services=[replace(BASE, replicas=2), ending]))
    assert actions == [UnloadAdapter("tuned", "b0"), UnloadAdapter("tuned", "b1")]


def test_it_is_removed_only_once_no_replica_has_it() -> None:
    ending = replace(TUNED, want=Want.DELETE)
    assert plan(there(READY_BASE, tuned=ending, adapters=on("b1"))) == [
        UnloadAdapter("tuned", "b1")
    ]
    assert plan(there(READY_BASE, tuned=ending, adapters=on())) == [RemoveService("tuned")]
    assert plan(there(base=None, tuned=ending)) == [RemoveService("tuned")]


def test_one_that_is_stopped_stays_and_is_not_fetched() -> None:
    stopped = replace(TUNED, want=Want.STOP)
    assert plan(there(READY_BASE, tuned=stopped, weights=WeightsAbsent())) == []


def test_the_end_of_its_adapter_leaves_the_base_alone() -> None:
    ending = replace(TUNED, want=Want.DELETE)
    assert drained(plan(there(READY_BASE, tuned=ending, adapters=on("b1")))) == []


# -- what its owner is told ----------------------------------------------------

STOPPED_BASE = replace(BASE, want=Want.STOP)
IDLE_BASE = service("base", idle_after=60, active=-100)


@pytest.mark.parametrize(
    ("found", "state", "message"),
    [
        (there(READY_BASE, adapters=on("b1")), ServiceState.RUNNING, "serving on a replica"),
        (
            there(READY_BASE, seen("b2", READY, service_id="base"), adapters=on("b1", "b2")),
            ServiceState.RUNNING,
            "serving on 2 replicas",
        ),
        (there(READY_BASE), ServiceState.STARTING, "waits for its base: serving"),
        (
            there(seen("b1", STARTING, service_id="base")),
            ServiceState.STARTING,
            "waits for its base: the engine loads the weights",
        ),
        (
            there(replace(failed("b1", -10, -1), service_id="base")),
            ServiceState.STARTING,
            "waits for its base: starting again: b1 crashed",
        ),
        (there(base=None), ServiceState.FAILED, "the service of its base model is gone"),
        (
            there(base=replace(BASE, want=Want.DELETE)),
            ServiceState.FAILED,
            "the service of its base model is gone",
        ),
        (
            there(base=STOPPED_BASE),
            ServiceState.FAILED,
            "the service of its base model is stopped: start it",
        ),
        (
            # Of a failure nothing can be said while the base does not run.
            there(base=STOPPED_BASE, adapters=on(failure="no")),
            ServiceState.FAILED,
            "the service of its base model is stopped: start it",
        ),
        (there(base=IDLE_BASE), ServiceState.IDLE, "idle with its base; the next call wakes both"),
        (
            there(READY_BASE, adapters=on("b1", failure="b2 has no room")),
            ServiceState.RUNNING,
            "serving on a replica of its base",
        ),
        (there(READY_BASE, adapters=on(failure="no room")), ServiceState.FAILED, "no room"),
        (there(weights=WeightsAbsent()), ServiceState.PENDING, "about to be fetched"),
        (
            there(READY_BASE, adapters=on("b1"), weights=WeightsFailed("it does not fit")),
            ServiceState.FAILED,
            "it does not fit",
        ),
        (
            there(tuned=replace(TUNED, want=Want.STOP)),
            ServiceState.STOPPED,
            "stopped by its owner",
        ),
        (there(tuned=replace(TUNED, want=Want.DELETE)), ServiceState.DELETING, ""),
    ],
)
def test_what_is_told_of_it(found: World, state: ServiceState, message: str) -> None:
    shown = told(found, next(each for each in found.services if each.service_id == "tuned"))
    assert shown[0] is state
    assert message in shown[1]


def test_while_its_adapter_is_fetched_it_is_told_how_far_that_is() -> None:
    shown = status(
        there(READY_BASE, weights=WeightsFetching(10, 200, "fetching its adapter")), TUNED
    )
    assert (shown.state, shown.progress) == (ServiceState.FETCHING, Progress(10, 200))
    assert shown.message == "fetching its adapter"


# -- ahead ---------------------------------------------------------------------

AHEAD = service(idle_after=60, active=-61.5, ahead=True)


def test_what_an_idle_service_needs_is_brought_where_that_is_asked() -> None:
    assert plan(world([AHEAD], weights=WeightsAbsent())) == [FetchWeights("svc")]
    assert plan(world([replace(AHEAD, ahead=False)], weights=WeightsAbsent())) == []


@pytest.mark.parametrize("weights", [WeightsReady(), WeightsFetching(1, 2), WeightsFailed("no")])
def test_what_is_here_or_under_way_or_failed_is_not_brought_ahead(weights: WeightsSeen) -> None:
    assert plan(world([AHEAD], weights=weights)) == []


@pytest.mark.parametrize(
    ("weights", "ahead", "otherwise"),
    [
        (WeightsReady(), ServiceState.IDLE, ServiceState.IDLE),
        (WeightsAbsent(), ServiceState.PENDING, ServiceState.IDLE),
        (WeightsFetching(1, 2), ServiceState.FETCHING, ServiceState.IDLE),
        (WeightsFailed("no"), ServiceState.FAILED, ServiceState.IDLE),
    ],
)
def test_it_is_idle_once_all_is_here_that_it_needs(
    weights: WeightsSeen, ahead: ServiceState, otherwise: ServiceState
) -> None:
    assert status(world([AHEAD], weights=weights), AHEAD).state is ahead
    usual = replace(AHEAD, ahead=False)
    assert status(world([usual], weights=weights), usual).state is otherwise


def test_its_replicas_drain_all_the_same() -> None:
    assert plan(world([AHEAD], [seen("a", READY)], WeightsAbsent())) == [
        DrainReplica("a", "idle: nobody calls it"),
        FetchWeights("svc"),
    ]


def test_one_that_is_stopped_has_nothing_brought_ahead() -> None:
    assert plan(world([replace(AHEAD, want=Want.STOP)], weights=WeightsAbsent())) == []


def test_it_stays_idle_with_all_that_it_needs() -> None:
    end = Simulation(world([AHEAD], weights=WeightsAbsent())).run()
    assert end.weights["svc"] == WeightsReady()
    assert end.replicas == {}
    assert status(end.world, end.services[0]).state is ServiceState.IDLE


# -- from any state ------------------------------------------------------------

some_worlds = settings(max_examples=80)
OBTAINABLE: tuple[WeightsSeen, ...] = (WeightsReady(), WeightsAbsent(), WeightsFetching(1, 10))


@st.composite
def hosted_worlds(
    draw: st.DrawFn,
    wants: tuple[Want, ...] = tuple(Want),
    weights: tuple[WeightsSeen, ...] = (*OBTAINABLE, WeightsFailed("no")),
    crashes: int = 4,
    refusals: bool = True,
    idle_after: st.SearchStrategy[int | None] | None = None,
) -> World:
    """Up to two bases, and services on them, on none of ours, or on one that is gone."""
    services: list[Desired] = []
    replicas: list[Seen] = []
    bases = [f"base{number}" for number in range(draw(st.integers(1, 2)))]
    for id_ in bases:
        base = service(
            id_,
            want=draw(st.sampled_from(wants)),
            revision=draw(st.integers(1, 2)),
            replicas=draw(st.integers(1, 3)),
            since=draw(st.integers(-3000, 0)),
            idle_after=draw(st.none() | st.integers(1, 600) if idle_after is None else idle_after),
            active=draw(st.none() | st.integers(-1000, 0)),
        )
        services.append(base)
        replicas += draw(replicas_of(base, crashes, False))
    hosts = bases if wants == (Want.RUN,) else [*bases, "gone"]
    adapters: dict[str, AdapterSeen] = {}
    for number in range(draw(st.integers(1, 3))):
        host = draw(st.sampled_from(hosts))
        tuned = service(
            f"tuned{number}",
            want=draw(st.sampled_from(wants)),
            host=host,
            since=draw(st.integers(-3000, 0)),
        )
        services.append(tuned)
        ready = [each.id for each in replicas if each.service_id == host and each.state is READY]
        has = draw(st.frozensets(st.sampled_from(ready))) if ready else frozenset()
        refused = refusals and draw(st.booleans())
        adapters[tuned.service_id] = AdapterSeen(has, failure="refused" if refused else None)
    found = {each.service_id: draw(st.sampled_from(weights)) for each in services}
    return world(
        draw(st.permutations(services)), draw(st.permutations(replicas)), found, adapters=adapters
    )


def ready_of(end: Simulation, service_id: str) -> set[str]:
    return {
        each.id
        for each in end.replicas.values()
        if each.service_id == service_id and each.state is READY
    }


@some_worlds
@given(hosted_worlds((Want.RUN,), OBTAINABLE, crashes=2, refusals=False, idle_after=st.none()))
def test_every_hosted_service_comes_to_run_on_all_replicas_of_its_base(start: World) -> None:
    end = Simulation(start).run()
    for desired in start.services:
        assert status(end.world, desired).state is ServiceState.RUNNING
        if desired.host is not None:
            assert end.on(desired.service_id) == ready_of(end, desired.host) != set()


@some_worlds
@given(hosted_worlds(), fates)
def test_every_world_with_hosted_services_comes_to_rest(start: World, how: list[str]) -> None:
    end = Simulation(start, how).run()
    assert plan(end.world) == []
    assert next_look(end.world) is None
    left = {each.service_id: each for each in end.services}
    for desired in start.services:
        id_ = desired.service_id
        assert (id_ in left) == (desired.want is not Want.DELETE)
        if desired.host is None:
            continue
        assert end.live(id_) == []
        if desired.want is not Want.RUN:
            assert end.on(id_) == set()
        elif end.weights[id_] == WeightsReady() and id_ not in end.refusals:
            assert end.on(id_) == ready_of(end, desired.host)


@some_worlds
@given(hosted_worlds(), fates)
def test_an_adapter_goes_only_where_it_is_wanted_and_not_yet(start: World, how: list[str]) -> None:
    for before, actions in Simulation(start, how).run().planned:
        services = {each.service_id: each for each in before.services}
        replicas = {each.id: each for each in before.replicas}
        loads = [each for each in actions if isinstance(each, LoadAdapter)]
        assert len(set(loads)) == len(loads)
        for load in loads:
            desired, replica = services[load.service_id], replicas[load.replica_id]
            assert desired.want is Want.RUN
            assert replica.service_id == desired.host
            assert replica.state is READY
            assert load.replica_id not in before.adapters[load.service_id].on
            assert before.weights[load.service_id] == WeightsReady()
        for action in actions:
            if isinstance(action, UnloadAdapter):
                assert services[action.service_id].want is not Want.RUN
                assert action.replica_id in before.adapters[action.service_id].on
            if isinstance(action, RemoveService) and services[action.service_id].host is not None:
                assert before.adapters[action.service_id].on == frozenset()


@some_worlds
@given(hosted_worlds())
def test_a_plan_with_adapters_depends_on_the_world_alone(start: World) -> None:
    before = copy.deepcopy(start)
    first = plan(start)
    for desired in start.services:
        status(start, desired)
    assert start == before
    assert plan(start) == first


@some_worlds
@given(hosted_worlds())
def test_hosted_services_change_nothing_for_their_bases(start: World) -> None:
    alone = replace(
        start, services=[each for each in start.services if each.host is None], adapters={}
    )
    hosted = {each.service_id for each in start.services if each.host is not None}
    rest = [each for each in plan(start) if getattr(each, "service_id", None) not in hosted]
    assert rest == plan(alone)
