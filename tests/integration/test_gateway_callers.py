"""Callers who hang up, and callers who do not read."""

import pytest

from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000


def abandoned(replica: Replica) -> None:
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the replica to be hung up on", 3)


def test_hanging_up_on_a_stream_ends_the_replicas_work(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="stream", chunks=9, gated=True)))
        replica.go()
        wire.head()
        wire.chunk()
        assert replica.seen()["abandoned"] == 0
    abandoned(replica)


@pytest.mark.parametrize("pipelined", [0, 3], ids=["alone", "with-more-to-come"])
def test_hanging_up_before_the_answer_ends_the_replicas_work(plane: Plane, pipelined: int) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.requests, "the request to arrive")
        wire.send(get("/healthz") * pipelined)
    abandoned(replica)
    assert len(replica.requests) == 1


def test_hanging_up_while_the_service_starts_asks_no_replica(plane: Plane) -> None:
    path = plane.service(state="starting")
    replica = plane.replica()
    with plane.wire() as wire, plane.wire() as other:
        wire.send(post(CHAT, plane.owner_key, chat(path, text='"first"')))
        # The other's answer shows that the gateway has read the first one's request.
        assert other.ask(get("/healthz")).status == 200
        wire.close()
        other.send(post(CHAT, plane.owner_key, chat(path, text='"second"')))
        plane.service(replica, name=path.partition("/")[2])
        assert other.answer().body == b'"second"'
    assert len(replica.requests) == 1


def test_a_caller_who_does_not_read_stops_the_replica(plane: Plane) -> None:
    """The gateway holds a bounded part of the answer, however much there is."""
    replica = plane.replica()
    path = plane.service(replica)
    body = chat(path, do="flood", bytes=400 * MB)
    with plane.wire(receive_buffer=65536) as wire:
        before = plane.gateway.memory_bytes
        wire.send(post(CHAT, plane.owner_key, body))
        settled(replica)
        assert replica.seen()["sent_bytes"] < 50 * MB
        assert plane.gateway.memory_bytes < before + 30 * MB
        # Others are served meanwhile, and the reader gets on from where it stopped.
        with plane.wire() as other:
            assert other.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
        stopped_at = replica.seen()["sent_bytes"]
        wire.head()
        for _ in range(2 * stopped_at // 65536):
            assert wire.chunk()
        assert replica.seen()["sent_bytes"] > stopped_at
        assert plane.gateway.memory_bytes < before + 30 * MB
    abandoned(replica)


def test_pipelining_is_no_way_around_back_pressure(plane: Plane) -> None:
    """Answers that fill the caller's connection hold up those after them as well."""
    replica = plane.replica(text="x" * 40_000)
    path = plane.service(replica)
    answers = post(CHAT, plane.owner_key, chat(path)) * 250
    flood = post(CHAT, plane.owner_key, chat(path, do="flood", bytes=200 * MB))
    with plane.wire(receive_buffer=65536) as wire:
        before = plane.gateway.memory_bytes
        wire.send(answers + flood)
        settled(replica)
        assert replica.seen()["sent_bytes"] < 50 * MB
        assert plane.gateway.memory_bytes < before + 30 * MB


def settled(replica: Replica) -> None:
    """Wait until the replica sends no more, which a slow look shows."""
    last = [-1]

    def same() -> bool:
        now = replica.seen()["sent_bytes"]
        last.append(now)
        return now > 0 and len(last) > 5 and len(set(last[-5:])) == 1

    wait_for(same, "the replica to be held up", 20, pause_s=0.1)


def test_a_caller_who_sends_on_while_its_answer_is_on_its_way_fills_nothing(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    with plane.wire(timeout_s=1) as wire:
        before = plane.gateway.memory_bytes
        wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.requests, "the request to arrive")
        # Read, so that a hang-up is noticed, and dropped.
        wire.send(b"x" * 100 * MB)
        assert plane.gateway.memory_bytes < before + 30 * MB
