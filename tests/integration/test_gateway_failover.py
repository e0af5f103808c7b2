"""Replicas that refuse, die and disappear, and what their callers notice of it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Broken, get, post

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def test_the_next_replica_answers_where_one_refuses_connections(plane: Plane) -> None:
    gone, well = plane.replica(), plane.replica(text='"well"')
    path = plane.service(gone, well)
    gone.kill()
    with plane.wire() as wire:
        for _ in range(4):
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == b'"well"'
    assert len(well.requests) == 4


@pytest.mark.parametrize("die", ["exit", "close"])
def test_the_next_replica_answers_where_one_dies_before_the_first_byte(
    plane: Plane, die: str
) -> None:
    dying, well = plane.replica(die_after=0, die=die), plane.replica(text='"well"')
    path = plane.service(dying, well)
    body = chat(path) | {"note": "as it was"}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    assert (answer.status, answer.body) == (200, b'"well"')
    assert json.loads(well.requests[0]["body"]) == body
    assert f"Bearer {well.secret}" in well.requests[0]["head"]


def test_no_replica_is_asked_twice(plane: Plane) -> None:
    dying = [plane.replica(die_after=0) for _ in range(3)]
    path = plane.service(*dying)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
        assert (answer.status, answer.code) == (502, "bad_gateway")
        assert answer.json()["error"]["type"] == "server_error"
        assert wire.ask(get("/healthz")).status == 200
    assert [len(replica.requests) for replica in dying] == [1, 1, 1]


def test_an_answer_that_is_no_http_is_a_502(plane: Plane) -> None:
    # A replica whose socket is something else's by now.
    replica = plane.replica()
    other = replica.address.__class__(
        replica.id, f"unix:{replica.control_socket}", replica.secret, 4
    )
    replica.address = other
    path = plane.service(replica)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert (answer.status, answer.code) == (502, "bad_gateway")


@pytest.mark.parametrize("die", ["exit", "close"])
def test_a_stream_that_dies_ends_with_an_error_event(plane: Plane, die: str) -> None:
    replica = plane.replica(do="stream", chunks=9, die_after=42, die=die)
    well = plane.replica()
    path = plane.service(replica)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        answer = wire.answer()
        plane.service(well, name=path.partition("/")[2])
        assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
    events = answer.body.decode().split("\n\n")
    assert events[:2] == ['data: {"number": 0}', 'data: {"number": 1}']
    error = json.loads(events[2].removeprefix("data: "))["error"]
    assert error["code"] == "bad_gateway"
    assert set(error) == {"message", "type", "param", "code"}
    assert events[3:] == [""]
    assert "[DONE]" not in answer.body.decode()


def test_the_error_event_stands_alone_where_a_stream_dies_within_an_event(plane: Plane) -> None:
    path = plane.service(plane.replica(do="stream", chunks=9, die_after=30))
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    lines = [line for line in answer.body.decode().split("\n") if line]
    whole, error = lines
    assert whole == 'data: {"number": 0}'
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "bad_gateway"
    assert answer.body.endswith(b"\n\n")


@pytest.mark.parametrize("die", ["exit", "close"])
def test_an_answer_that_dies_half_way_comes_from_another(plane: Plane, die: str) -> None:
    """Nothing of it has been said yet: it goes out at its end."""
    text = json.dumps({"content": "x" * 1000})
    dying, well = plane.replica(text=text, die_after=500, die=die), plane.replica(text="{}")
    path = plane.service(dying, well)
    with plane.wire() as wire:
        for _ in range(4):
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == b"{}"


@pytest.mark.parametrize("die", ["exit", "close"])
def test_a_long_answer_that_dies_half_way_breaks_the_connection(plane: Plane, die: str) -> None:
    """Never a 200 that looks whole."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n"
    path = plane.service(plane.replica())
    body = chat(path, do="raw", pieces=[head, {"text": "x" * 1000, "times": 8000}], end=die)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, body))
        with pytest.raises(Broken) as broken:
            wire.answer()
    assert set(broken.value.data) == set(b"x")


def test_a_kept_connection_that_went_stale_is_not_the_callers_trouble(plane: Plane) -> None:
    """The replica closes at the second request of each connection, without an answer."""
    replica = plane.replica(requests_per_connection=1)
    path = plane.service(replica)
    with plane.wire() as wire:
        for _ in range(10):
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
    seen = replica.seen()
    assert len(seen["requests"]) == 10
    assert seen["connections"] == 10


