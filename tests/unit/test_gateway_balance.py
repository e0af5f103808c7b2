"""Which replica gets a request: conversations stay, shares are kept, the rest is balanced."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.balance import BOUND, choose
from modelry.gateway.replica import Replica, replica_of
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route

ROUTE = Route("svc_1", "u-1/x", "u-1", ("chat",), "running", "", 0)


def replicas(count: int, slots: int = 8) -> list[Replica]:
    return [
        replica_of(ReplicaAddress(f"rep_{number}", f"unix:/{number}", "secret", slots), ROUTE)
        for number in range(count)
    ]


def endpoints(*weights: int, slots: int = 64) -> list[Replica]:
    return [
        replica_of(EndpointAddress(f"ep_{number}", f"http://h{number}/v1", slots, weight), ROUTE)
        for number, weight in enumerate(weights)
    ]


def chosen(among: list[Replica], prefix: bytes | None = None, without: tuple[str, ...] = ()) -> str:
    found = choose(among, prefix=prefix, without=without)
    assert found is not None
    return found.id


PREFIXES = [b"conversation %d" % number for number in range(400)]


def test_a_conversation_stays_where_it_was() -> None:
    among = replicas(5)
    for prefix in PREFIXES[:50]:
        assert len({chosen(among, prefix) for _ in range(5)}) == 1
        assert chosen(among, prefix) == chosen(among[::-1], prefix)


def test_conversations_are_spread() -> None:
    shares = Counter(chosen(replicas(4), prefix) for prefix in PREFIXES)
    assert set(shares) == {"rep_0", "rep_1", "rep_2", "rep_3"}
    assert all(60 <= share <= 140 for share in shares.values())


def test_when_a_replica_goes_only_its_own_conversations_move() -> None:
    among = replicas(5)
    before = {prefix: chosen(among, prefix) for prefix in PREFIXES}
    gone = among.pop(2)
    for prefix, home in before.items():
        assert (chosen(among, prefix) == home) == (home != gone.id)


def test_when_a_replica_comes_only_conversations_that_go_to_it_move() -> None:
    among = replicas(5)
    before = {prefix: chosen(among[:4], prefix) for prefix in PREFIXES}
    after = {prefix: chosen(among, prefix) for prefix in PREFIXES}
    moved = {prefix for prefix in PREFIXES if before[prefix] != after[prefix]}
    assert {after[prefix] for prefix in moved} == {"rep_4"}
    assert 40 <= len(moved) <= 130


def test_a_conversation_whose_replica_failed_moves_and_the_others_stay() -> None:
    among = replicas(4)
    before = {prefix: chosen(among, prefix) for prefix in PREFIXES}
    among[1].failed()
    for prefix, home in before.items():
        assert (chosen(among, prefix) == home) == (home != "rep_1")
    among[1].answered()
    assert {prefix: chosen(among, prefix) for prefix in PREFIXES} == before


def test_a_conversation_moves_on_where_its_replica_is_far_over_the_mean() -> None:
    among = replicas(4)
    prefix = PREFIXES[0]
    home = choose(among, prefix=prefix)
    assert home is not None
    for replica in among:
        replica.inflight = 2
    assert chosen(among, prefix) == home.id
    home.inflight = 4
    assert chosen(among, prefix) != home.id
    for replica in among:
        replica.inflight = 4
    assert chosen(among, prefix) == home.id


def test_a_conversation_moves_on_where_its_replica_is_full() -> None:
    among = replicas(3, slots=2)
    prefix = PREFIXES[0]
    home = choose(among, prefix=prefix)
    assert home is not None
    for replica in among:
        replica.inflight = 1
    home.inflight = 2
    assert chosen(among, prefix) != home.id


def test_what_is_no_conversation_goes_to_the_less_loaded_of_two() -> None:
    busy, calm = replicas(2)
    busy.inflight, calm.inflight = 3, 2
    assert {chosen([busy, calm]) for _ in range(50)} == {calm.id}


def test_the_most_loaded_of_several_is_never_chosen() -> None:
    among = replicas(4)
    among[2].inflight = 1
    shares = Counter(chosen(among) for _ in range(300))
    assert set(shares) == {"rep_0", "rep_1", "rep_3"}


def test_where_all_are_full_nobody_is_chosen() -> None:
    among = replicas(3, slots=2)
    for replica in among:
        replica.inflight = 2
    assert choose(among) is None
    assert choose(among, prefix=b"x") is None
    assert choose([]) is None


def test_a_replica_that_failed_is_the_last_to_be_tried() -> None:
    well, failed, tried = replicas(3)
    failed.failed()
    among = [failed, well, tried]
    assert {chosen(among, without=(tried.id,)) for _ in range(30)} == {well.id}
    assert chosen(among, without=(tried.id, well.id)) == failed.id
    assert choose(among, without=(tried.id, well.id, failed.id)) is None


def test_a_healthy_replica_that_is_full_is_waited_for_and_a_failed_one_is_not_asked() -> None:
    well, failed = replicas(2)
    failed.failed()
    well.inflight = well.slots
    assert choose([well, failed]) is None


def test_each_failure_in_a_row_leaves_a_replica_out_for_longer_up_to_a_bound() -> None:
    (replica,) = replicas(1)
    pauses = [replica.failed() for _ in range(12)]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[0] <= 2
    assert 10 <= pauses[-1] <= 60
    replica.answered()
    assert not replica.out
    assert replica.failed() == pauses[0]


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (5, 3, 2), (100, 1), (7,)])
def test_endpoints_share_exactly_by_weight(weights: tuple[int, ...]) -> None:
    among = endpoints(*weights)
    for _ in range(3):
        shares = Counter(chosen(among) for _ in range(sum(weights)))
        assert shares == {f"ep_{number}": weight for number, weight in enumerate(weights)}


@pytest.mark.parametrize("weights", [(3, 1), (7, 3), (100, 1), (1, 1)])
def test_shares_are_kept_at_every_moment_and_not_only_over_a_round(
    weights: tuple[int, int],
) -> None:
    among = endpoints(*weights)
    row = [chosen(among) for _ in range(2 * sum(weights))]
    for turns in range(1, len(row) + 1):
        due = turns * weights[0] / sum(weights)
        assert abs(row[:turns].count("ep_0") - due) <= 1


def test_a_conversation_does_not_change_the_shares_of_endpoints() -> None:
    among = endpoints(3, 1)
    shares = Counter(chosen(among, b"the same") for _ in range(40))
    assert shares == {"ep_0": 30, "ep_1": 10}


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6), st.booleans()), max_size=8),
    st.one_of(st.none(), st.binary(max_size=8)),
    st.sets(st.integers(0, 7)),
)
def test_the_choice_has_a_free_slot_and_was_not_tried(
    states: list[tuple[int, int, bool]], prefix: bytes | None, tried: set[int]
) -> None:
    among = replicas(len(states))
    for replica, (inflight, slots, out) in zip(among, states, strict=True):
        replica.inflight, replica.slots, replica.out = min(inflight, slots), slots, out
    without = {f"rep_{number}" for number in tried}
    untried = [replica for replica in among if replica.id not in without]
    healthy = [replica for replica in untried if not replica.out]
    found = choose(among, without=without, prefix=prefix)
    if found is None:
        assert not any(replica.free > 0 for replica in healthy or untried)
    else:
        assert found in (healthy or untried)
        assert found.free > 0


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.sampled_from(PREFIXES))
def test_a_replica_far_over_the_mean_is_chosen_only_over_one_that_is_as_busy(
    loads: list[int], prefix: bytes
) -> None:
    among = replicas(len(loads), slots=1000)
    for replica, load in zip(among, loads, strict=True):
        replica.inflight = load
    found = choose(among, prefix=prefix)
    assert found is not None
    bound = math.ceil(BOUND * (sum(loads) + 1) / len(loads))
    others = [replica.inflight for replica in among if replica is not found]
    assert found.inflight < bound or found.inflight <= max(others)
