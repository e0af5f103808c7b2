"""The feed: what really changed, in order; and that a gateway's table can rely on it."""

from collections.abc import Callable
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.table import Table
from modelry.routing.feed import Feed
from modelry.routing.messages import (
    Change,
    KeyDrop,
    KeyGrant,
    KeyPut,
    Route,
    RouteDrop,
    RoutePut,
    Snapshot,
)
from tests.unit.messages import OWNER, grant, route


def heard(feed: Feed) -> list[Change]:
    changes: list[Change] = []
    feed.subscribe(changes.append)
    return changes


def test_every_change_is_told_in_order_with_its_number() -> None:
    feed = Feed()
    changes = heard(feed)
    feed.put_route(route())
    feed.put_key(grant())
    feed.drop_key("key")
    feed.drop_route("svc")
    assert changes == [
        RoutePut(1, route()),
        KeyPut(2, grant()),
        KeyDrop(3, "key"),
        RouteDrop(4, "svc"),
    ]


def test_putting_what_is_there_already_changes_nothing() -> None:
    feed = Feed()
    feed.put_route(route())
    feed.put_key(grant())
    changes, before = heard(feed), feed.snapshot()
    feed.put_route(route())
    feed.put_key(grant())
    assert changes == []
    assert feed.snapshot() == before


def test_dropping_what_is_not_there_changes_nothing() -> None:
    feed = Feed()
    changes = heard(feed)
    feed.drop_route("svc")
    feed.drop_key("key")
    assert changes == []
    assert feed.snapshot() == Snapshot(0, (), ())


def test_a_route_that_changed_is_told_again() -> None:
    feed = Feed()
    feed.put_route(route())
    changes = heard(feed)
    feed.put_route(route(replicas=("a",)))
    assert changes == [RoutePut(2, route(replicas=("a",)))]


def test_the_snapshot_already_holds_a_change_when_it_is_told() -> None:
    feed = Feed()
    seen: list[tuple[Change, Snapshot]] = []
    feed.subscribe(lambda change: seen.append((change, feed.snapshot())))
    feed.put_route(route())
    assert seen == [(RoutePut(1, route()), Snapshot(1, (route(),), ()))]


def test_a_subscriber_that_left_hears_no_more() -> None:
    feed = Feed()
    changes: list[Change] = []
    leave = feed.subscribe(changes.append)
    others = heard(feed)
    feed.put_route(route())
    leave()
    leave()
    feed.drop_route("svc")
    assert len(changes) == 1
    assert len(others) == 2


def test_a_subscriber_may_leave_while_it_is_told() -> None:
    feed = Feed()
    others = heard(feed)
    leave: Callable[[], None] = feed.subscribe(lambda _: leave())
    feed.put_route(route())
    feed.drop_route("svc")
    assert len(others) == 2


# -- a table fed by it -------------------------------------------------------

# What the control plane did: a route or key it put, or the id of one it dropped.
Step: TypeAlias = Route | KeyGrant | tuple[str, str]

replica_sets = st.lists(st.sampled_from(["r1", "r2", "r3"]), unique=True).map(tuple)


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """A service keeps its path for life; one of the same name made later is another."""
    lives = {"a": 0, "b": 0, "c": 0}
    made: list[Step] = []
    for kind in draw(st.lists(st.sampled_from(["put", "put", "drop", "key", "unkey"]))):
        name = draw(st.sampled_from(["a", "b", "c"]))
        service_id = f"{name}{lives[name]}"
        if kind == "put":
            state = draw(st.sampled_from(["running", "stopped"]))
            made.append(route(service_id, f"{OWNER}/{name}", draw(replica_sets), state=state))
        elif kind == "drop":
            lives[name] += 1
            made.append(("route", service_id))
        elif kind == "key":
            scope = draw(st.none() | st.just(("public/*",)))
            made.append(grant(f"sk-{name}", id_=name, services=scope))
        else:
            made.append(("key", name))
    return made


def play(feed: Feed, history: list[Step]) -> None:
    for step in history:
        match step:
            case Route():
                feed.put_route(step)
            case KeyGrant():
                feed.put_key(step)
            case ("route", service_id):
                feed.drop_route(service_id)
            case (_, key_id):
                feed.drop_key(key_id)


Contents: TypeAlias = tuple[
    int,
    set[Route],
    set[KeyGrant],
    dict[str, Route | None],
    dict[str, KeyGrant | None],
    set[str],
]


def contents(table: Table) -> Contents:
    """All that a request can find in a table."""
    snapshot = table.snapshot()
    found = {name: table.service(name, grant()) for name in ("a", "b", "c")}
    return (
        snapshot.seq,
        set(snapshot.routes),
        set(snapshot.keys),
        {name: service.route if service else None for name, service in found.items()},
        {name: table.key(f"sk-{name}".encode()) for name in ("a", "b", "c")},
        {id_ for service in table.services for id_ in service.replicas},
    )


@given(histories(), st.integers(0, 20))
def test_changes_lead_to_the_same_table_as_a_later_snapshot(
    history: list[Step], joined: int
) -> None:
    feed = Feed()
    play(feed, history[:joined])
    follower, latecomer, returner = Table(), Table(), Table()
    follower.apply(feed.snapshot())
    # This one hears nothing of what comes and is back when it is over.
    returner.apply(feed.snapshot())
    feed.subscribe(follower.apply)
    play(feed, history[joined:])
    latecomer.apply(feed.snapshot())
    returner.apply(feed.snapshot())
    assert contents(follower) == contents(latecomer)
    assert contents(returner) == contents(latecomer)
    assert contents(latecomer)[1] == set(feed.snapshot().routes)
    assert contents(latecomer)[2] == set(feed.snapshot().keys)


@given(histories())
def test_what_a_table_writes_down_brings_another_to_the_same_state(history: list[Step]) -> None:
    feed, first, second = Feed(), Table(), Table()
    first.apply(feed.snapshot())
    feed.subscribe(first.apply)
    play(feed, history)
    second.apply(first.snapshot())
    assert contents(second) == contents(first)
