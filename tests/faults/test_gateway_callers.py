"""Callers that hang up, dawdle, do not read, or are ten thousand: nothing of theirs is left."""

import random
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from modelry.routing.messages import UsageEvent
from tests.support.data_plane import Plane, Replica, chat
from tests.support.hurried_gateway import TELLS_OFTEN, hurried
from tests.support.leaks import accounted, at_rest, nothing_leaks, warm
from tests.support.waiting import wait_for
from tests.support.wire import Broken, Wire, get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000

JSON_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = "transfer-encoding: chunked\r\n\r\n"


def silent(*pieces: Any) -> dict[str, Any]:
    """Orders for a replica that says this and no more."""
    return {"do": "raw", "pieces": list(pieces)}


def answered(plane: Plane, path: str) -> None:
    with plane.wire() as wire:
        assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200


def abort(wire: Wire) -> None:
    """Hang up as a program does that is killed with data unread: with a reset."""
    linger = struct.pack("ii", 1, 0)
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wire.close()


def event_of(plane: Plane, request: dict[str, Any]) -> UsageEvent:
    """The usage event of a request that a replica has seen."""
    lines = request["head"].split("\r\n")
    (id_,) = [line.partition(": ")[2] for line in lines if line.startswith("x-request-id: ")]
    return plane.event(id_)


hang_ups = pytest.mark.parametrize("hang_up", [Wire.close, abort], ids=["closed", "reset"])

# -- hanging up, at each stage ---------------------------------------------------------

# What the replica has said when the caller hangs up.
STAGES = {
    "before-the-head": {"do": "hang"},
    "within-the-head": silent("HTTP/1.1 200 OK\r\n"),
    "after-the-head": silent(JSON_HEAD + "content-length: 9000\r\n\r\n"),
    "within-the-body": silent(JSON_HEAD + "content-length: 9000\r\n\r\n", "x" * 1000),
    "within-a-long-body": silent(JSON_HEAD + CHUNKED, f"{MB:x}\r\n" + "x" * MB + "\r\n"),
    "after-the-head-of-a-stream": silent(STREAM_HEAD + CHUNKED),
    "within-an-event": silent(STREAM_HEAD + CHUNKED, "7\r\ndata: {\r\n"),
    "after-an-event": silent(STREAM_HEAD + CHUNKED, "a\r\ndata: {}\n\n\r\n"),
    "after-the-last-event": silent(STREAM_HEAD + CHUNKED, "e\r\ndata: [DONE]\n\n\r\n"),
    "behind-a-full-connection": {"do": "flood", "bytes": 100 * MB},
}


@hang_ups
@pytest.mark.parametrize("orders", STAGES.values(), ids=STAGES)
def test_hanging_up_gives_the_slot_back_and_ends_the_replicas_work(
    plane: Plane, orders: dict[str, Any], hang_up: Callable[[Wire], None]
) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    wire = plane.wire()
    wire.send(post(CHAT, plane.owner_key, chat(path, **orders)))
    come_so_far(replica, orders)
    hang_up(wire)
    # Its one slot is free: this would wait otherwise.
    answered(plane, path)
    assert replica.seen()["abandoned"] == 1


def come_so_far(replica: Replica, orders: dict[str, Any]) -> None:
    """Wait until a replica has said all that its orders have it say, or that anybody takes."""
    size = min(sum(len(piece) for piece in orders.get("pieces", ())), MB)
    wait_for(
        lambda: (seen := replica.seen())["requests"] and seen["sent_bytes"] >= size,
        "the answer to have come so far",
        pause_s=0.01,
    )


def test_every_call_that_was_hung_up_on_is_accounted_for_once(plane: Plane) -> None:
    replicas = [plane.replica(slots=1) for _ in STAGES]
    for replica, orders in zip(replicas, STAGES.values(), strict=True):
        with plane.wire() as wire:
            path = plane.service(replica)
            wire.send(post(CHAT, plane.owner_key, chat(path, **orders)))
            come_so_far(replica, orders)
    events = [event_of(plane, replica.requests[0]) for replica in replicas]
    assert [(event.status, event.cancelled) for event in events] == [(499, True)] * len(STAGES)
    ids = {event.request_id for event in events}
    wait_for(lambda: ids <= set(accounted(plane)), "the control plane to hear of all")


