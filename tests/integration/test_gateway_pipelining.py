"""Callers who send ahead, and who do not read what they are answered."""

import socket

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Broken, get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000


def sent_until_stuck(caller: socket.socket, data: bytes) -> int:
    """How much of it the other side and the network take in."""
    caller.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += caller.send(data[sent : sent + 65536])
    except BlockingIOError:
        pass
    finally:
        caller.settimeout(15)
    return sent


def test_what_follows_what_was_dropped_is_never_taken_for_a_request(plane: Plane) -> None:
    """The body of a request that came too early is no place for another request."""
    replica = plane.replica()
    path = plane.service(replica)
    hidden = post(CHAT, plane.owner_key, {**chat(path), "hidden": True})
    with plane.wire(receive_buffer=8192) as wire:
        flood = chat(path, do="flood", bytes=30 * MB)
        wire.send(post(CHAT, plane.owner_key, flood))
        wait_for(lambda: replica.requests, "the request to arrive")
        head = post(CHAT, plane.owner_key, b"").replace(b"length: 0", b"length: 1400000")
        wire.send(head + b"x" * 1_200_000)
        wire.send(hidden * 20)
        # The first is answered whole, or the connection is broken: nothing else is read.
        try:
            wire.answer()
            assert wire.rest() == b""
        except (Broken, OSError):
            pass
    with plane.wire() as other:
        assert other.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
    assert not any('"hidden"' in str(request["body"]) for request in replica.requests)


def test_a_few_requests_sent_ahead_are_answered_in_order(plane: Plane) -> None:
    with plane.wire() as wire:
        wire.send(get("/healthz") * 1000)
        for _ in range(1000):
            assert wire.answer().status == 200


def test_more_requests_than_anybody_sends_ahead_are_refused(plane: Plane) -> None:
    before = plane.gateway.memory_bytes
    short = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    with plane.wire() as wire:
        wire.socket.settimeout(15)
        sent_until_stuck(wire.socket, short * 30_000)
        wire.socket.settimeout(2)
        statuses = set()
        try:
            while True:
                statuses.add(wire.answer().status)
        except (Broken, OSError):
            pass
    assert statuses <= {200, 400}
    assert plane.gateway.memory_bytes < before + 40 * MB


@pytest.mark.parametrize("preflight", [True, False], ids=["with-cors", "without"])
def test_a_strangers_options_has_no_large_body(
    plane: Plane, make_plane: object, preflight: bool
) -> None:
    """It needs no key where pages of other origins may call."""
    settings = {"cors_origins": "https://app.example"} if preflight else {}
    own = make_plane(**settings)  # type: ignore[operator]
    lines = "access-control-request-method: POST\r\norigin: https://app.example\r\n"
    request = (
        f"OPTIONS {CHAT} HTTP/1.1\r\nhost: x\r\n{lines}content-length: 20000000\r\n\r\n"
    ).encode()
    with own.wire() as wire:
        assert wire.ask(request).status in ({413} if preflight else {401, 413})