def test_replicas_that_close_after_each_answer_lose_no_request(plane: Plane) -> None:
    replica = plane.replica(leave=True)
    path = plane.service(replica)
    request = post(CHAT, plane.owner_key, chat(path))

    def call(_: int) -> list[int]:
        with plane.wire() as wire:
            return [wire.ask(request).status for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for found in pool.map(call, range(8)) for status in found]
    assert statuses == [200] * 200
    assert len(replica.requests) == 200


def test_connections_to_a_replica_are_kept(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    for _ in range(10):
        with plane.wire() as wire:
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
    assert replica.seen()["connections"] == 1


def test_requests_of_one_conversation_overflow_to_other_replicas(plane: Plane) -> None:
    replicas = [plane.replica() for _ in range(3)]
    path = plane.service(*replicas)
    request = post(CHAT, plane.owner_key, chat(path, do="stream", chunks=1, gated=True))
    wires = [plane.wire() for _ in range(9)]
    for wire in wires:
        wire.send(request)
    wait_for(
        lambda: sum(len(replica.requests) for replica in replicas) == 9, "every request to arrive"
    )
    counts = [len(replica.requests) for replica in replicas]
    # None is more than a quarter over the mean, rounded up.
    assert max(counts) <= 4
    for replica, count in zip(replicas, counts, strict=True):
        for _ in range(count):
            replica.go()
    for wire in wires:
        assert wire.answer().status == 200
        wire.close()


def in_order_of_requests(one: Replica, other: Replica) -> tuple[Replica, Replica] | None:
    """The replica that has the only request first; None where there is none."""
    if one.requests:
        return one, other
    return (other, one) if other.requests else None


def test_the_least_loaded_replica_comes_next(plane: Plane) -> None:
    busy, calm = plane.replica(), plane.replica()
    path = plane.service(busy, calm)
    body = {"model": path, "prompt": "x", "fake": {"do": "stream", "chunks": 1, "gated": True}}
    held = post(COMPLETIONS, plane.owner_key, body)
    with plane.wire() as first, plane.wire() as second, plane.wire() as wire:
        first.send(held)
        busy, calm = wait_for(lambda: in_order_of_requests(busy, calm), "the first stream")
        second.send(held)
        wait_for(lambda: calm.requests, "the second stream")
        calm.go()
        assert second.answer().status == 200
        plain = post(COMPLETIONS, plane.owner_key, {"model": path, "prompt": "x"})
        for _ in range(5):
            assert wire.ask(plain).status == 200
        busy.go()
        assert first.answer().status == 200
    assert (len(busy.requests), len(calm.requests)) == (1, 6)


def test_a_replica_taken_off_the_route_gets_no_new_request_and_ends_its_stream(
    plane: Plane,
) -> None:
    old, new = plane.replica(), plane.replica(text='"new"')
    path = plane.service(old)
    body = chat(path, do="stream", chunks=2, gated=True)
    with plane.wire() as stream, plane.wire() as wire:
        stream.send(post(CHAT, plane.owner_key, body))
        old.go()
        stream.head()
        assert stream.chunk() == b'data: {"number": 0}\n\n'
        plane.service(new, name=path.partition("/")[2])
        for _ in range(3):
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == b'"new"'
        old.go()
        rest = b"".join(iter(stream.chunk, b""))
        assert rest == b'data: {"number": 1}\n\ndata: [DONE]\n\n'
    assert len(old.requests) == 1


def test_replicas_that_come_and_go_under_load_cost_no_call(plane: Plane) -> None:
    """A rollout: the route changes under a stream of calls."""
    replicas = [plane.replica() for _ in range(3)]
    path = plane.service(replicas[0])
    name = path.partition("/")[2]
    over = threading.Event()

    def call(_: int) -> list[int]:
        statuses = []
        with plane.wire() as wire:
            while not over.is_set():
                statuses.append(wire.ask(post(CHAT, plane.owner_key, chat(path))).status)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call, number) for number in range(4)]
        for turn in range(30):
            plane.service(replicas[turn % 3], replicas[(turn + 1) % 3], name=name)
        over.set()
        statuses = [status for found in calls for status in found.result()]
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_replica_that_refuses_the_gateway_s_secret_is_no_answer_for_the_caller(
    plane: Plane,
) -> None:
    stranger = plane.replica(status=401, text='{"error": "wrong secret"}')
    path = plane.service(stranger)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
        assert (answer.status, answer.code) == (502, "bad_gateway")
        plane.service(stranger, plane.replica(text='"well"'), name=path.partition("/")[2])
        assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == b'"well"'
