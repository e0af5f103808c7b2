"""What a request finds in the gateway's table."""

import time

import msgspec
import pytest

from modelry.gateway.table import Table, allows
from modelry.routing.messages import (
    Change,
    KeyDrop,
    KeyPut,
    Route,
    RouteDrop,
    RoutePut,
    Snapshot,
)
from tests.unit.messages import OWNER, STRANGER, address, grant, route


def table(*messages: Change | Snapshot) -> Table:
    made = Table()
    for message in messages:
        made.apply(message)
    return made


def with_routes(*routes: Route) -> Table:
    return table(Snapshot(1, routes, ()))


# -- keys --------------------------------------------------------------------


def test_a_key_is_found_by_what_its_caller_sends() -> None:
    assert table(KeyPut(1, grant("sk-key"))).key(b"sk-key") == grant("sk-key")


@pytest.mark.parametrize("sent", [b"", b"sk-", b"sk-kez", b"sk-key ", b"SK-KEY", b"\xff\x00"])
def test_any_other_key_is_not_found(sent: bytes) -> None:
    assert table(KeyPut(1, grant("sk-key"))).key(sent) is None


def test_the_stored_hash_is_no_key() -> None:
    held = grant("sk-key")
    assert table(KeyPut(1, held)).key(held.hash.encode()) is None


def test_a_revoked_key_is_not_found() -> None:
    assert table(KeyPut(1, grant()), KeyDrop(2, "key")).key(b"sk-key") is None


def test_a_key_that_a_snapshot_lacks_is_revoked() -> None:
    assert table(KeyPut(1, grant()), Snapshot(2, (), ())).key(b"sk-key") is None


def test_a_key_whose_secret_changed_answers_to_the_new_one_alone() -> None:
    changed = table(KeyPut(1, grant("sk-old")), KeyPut(2, grant("sk-new")))
    assert changed.key(b"sk-old") is None
    assert changed.key(b"sk-new") == grant("sk-new")


def test_a_key_holds_until_it_expires() -> None:
    now = time.time()
    found = table(
        KeyPut(1, grant("sk-past", id_="past", expires_at=now - 0.001)),
        KeyPut(2, grant("sk-future", id_="future", expires_at=now + 3600)),
    )
    assert found.key(b"sk-past") is None
    assert found.key(b"sk-future") is not None


def test_the_use_of_a_key_is_noted_and_a_vain_try_is_not() -> None:
    used = table(
        KeyPut(1, grant("sk-key")),
        KeyPut(2, grant("sk-over", id_="over", expires_at=1.0)),
    )
    before = time.time()
    for sent in (b"sk-key", b"sk-over", b"sk-none"):
        used.key(sent)
    assert list(used.last_used_at) == ["key"]
    assert before <= used.last_used_at["key"] <= time.time()


def test_a_probes_key_is_valid_leaves_no_trace_and_is_not_written_to_disk() -> None:
    found = table(KeyPut(1, grant("sk-key")), KeyPut(2, grant("sk-probe", id_="p", probe=True)))
    assert found.key(b"sk-probe") is not None
    assert found.last_used_at == {}
    assert [key.id for key in found.snapshot().keys] == ["key"]


# -- what a key may see and call ---------------------------------------------


def test_a_bare_name_means_the_owners_own_service() -> None:
    mine, theirs = route("mine", f"{OWNER}/test"), route("theirs", f"{STRANGER}/test")
    found = with_routes(theirs, mine).service("test", grant())
    assert found is not None
    assert found.route == mine


def test_a_bare_name_does_not_mean_a_public_service() -> None:
    assert with_routes(route(path="public/test")).service("test", grant()) is None


def test_a_public_service_is_everybodys() -> None:
    assert with_routes(route(path="public/test")).service("public/test", grant()) is not None


def test_a_strangers_service_is_as_if_it_were_not_there() -> None:
    found = with_routes(route(path=f"{STRANGER}/test"))
    assert found.service(f"{STRANGER}/test", grant()) is None
    assert found.service(f"{STRANGER}/test", grant(services=("*",))) is None
    assert found.visible_to(grant(services=("*",))) == []


def test_an_owner_whose_name_begins_like_public_is_not_public() -> None:
    found = with_routes(route(path="publicity/test"))
    assert found.service("publicity/test", grant()) is None


