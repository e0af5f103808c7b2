"""Who may call what: missing, wrong, expired, revoked and scoped keys."""

import time

import pytest

from tests.support.data_plane import STRANGER, Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, get, post

CHAT = "/v1/chat/completions"


def refused(answer: Answer, code: str) -> None:
    assert (answer.status, answer.code) == (401, code)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    ["x-nothing: 1", "authorization: Bearer ", "authorization: Basic c2stYTpi", "x-api-key: "],
)
def test_no_key_is_a_401(plane: Plane, header: str) -> None:
    with plane.wire() as wire:
        refused(wire.ask(post(CHAT, None, chat("x"), (header,))), "missing_api_key")


@pytest.mark.parametrize("key", ["sk-wrong", "x", "sk-" + "a" * 5000, "sk-\xff\xfe", "pat-token"])
def test_a_wrong_key_is_a_401(plane: Plane, key: str) -> None:
    with plane.wire() as wire:
        refused(wire.ask(post(CHAT, key, chat("x"))), "invalid_api_key")


def test_a_strangers_body_is_not_waited_for(plane: Plane) -> None:
    head = post(CHAT, "sk-wrong", b"").replace(b"length: 0", b"length: 1000000")
    with plane.wire() as wire:
        refused(wire.ask(head), "invalid_api_key")
        assert wire.ended()


def test_a_stranger_is_not_told_to_go_on(plane: Plane) -> None:
    head = post(CHAT, "sk-wrong", b"", ("expect: 100-continue",))
    with plane.wire() as wire:
        refused(wire.ask(head.replace(b"length: 0", b"length: 1000")), "invalid_api_key")


def test_a_revoked_key_is_refused_within_a_second_on_a_connection_it_has(plane: Plane) -> None:
    path = plane.service(plane.replica())
    key = plane.key()
    with plane.wire() as kept, plane.wire() as idle:
        assert kept.ask(post(CHAT, key, chat(path))).status == 200
        assert idle.ask(get("/v1/models", key)).status == 200
        plane.revoke(key)
        revoked_at = time.monotonic()
        for wire in (kept, idle):
            refused(wire.ask(post(CHAT, key, chat(path))), "invalid_api_key")
        assert time.monotonic() - revoked_at < 1


def test_a_key_revoked_while_the_body_comes_in_is_refused(plane: Plane) -> None:
    replica = plane.replica()
    request = post(CHAT, key := plane.key(), chat(plane.service(replica)))
    with plane.wire() as wire:
        wire.send(request[:-5])
        # Answered on the other connection: the head before it has been read.
        with plane.wire() as other:
            assert other.ask(get("/v1/models", key)).status == 200
        plane.revoke(key)
        refused(wire.ask(request[-5:]), "invalid_api_key")
    assert replica.requests == []


def test_a_key_ends_when_it_expires(plane: Plane) -> None:
    expires_at = time.time() + 1.5
    key = plane.key(expires_at=expires_at)
    with plane.wire() as wire:

        def expired() -> Answer | None:
            answer = wire.ask(get("/v1/models", key)) if time.time() < expires_at else None
            if answer is not None:
                assert answer.status == 200
                return None
            return wire.ask(get("/v1/models", key))

        refused(wait_for(expired, "the key to expire"), "invalid_api_key")


def test_a_scoped_key_calls_what_it_names_and_nothing_else(plane: Plane) -> None:
    path, other = plane.service(plane.replica()), plane.service(plane.replica())
    team = plane.service(plane.replica(), name="team-a")
    exact = plane.key(services=(path,))
    glob = plane.key(services=("u-*/team-*",))
    with plane.wire() as wire:
        for key, model, status in (
            (exact, path, 200),
            (exact, path.partition("/")[2], 200),
            (exact, other, 403),
            (exact, team, 403),
            (glob, team, 200),
            (glob, path, 403),
        ):
            answer = wire.ask(post(CHAT, key, chat(model)))
            assert answer.status == status, (key, model)
            if status == 403:
                assert answer.code == "model_access_denied"
                assert answer.json()["error"]["param"] == "model"


def test_a_scope_is_no_way_to_anothers_service(plane: Plane) -> None:
    theirs = plane.service(plane.replica(), owner=STRANGER)
    key = plane.key(services=(theirs, "*"))
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, key, chat(theirs)))
    assert (answer.status, answer.code) == (404, "model_not_found")


def test_the_list_of_models_is_what_the_key_may_call(plane: Plane) -> None:
    path, other = plane.service(name="listed"), plane.service(name="unlisted")
    theirs = plane.service(name="listed-theirs", owner=STRANGER)
    scoped = plane.key(services=(path,))
    with plane.wire() as wire:
        everything = wire.ask(get("/v1/models", plane.owner_key)).json()
        some = wire.ask(get("/v1/models", scoped)).json()
        one = wire.ask(get(f"/v1/models/{path}", scoped)).json()
        quoted = wire.ask(get(f"/v1/models/{path.replace('/', '%2F')}", scoped)).json()
        denied = wire.ask(get(f"/v1/models/{other}", scoped))
    shown = [model["id"] for model in everything["data"]]
    assert everything["object"] == "list"
    assert {path, other} <= set(shown)
    assert theirs not in shown
    assert some["data"] == [one]
    assert one == quoted
    assert {
        "id": path,
        "object": "model",
        "owned_by": path.partition("/")[0],
    }.items() <= one.items()
    assert (denied.status, denied.code) == (403, "model_access_denied")


def test_the_control_plane_hears_of_a_keys_use(plane: Plane) -> None:
    key, before = plane.key(), time.time()
    with plane.wire() as wire:
        assert wire.ask(get("/v1/models", key)).status == 200
    name = key.removeprefix("sk-secret-of-")
    used = wait_for(lambda: plane.control.used.get(name), "the key's use to be reported", 10)
    assert used == pytest.approx(before, abs=10)
