"""Requests for a service that is not ready yet."""

from collections.abc import Callable

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.wire import get, post

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("state", ["pending", "fetching", "starting", "updating", "running"])
def test_a_request_is_held_until_its_service_is_ready(plane: Plane, state: str) -> None:
    path = plane.service(state=state)
    with plane.wire() as wire, plane.wire() as other:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        # Nothing but the held request waits.
        assert other.ask(get("/healthz")).status == 200
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(15)
        plane.service(state="starting", name=path.partition("/")[2], message="nearly there")
        replica = plane.replica(text='"ready"')
        plane.service(replica, name=path.partition("/")[2])
        assert wire.answer().body == b'"ready"'
    assert len(replica.requests) == 1


def test_a_held_request_learns_at_once_that_its_service_failed(plane: Plane) -> None:
    path = plane.service(state="starting")
    with plane.wire() as wire, plane.wire() as other:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        assert other.ask(get("/healthz")).status == 200
        plane.service(state="failed", message="no memory", name=path.partition("/")[2])
        answer = wire.answer()
    assert (answer.status, answer.code) == (503, "service_unavailable")
    assert "no memory" in answer.json()["error"]["message"]


def test_a_held_request_learns_at_once_that_its_service_is_gone(plane: Plane) -> None:
    path = plane.service(state="starting")
    with plane.wire(timeout_s=2) as wire, plane.wire() as other:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        assert other.ask(get("/healthz")).status == 200
        plane.control.drop_route("svc_" + path.partition("/")[2])
        answer = wire.answer()
    assert (answer.status, answer.code) == (404, "model_not_found")


def test_a_service_that_takes_too_long_is_a_503(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(start_wait_s="0.3")
    path = plane.service(state="fetching", message="42 of 100 MB")
    with plane.wire() as wire:
        for _ in range(2):
            answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
            assert (answer.status, answer.code) == (503, "service_starting")
            assert int(answer.headers["retry-after"]) > 0
            assert "42 of 100 MB" in answer.json()["error"]["message"]


def test_no_wait_at_all_where_none_is_wanted(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(start_wait_s="0")
    path = plane.service(state="starting")
    with plane.wire(timeout_s=3) as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert (answer.status, answer.code) == (503, "service_starting")