@pytest.mark.parametrize("model", ["", "/", "test/", "/test", "TEST", f"{OWNER}/", f"{OWNER}/*"])
def test_a_name_that_is_no_path_is_not_found(model: str) -> None:
    assert with_routes(route()).service(model, grant()) is None


@pytest.mark.parametrize(
    ("scope", "path", "covered"),
    [
        (None, f"{OWNER}/test", True),
        ((), f"{OWNER}/test", False),
        ((f"{OWNER}/test",), f"{OWNER}/test", True),
        ((f"{OWNER}/test",), f"{OWNER}/test2", False),
        ((f"{OWNER}/test",), f"{OWNER}/tes", False),
        ((f"{OWNER}/te*",), f"{OWNER}/test", True),
        ((f"{OWNER}/te?",), f"{OWNER}/test", False),
        (("public/*",), "public/test", True),
        (("public/*",), f"{OWNER}/public", False),
        (("*/test",), "public/test", True),
        (("*",), f"{OWNER}/test", True),
        (("PUBLIC/*",), "public/test", False),
        (("public/a", f"{OWNER}/*"), f"{OWNER}/test", True),
    ],
)
def test_a_scope_covers_paths_and_globs(
    scope: tuple[str, ...] | None, path: str, covered: bool
) -> None:
    assert allows(grant(services=scope), route(path=path)) is covered


def test_the_list_shows_what_the_key_may_call_oldest_first() -> None:
    found = with_routes(
        route("1", f"{OWNER}/young", created_at=9),
        route("2", f"{OWNER}/old", created_at=1),
        route("3", f"{OWNER}/elder", created_at=1),
        route("4", "public/shared", created_at=5),
        route("5", f"{STRANGER}/theirs", created_at=0),
    )
    paths = [each.access_path for each in found.visible_to(grant())]
    assert paths == [f"{OWNER}/elder", f"{OWNER}/old", "public/shared", f"{OWNER}/young"]
    scoped = found.visible_to(grant(services=("public/*",)))
    assert [each.access_path for each in scoped] == ["public/shared"]


# -- routes that change ------------------------------------------------------


def test_a_dropped_route_is_not_found() -> None:
    assert table(RoutePut(1, route()), RouteDrop(2, "svc")).service("test", grant()) is None


def test_a_new_service_of_an_old_name_outlives_the_old_ones_drop() -> None:
    found = table(RoutePut(1, route("old")), RoutePut(2, route("new")), RouteDrop(3, "old"))
    service = found.service("test", grant())
    assert service is not None
    assert service.route.service_id == "new"


def test_services_that_swapped_their_paths_are_both_found() -> None:
    found = with_routes(route("1", f"{OWNER}/a"), route("2", f"{OWNER}/b"))
    found.apply(Snapshot(2, (route("2", f"{OWNER}/a"), route("1", f"{OWNER}/b")), ()))
    for name, id_ in (("a", "2"), ("b", "1")):
        service = found.service(name, grant())
        assert service is not None
        assert service.route.service_id == id_


def test_a_service_keeps_the_load_of_its_replicas_when_its_route_changes() -> None:
    found = with_routes(route(replicas=("a", "b")))
    service = found.service("test", grant())
    assert service is not None
    service.replicas["a"].inflight = 3
    found.apply(RoutePut(2, route(replicas=("a", "c"), state="updating")))
    assert found.service("test", grant()) is service
    assert {id_: each.inflight for id_, each in service.replicas.items()} == {"a": 3, "c": 0}


def test_a_replica_at_another_address_starts_without_load() -> None:
    found = with_routes(route(replicas=("a",)))
    service = found.service("test", grant())
    assert service is not None
    service.replicas["a"].inflight = 3
    moved = msgspec.structs.replace(route(), replicas=(address("a", slots=9),))
    found.apply(RoutePut(2, moved))
    assert service.replicas["a"].inflight == 0
    assert service.replicas["a"].address.slots == 9


def test_a_table_that_heard_nothing_says_so() -> None:
    assert Table().seq == -1
    assert table(Snapshot(0, (), ())).seq == 0
    assert table(Snapshot(0, (), ()), KeyDrop(7, "key")).seq == 7