@hang_ups
@pytest.mark.parametrize("part", [0, 1, 50, -400, -1], ids=lambda part: f"at-{part}")
def test_hanging_up_within_a_request_costs_nobody_anything(
    plane: Plane, part: int, hang_up: Callable[[Wire], None]
) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    request = post(CHAT, plane.owner_key, chat(path) | {"padding": "x" * 500})
    wires = [plane.wire() for _ in range(5)]
    for wire in wires:
        wire.send(request[:part])
    answered(plane, path)
    for wire in wires:
        hang_up(wire)
    answered(plane, path)
    assert len(replica.requests) == 2


def test_hanging_up_in_the_queue_makes_room_for_the_next(plane: Plane) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    held = post(CHAT, plane.owner_key, chat(path, do="stream", chunks=1, gated=True))
    waits = post(CHAT, plane.owner_key, chat(path))
    with plane.wire() as first, plane.wire() as last:
        first.send(held)
        wait_for(lambda: replica.requests, "the slot to be taken")
        wires = [plane.wire() for _ in range(20)]
        for wire in wires:
            wire.send(waits)
        last.send(waits)
        waiting(plane, path, 21)
        for number, wire in enumerate(wires):
            (abort if number % 2 else Wire.close)(wire)
        waiting(plane, path, 1)
        replica.go()
        assert first.answer().status == 200
        assert last.answer().status == 200
    assert len(replica.requests) == 2
    at_rest(plane, path)
    of_path = [event for event in plane.control.events if event.access_path == path]
    assert sorted(event.status for event in of_path) == [200] * 3 + [499] * 20


def waiting(plane: Plane, path: str, count: int) -> None:
    """Wait until the gateway tells that so many wait."""

    def told() -> bool:
        loads = [load for (_, id_), load in plane.control.loads.items() if id_.endswith(name)]
        return bool(loads) and loads[-1].waiting == count

    name = path.partition("/")[2]
    wait_for(told, f"{count} to wait", 5)


