"""Calls of a probe's key: they work as any caller's, and count as nobody's."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, get, post

CHAT = "/v1/chat/completions"
WHOLE = json.dumps({"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 3}})


def ask(plane: Plane, key: str, body: dict[str, Any], path: str = CHAT) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, key, body))


def test_a_probes_calls_stand_in_no_account_and_no_log(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    replica = plane.replica(text=WHOLE)
    path = plane.service(replica, name="probed")
    probe = plane.key(probe=True, services=(path,))
    stream = chat(path, do="stream", chunks=3) | {"stream": True}
    answers = [
        ask(plane, probe, chat(path)),
        ask(plane, probe, stream),
        ask(plane, probe, {"model": path}, "/v1/nothing"),
        ask(plane, probe, {"model": path}, "/v1/embeddings"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 400]
    mine = ask(plane, plane.owner_key, chat(path))
    plane.event(mine)
    wait_for(lambda: plane.control.events, "the usage to be told", 10)
    logged = {line["request_id"] for line in plane.logged()}
    assert not logged & {answer.headers["x-request-id"] for answer in answers}
    assert [event.request_id for event in plane.control.events] == [mine.headers["x-request-id"]]
    told = wait_for(lambda: plane.control.reported.get("svc_probed"), "metrics", 15)
    assert told.requests == {200: 1}
    assert told.between_tokens.total_s == 0
    wait_for(lambda: plane.control.used, "the use of the key to be told", 10)
    assert list(plane.control.used) == [plane.owner_key.removeprefix("sk-secret-of-")]


def test_a_probe_is_no_load_while_it_is_under_way(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    probed = plane.service(plane.replica(), name="probed")
    called = plane.service(plane.replica(), name="called")
    probe = plane.key(probe=True)
    gated = {"do": "stream", "chunks": 2, "gated": True}
    with plane.wire() as of_probe, plane.wire() as of_caller:
        of_probe.send(post(CHAT, probe, chat(probed, **gated) | {"stream": True}))
        of_caller.send(post(CHAT, plane.owner_key, chat(called, **gated) | {"stream": True}))

        def told() -> bool:
            loads = {id_: load for (_, id_), load in plane.control.loads.items()}
            return "svc_called" in loads and loads["svc_called"].inflight == 1

        wait_for(told, "the caller's load to be told", 10)
        assert not [id_ for _, id_ in plane.control.loads if id_ == "svc_probed"]


def test_a_probe_wakes_no_idle_service_and_waits_for_none(plane: Plane) -> None:
    probe = plane.key(probe=True)
    for state in ("idle", "starting"):
        path = plane.service(name=f"is-{state}", state=state)
        refused = ask(plane, probe, chat(path))
        assert (refused.status, refused.code) == (503, "overloaded")
    assert plane.control.woken == []


def test_a_probe_takes_only_a_slot_that_is_free_now(plane: Plane) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    probe = plane.key(probe=True)
    gated = chat(path, do="stream", chunks=1, gated=True) | {"stream": True}
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, gated))
        wait_for(lambda: replica.counts["busy"] == 1, "the caller to have the slot")
        refused = ask(plane, probe, chat(path))
        assert (refused.status, refused.code) == (503, "overloaded")
        replica.go()
        wire.until(b"[DONE]")
    wait_for(lambda: replica.counts["busy"] == 0, "the slot to be free")
    assert ask(plane, probe, chat(path)).status == 200


def test_no_slot_is_kept_for_a_probe_to_come_again(plane: Plane) -> None:
    """The last free slot is kept for a key that was here lately, unless that is a probe's."""
    replica = plane.replica(slots=2)
    path = plane.service(replica)
    assert ask(plane, plane.key(probe=True), chat(path)).status == 200
    gated = chat(path, do="stream", chunks=1, gated=True) | {"stream": True}
    with plane.wire() as one, plane.wire() as other:
        for wire in (one, other):
            wire.send(post(CHAT, plane.owner_key, gated))
        wait_for(lambda: replica.counts["busy"] == 2, "both slots to be the caller's", 5)


def test_a_probes_slot_is_free_again_once_it_hangs_up(plane: Plane) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    gated = chat(path, do="stream", chunks=2, gated=True) | {"stream": True}
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.key(probe=True), gated))
        wait_for(lambda: replica.counts["busy"] == 1, "the probe to have the slot")
    assert ask(plane, plane.owner_key, chat(path)).status == 200


def test_a_probe_calls_its_one_service_alone(plane: Plane) -> None:
    path, other = plane.service(plane.replica()), plane.service(plane.replica())
    probe = plane.key(probe=True, services=(path,))
    assert ask(plane, probe, chat(other)).code == "model_access_denied"
    with plane.wire() as wire:
        listed = wire.ask(get("/v1/models", probe)).json()["data"]
    assert [each["id"] for each in listed] == [path]


def test_a_gateway_that_ends_waits_for_no_probe(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    replica = plane.replica()
    path = plane.service(replica)
    gated = chat(path, do="stream", chunks=2, gated=True) | {"stream": True}
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.key(probe=True), gated))
        wait_for(lambda: replica.counts["busy"] == 1, "the probe to have a slot")
        plane.gateway.terminate()
        assert plane.gateway.wait(15) == 0
    wait_for(lambda: replica.counts["abandoned"] == 1, "the engine to be hung up on")