@pytest.mark.parametrize("more", [0, 1000, 500_000], ids=lambda size: f"{size}-bytes")
@hang_ups
def test_hanging_up_is_noticed_behind_requests_that_were_sent_ahead(
    plane: Plane, more: int, hang_up: Callable[[Wire], None]
) -> None:
    """Requests that wait their turn must not hide that nobody waits for them any more."""
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    next_ = get("/healthz", None, ("x-padding: " + "x" * 900,))
    wire = plane.wire()
    wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
    wait_for(lambda: replica.requests, "the request to arrive")
    wire.send(next_ * (more // len(next_)))
    hang_up(wire)
    with plane.wire(timeout_s=5) as other:
        assert other.ask(post(CHAT, plane.owner_key, chat(path))).status == 200


@pytest.mark.parametrize("begun", [False, True], ids=["hanging", "streaming"])
def test_hanging_up_while_the_replica_is_connected_to_asks_nothing_of_it(
    plane: Plane, begun: bool
) -> None:
    """A burst of calls that are given up at once, on connections that are yet to be made."""
    orders = {"do": "stream", "chunks": 50, "pace_s": 0.01} if begun else {"do": "hang"}
    replica = plane.replica(slots=64)
    path = plane.service(replica)
    request = post(CHAT, plane.owner_key, chat(path, **orders))
    for _ in range(10):
        wires = [plane.wire() for _ in range(20)]
        for wire in wires:
            wire.send(request)
        for wire in wires:
            wire.close()
    at_rest(plane, path)
    wait_for(lambda: replica.seen()["open"] <= 16, "connections that nobody needs to be closed", 5)


def test_a_storm_of_calls_that_hang_up_whenever_leaves_nothing_behind(plane: Plane) -> None:
    chance = random.Random(7)
    replicas = [plane.replica(slots=2) for _ in range(2)]
    path = plane.service(*replicas)
    kinds: list[dict[str, Any]] = [
        {},
        {"delay_s": 0.01},
        {"do": "stream", "chunks": 20, "pace_s": 0.001},
        {"text": "x" * 500_000},
        {"do": "flood", "bytes": 3 * MB},
        {"die_after": 0},
        {"do": "stream", "chunks": 5, "die_after": 30},
    ]
    requests = [post(CHAT, plane.owner_key, chat(path, **kind)) for kind in kinds]

    def storm(seed: int) -> int:
        chance, whole = random.Random(seed), 0
        for _ in range(40):
            with plane.wire() as wire:
                request = chance.choice(requests)
                wire.send(request[: chance.choice([len(request)] * 3 + [20, 400])])
                wire.socket.settimeout(chance.choice([0.001, 0.01, 0.05]))
                try:
                    whole += wire.answer().status == 200
                except (TimeoutError, Broken):
                    pass
        return whole

    with ThreadPoolExecutor(8) as pool:
        whole = sum(pool.map(storm, [chance.random() for _ in range(8)]))
    assert whole > 10
    at_rest(plane, path)
    for replica in replicas:
        assert replica.seen()["open"] <= 16


# -- not reading, and sending without end ----------------------------------------------


def held_up(replica: Replica) -> int:
    """Wait until the replica sends no more, which a slow look shows; returns what it sent."""
    last: list[int] = []

    def same() -> bool:
        last.append(replica.seen()["sent_bytes"])
        return last[-1] > 0 and len(last) > 3 and len(set(last[-3:])) == 1

    wait_for(same, "the replica to be held up", 15, pause_s=0.1)
    return last[-1]


def test_callers_who_do_not_read_cost_little_each_and_lose_nothing(plane: Plane) -> None:
    count, size = 40, 8 * MB
    replica = plane.replica(slots=count)
    other = plane.service(plane.replica())
    path = plane.service(replica)
    request = post(CHAT, plane.owner_key, chat(path, do="flood", bytes=size, block=50_000))
    before = plane.gateway.memory_bytes
    with ExitStack() as stack:
        wires = [stack.enter_context(plane.wire(receive_buffer=16384)) for _ in range(count)]
        for wire in wires:
            wire.send(request)
        wait_for(lambda: len(replica.requests) == count, "every call to begin")
        assert held_up(replica) < count * size
        assert plane.gateway.memory_bytes < before + 40 * MB
        answered(plane, other)
        for wire in wires:
            assert wire.head().status == 200
            assert sum(len(chunk) for chunk in iter(wire.chunk, b"")) == size
        assert plane.gateway.memory_bytes < before + 40 * MB


@pytest.fixture
def low_limit() -> Iterator[None]:
    """Processes that are started now may have 1024 files open, as is usual, and may ask for more.

    This one may have as many as it is allowed to, once they are started.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def one_patient(low_limit: None) -> Iterator[Plane]:
    """A gateway that waits for heads for longer than a test may take."""
    plane = Plane(hurried({**TELLS_OFTEN, "modelry.gateway.connection._HEAD_TIMEOUT_S": 600}))
    warm(plane)
    yield plane
    plane.close()


def test_ten_thousand_slow_connections_hold_nobody_up(one_patient: Plane) -> None:
    plane = one_patient
    path = plane.service(plane.replica(), plane.replica())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 500)
    request = post(CHAT, plane.owner_key, chat(path) | {"padding": "x" * 400})
    before = plane.gateway.memory_bytes
    with nothing_leaks(plane), ExitStack() as stack:
        wires = []
        for number in range(count):
            wire = stack.enter_context(plane.wire())
            wire.send(request[: number % len(request)])
            wires.append(wire)
        with ThreadPoolExecutor(4) as pool:
            calls = list(pool.map(lambda _: timed_call(plane, request), range(200)))
        assert {status for status, _ in calls} == {200}
        assert max(seconds for _, seconds in calls) < 2
        assert plane.gateway.memory_bytes < before + 200 * MB
        # None of them was turned away: who sends the rest now is served.
        for number in range(0, count, count // 50):
            wires[number].send(request[number % len(request) :])
            assert wires[number].answer().status == 200


def timed_call(plane: Plane, request: bytes) -> tuple[int, float]:
    since = time.monotonic()
    with plane.wire() as wire:
        status = wire.ask(request).status
    return status, time.monotonic() - since


# -- taking too long -------------------------------------------------------------------

PATIENCE_S = {
    "modelry.gateway.connection._HEAD_TIMEOUT_S": 0.6,
    "modelry.gateway.connection._BODY_STALL_S": 0.6,
    "modelry.gateway.connection._STRANGERS_BODY_S": 0.6,
    "modelry.gateway.connection._KEEP_ALIVE_S": 0.6,
    "modelry.gateway.connection._UNREAD_S": 0.6,
}


@pytest.fixture(scope="module")
def one_impatient() -> Iterator[Plane]:
    plane = Plane(hurried({**TELLS_OFTEN, **PATIENCE_S}))
    warm(plane)
    yield plane
    plane.close()


@pytest.fixture
def impatient(one_impatient: Plane) -> Iterator[Plane]:
    """A gateway that is patient for a tenth of a second or so, where others are for a minute."""
    with nothing_leaks(one_impatient):
        yield one_impatient


@contextmanager
def trickling(wire: Wire, data: bytes, pause_s: float = 0.05) -> Iterator[None]:
    """Sends a byte now and then, until the block or the data ends."""
    with ThreadPoolExecutor(1) as pool:
        over: list[None] = []

        def send() -> None:
            for byte in data:
                if over:
                    return
                try:
                    wire.send(bytes([byte]))
                except OSError:
                    return
                time.sleep(pause_s)

        sending = pool.submit(send)
        try:
            yield
        finally:
            over.append(None)
        sending.result()


@pytest.mark.parametrize("trickles", [True, False], ids=["trickling", "stalled"])
def test_a_head_that_does_not_end_is_given_up(impatient: Plane, trickles: bool) -> None:
    """However often another byte of it comes."""
    with impatient.wire(timeout_s=5) as wire:
        wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        with trickling(wire, b"x-slow: 1\r\n" * 100 if trickles else b""):
            answer = wire.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert wire.ended()


def test_a_body_that_stalls_is_given_up(impatient: Plane) -> None:
    path = impatient.service(impatient.replica())
    request = post(CHAT, impatient.owner_key, chat(path))
    with impatient.wire(timeout_s=5) as wire:
        wire.send(request[:-10])
        answer = wire.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert wire.ended()


def test_a_slow_body_of_a_stranger_is_given_up_however_it_goes_on(impatient: Plane) -> None:
    """Such as one for the console, whose callers this gateway does not know."""
    body = b"x" * 200
    with impatient.wire(timeout_s=5) as wire:
        wire.send(post("/login", None, body)[: -len(body)])
        with trickling(wire, body):
            answer = wire.answer()
        assert answer.status == 408
        assert wire.ended()


def test_a_slow_body_that_goes_on_is_waited_for(impatient: Plane) -> None:
    replica = impatient.replica()
    request = post(CHAT, impatient.owner_key, chat(impatient.service(replica)))
    with impatient.wire(timeout_s=5) as wire:
        wire.send(request[:-16])
        with trickling(wire, request[-16:], pause_s=0.06):
            assert wire.answer().status == 200


@pytest.mark.parametrize("used", [True, False], ids=["used", "never-used"])
def test_an_idle_connection_is_closed_without_a_word(impatient: Plane, used: bool) -> None:
    with impatient.wire(timeout_s=5) as wire:
        if used:
            assert wire.ask(get("/healthz")).status == 200
        assert wire.ended()


def test_a_caller_whose_answer_takes_long_is_not_idle(impatient: Plane) -> None:
    path = impatient.service(impatient.replica())
    with impatient.wire(timeout_s=5) as wire:
        assert wire.ask(post(CHAT, impatient.owner_key, chat(path, delay_s=1))).status == 200
        assert wire.ask(get("/healthz")).status == 200


def test_a_caller_who_takes_nothing_for_long_loses_its_slot(impatient: Plane) -> None:
    replica = impatient.replica(slots=1)
    path = impatient.service(replica)
    with impatient.wire(receive_buffer=16384) as wire, impatient.wire(timeout_s=5) as other:
        wire.send(post(CHAT, impatient.owner_key, chat(path, do="flood", bytes=100 * MB)))
        wait_for(lambda: replica.requests, "the slot to be taken")
        assert other.ask(post(CHAT, impatient.owner_key, chat(path))).status == 200
    assert event_of(impatient, replica.requests[0]).cancelled
