"""Replicas that die, hang, or answer what is no answer: no call is lost that another can serve."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.data_plane import Plane, Replica, chat
from tests.support.hurried_gateway import hurried
from tests.support.leaks import accounted_once, at_rest, hung_up_on, nothing_leaks, warm
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Broken, get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000

JSON_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = "transfer-encoding: chunked\r\n\r\n"
WELL = '"well"'


@pytest.fixture(scope="module")
def two_replicas(one_gateway: Plane) -> Iterator[tuple[Replica, Replica]]:
    folder = one_gateway.paths.sockets
    made = Replica(folder, slots=1), Replica(folder, default={"text": WELL})
    yield made
    for replica in made:
        replica.close()


@pytest.fixture
def broken_and_well(
    plane: Plane, two_replicas: tuple[Replica, Replica]
) -> Iterator[tuple[Replica, Replica]]:
    """Two that outlive the test: one to misbehave as it is told, and one that answers as ever."""
    two_replicas[0].now()
    for replica in two_replicas:
        replica.seen("take")
    yield two_replicas
    plane.end_services()
    for replica in two_replicas:
        hung_up_on(replica)


def raw(*pieces: Any, end: str = "stay", **more: Any) -> dict[str, Any]:
    """Orders for a replica that answers these bytes."""
    return {"do": "raw", "pieces": list(pieces), "end": end, **more}


def ask(plane: Plane, path: str, **fake: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(CHAT, plane.owner_key, chat(path, **fake)))


def name_of(path: str) -> str:
    return path.partition("/")[2]


def said_its_part(replica: Replica, orders: dict[str, Any]) -> None:
    """Wait until a replica has sent all that its orders have it say."""
    size = sum(len(piece) for piece in orders.get("pieces", ()))
    wait_for(
        lambda: (seen := replica.seen())["requests"] and seen["sent_bytes"] >= size,
        "the replica to have the request, and to say its part",
        pause_s=0.01,
    )


def is_bad_gateway(answer: Answer) -> bool:
    """Whether it says so: as a 502, or as the last event of a stream."""
    if answer.status == 502:
        return answer.code == "bad_gateway"
    last = answer.body.decode().rstrip("\n").rpartition("\n")[2]
    error = json.loads(last.removeprefix("data: "))["error"]
    return answer.status == 200 and error["code"] == "bad_gateway"


# -- killed, at each stage -------------------------------------------------------------

# What a replica has said when it is killed; none of it is a word of the answer's own.
UNSAID = {
    "before-its-head": {"do": "hang"},
    "within-its-head": raw("HTTP/1.1 200 OK\r\ncontent-ty"),
    "after-its-head": raw(JSON_HEAD + "content-length: 2000\r\n\r\n"),
    "within-its-body": raw(JSON_HEAD + "content-length: 2000\r\n\r\n", "x" * 1000),
    "within-a-chunk": raw(JSON_HEAD + CHUNKED + "ffff\r\n" + "x" * 1000),
    "before-its-last-chunk": raw(JSON_HEAD + CHUNKED + "2\r\n{}\r\n"),
    "after-the-head-of-a-stream": raw(STREAM_HEAD + CHUNKED),
    "within-the-first-event": raw(STREAM_HEAD + CHUNKED + "6\r\ndata: \r\n"),
}
unsaid = pytest.mark.parametrize("orders", UNSAID.values(), ids=UNSAID)


@unsaid
def test_a_replica_killed_before_it_said_anything_costs_the_caller_nothing(
    plane: Plane, orders: dict[str, Any]
) -> None:
    dying, well = plane.replica(**orders), plane.replica(text=WELL)
    path = plane.service(dying)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        said_its_part(dying, orders)
        plane.service(dying, well, name=name_of(path))
        dying.kill()
        answer = wire.answer()
    assert (answer.status, answer.body) == (200, WELL.encode())
    assert len(well.requests) == 1


@unsaid
def test_where_no_other_is_left_its_caller_is_told(plane: Plane, orders: dict[str, Any]) -> None:
    dying = plane.replica(**orders)
    path = plane.service(dying)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        said_its_part(dying, orders)
        dying.kill()
        answer = wire.answer()
        # And may go on with the connection.
        assert wire.ask(get("/healthz")).status == 200
    assert is_bad_gateway(answer)


def test_a_replica_killed_within_a_stream_ends_it_with_an_error_event(plane: Plane) -> None:
    dying, well = plane.replica(), plane.replica(text=WELL)
    path = plane.service(dying)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="stream", chunks=9, gated=True)))
        dying.go()
        head = wire.head()
        assert wire.chunk() == b'data: {"number": 0}\n\n'
        plane.service(dying, well, name=name_of(path))
        dying.kill()
        rest = wire.chunk()
        assert wire.chunk() == b""
        # The connection is whole, and the next call goes elsewhere.
        assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == WELL.encode()
    assert json.loads(rest.removeprefix(b"data: "))["error"]["code"] == "bad_gateway"
    event = plane.event(head)
    assert (event.status, event.replica_id, event.cancelled) == (502, dying.id, False)


def test_a_replica_killed_within_a_long_answer_breaks_the_connection(plane: Plane) -> None:
    """What has begun cannot be mended, and must not look whole."""
    dying = plane.replica()
    path = plane.service(dying)
    size = 9 * MB
    orders = raw(JSON_HEAD + f"content-length: {size}\r\n\r\n", {"text": "x" * 1000, "times": 8000})
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, **orders)))
        head = wire.head()
        dying.kill()
        assert head.status == 200
        assert "content-length" not in head.headers or int(head.headers["content-length"]) == size
        received = wire.rest()
    assert len(received) < size
    assert not received.endswith(b"0\r\n\r\n")
    assert plane.event(head).status == 502


def test_replicas_killed_under_load_cost_no_call(plane: Plane) -> None:
    replicas = [plane.replica(delay_s=0.002) for _ in range(3)]
    path = plane.service(*replicas)
    ended = threading.Event()

    def call(_: int) -> list[Answer]:
        answers = []
        with plane.wire() as wire:
            while not ended.is_set():
                answers.append(wire.ask(post(CHAT, plane.owner_key, chat(path))))
        return answers

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, number) for number in range(8)]
        last = replicas.pop()
        for replica in replicas:
            wait_for(lambda replica=replica: len(replica.requests) > 20, "calls")  # type: ignore[misc]
            replica.kill()
        known = len(last.requests)
        wait_for(lambda: len(last.requests) > known + 50, "calls that only one can answer")
        ended.set()
        answers = [answer for found in calls for answer in found.result()]
    assert {answer.status for answer in answers} == {200}
    at_rest(plane, path)
    accounted_once(plane, answers)


def test_streams_of_a_killed_replica_end_and_those_of_others_go_on(plane: Plane) -> None:
    replicas = [plane.replica(slots=8) for _ in range(2)]
    path = plane.service(*replicas)
    request = post(CHAT, plane.owner_key, chat(path, do="stream", chunks=3, gated=True))
    wires = [plane.wire() for _ in range(8)]
    try:
        for wire in wires:
            wire.send(request)
        wait_for(
            lambda: sum(len(replica.requests) for replica in replicas) == 8, "the streams to begin"
        )
        for replica in replicas:
            for _ in replica.requests:
                replica.go()
        for wire in wires:
            assert wire.head().status == 200
            assert wire.chunk() == b'data: {"number": 0}\n\n'
        dying, well = replicas
        lost, kept = len(dying.requests), len(well.requests)
        assert lost
        assert kept
        dying.kill()
        for _ in range(2 * kept):
            well.go()
        ends = [b"".join(iter(wire.chunk, b"")) for wire in wires]
        assert sum(b"bad_gateway" in end for end in ends) == lost
        assert sum(end.endswith(b"data: [DONE]\n\n") for end in ends) == kept
        at_rest(plane, path)
    finally:
        for wire in wires:
            wire.close()


# -- answers that are none -------------------------------------------------------------

NO_HTTP = {
    "nothing": raw(end="close"),
    "garbage": raw("\x16\x03\x01" + "\x00\xff" * 500, end="close"),
    "words": raw("Segmentation fault (core dumped)\n", end="close"),
    "another-protocol": raw("SSH-2.0-OpenSSH_9.6\r\n"),
    "http2": raw("\x00\x00\x12\x04\x00\x00\x00\x00\x00" + "\x00" * 18),
    "a-request": raw("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    "no-status": raw("HTTP/1.1 \r\ncontent-length: 2\r\n\r\n{}"),
    "no-colon": raw("HTTP/1.1 200 OK\r\ncontent-length 2\r\n\r\n{}"),
    "nul-in-a-header": raw("HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}"),
    "bare-line-feeds": raw("HTTP/1.1 200 OK\ncontent-length: 2\n\n{}"),
    "a-folded-header": raw("HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}"),
    "two-lengths": raw(JSON_HEAD + "content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    "a-length-and-chunks": raw(
        JSON_HEAD + "content-length: 2\r\n" + CHUNKED + "2\r\n{}\r\n0\r\n\r\n"
    ),
    "a-negative-length": raw(JSON_HEAD + "content-length: -2\r\n\r\n{}"),
    "a-length-beyond-measure": raw(JSON_HEAD + "content-length: 99999999999999999999\r\n\r\n{}"),
    "a-broken-chunk": raw(JSON_HEAD + CHUNKED + "zz\r\n{}\r\n0\r\n\r\n"),
    "a-chunk-too-long": raw(JSON_HEAD + CHUNKED + "1\r\n{}\r\n0\r\n\r\n"),
    "interim-answers-alone": raw("HTTP/1.1 100 Continue\r\n\r\n" * 3, end="close"),
    "another-protocol-offered": raw(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n{}"
    ),
}


@pytest.mark.parametrize("orders", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_taken_for_a_failure(
    plane: Plane, broken_and_well: tuple[Replica, Replica], orders: dict[str, Any]
) -> None:
    broken, well = broken_and_well
    broken.now(**orders)
    path = plane.service(broken)
    alone = ask(plane, path)
    assert (alone.status, alone.code) == (502, "bad_gateway")
    # It holds no slot, and another is asked where there is one.
    plane.service(broken, well, name=name_of(path))
    with plane.wire() as wire:
        for _ in range(3):
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).body == WELL.encode()


UNUSUAL = {
    "http-1.0": raw("HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\n" + WELL, end="close"),
    "http-1.0-without-a-length": raw("HTTP/1.0 200 OK\r\n\r\n" + WELL, end="close"),
    "http-1.0-kept": raw(
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 6\r\n\r\n" + WELL,
        end="next",
    ),
    "no-length": raw(JSON_HEAD + "\r\n" + WELL, end="close"),
    "no-length-in-pieces": raw(JSON_HEAD + "\r\n", *WELL, end="close"),
    "closed-by-promise": raw(
        JSON_HEAD + "connection: close\r\ncontent-length: 6\r\n\r\n" + WELL, end="close"
    ),
    "interim-answers-before": raw(
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 2
        + JSON_HEAD
        + "content-length: 6\r\n\r\n"
        + WELL,
        end="next",
    ),
    "chunks-with-extensions-and-trailers": raw(
        JSON_HEAD + CHUNKED + '3;a="b"\r\n"we\r\n003;c\r\nll"\r\n0;d\r\nx-trailer: y\r\n\r\n',
        end="next",
    ),
    "byte-by-byte": raw(*(JSON_HEAD + CHUNKED + f"6\r\n{WELL}\r\n0\r\n\r\n"), end="next"),
}


@pytest.mark.parametrize("orders", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_http_is_understood(
    plane: Plane, broken_and_well: tuple[Replica, Replica], orders: dict[str, Any]
) -> None:
    unusual, _ = broken_and_well
    unusual.now(**orders)
    path = plane.service(unusual)
    with plane.wire() as wire:
        answers = [wire.ask(post(CHAT, plane.owner_key, chat(path))) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, WELL.encode())] * 3


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_that_ends_with_its_connection_is_whole_only_where_it_says_so(
    plane: Plane, version: str
) -> None:
    head = f"HTTP/{version} 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    one, done = 'data: {"number": 1}\n\n', "data: [DONE]\n\n"
    path = plane.service(plane.replica(slots=1))
    whole = ask(plane, path, **raw(head, one, done, end="close"))
    assert (whole.status, whole.body) == (200, (one + done).encode())
    assert plane.event(whole).status == 200
    cut = ask(plane, path, **raw(head, one, end="close"))
    assert cut.body.startswith(one.encode())
    assert is_bad_gateway(cut)
    assert plane.event(cut).status == 502


@pytest.mark.parametrize(
    "behind",
    [
        JSON_HEAD + 'content-length: 8\r\n\r\n"poison"',
        JSON_HEAD + CHUNKED + '8\r\n"poison"\r\n0\r\n\r\n',
        STREAM_HEAD + "content-length: 16\r\n\r\ndata: [POISON]\n\n",
        "garbage\r\n",
        "\r\n\r\n",
    ],
    ids=["an-answer", "chunks", "a-stream", "garbage", "blank-lines"],
)
def test_what_follows_an_answer_never_reaches_another_caller(
    plane: Plane, broken_and_well: tuple[Replica, Replica], behind: str
) -> None:
    """Two answers at once, while the next request waits for the one slot there is."""
    replica, _ = broken_and_well
    path = plane.service(replica)
    first = chat(
        path, **raw(JSON_HEAD + "content-length: 6\r\n\r\n" + WELL + behind, end="next", gated=True)
    )
    second = chat(path, text='"mine"')
    with plane.wire() as one, plane.wire() as other:
        one.send(post(CHAT, plane.owner_key, first))
        wait_for(lambda: replica.requests, "the first request to arrive")
        other.send(post(CHAT, plane.owner_key, second))
        # The gateway has read the second one's request by the time it answers this.
        with plane.wire() as wire:
            assert wire.ask(get("/healthz")).status == 200
        replica.go()
        assert one.answer().body == WELL.encode()
        assert other.answer().body == b'"mine"'
        assert other.ask(post(CHAT, plane.owner_key, second)).body == b'"mine"'


# -- answers that say that something is wrong ------------------------------------------


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_replica_in_trouble_is_passed_by(
    plane: Plane, broken_and_well: tuple[Replica, Replica], status: int
) -> None:
    troubled, well = broken_and_well
    troubled.now(status=status, text='{"error": {"message": "loading"}}')
    path = plane.service(troubled)
    alone = ask(plane, path)
    assert alone.status == status
    assert alone.json()["error"]["message"] == "loading"
    assert set(alone.json()["error"]) == {"message", "type", "param", "code"}
    plane.service(troubled, well, name=name_of(path))
    for _ in range(3):
        assert ask(plane, path).body == WELL.encode()
    assert len(troubled.requests) <= 2


@pytest.mark.parametrize(
    "said", ['{"error": "out of memory"}', "<html>500</html>", "", "\xff\xfe", "[" * 3000, "null"]
)
def test_an_engines_own_failure_comes_in_our_shape_and_is_asked_of_nobody_else(
    plane: Plane, broken_and_well: tuple[Replica, Replica], said: str
) -> None:
    """It would fail there as well."""
    failing, other = broken_and_well
    path = plane.service(failing)
    head = f"HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\ncontent-length: {len(said)}\r\n\r\n"
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, **raw(head + said, gated=True))))
        wait_for(lambda: failing.requests, "the request to arrive")
        plane.service(failing, other, name=name_of(path))
        failing.go()
        answer = wire.answer()
    assert answer.status == 500
    assert {"message", "type", "param", "code"} <= set(answer.json()["error"])
    assert answer.json()["error"]["type"] == "server_error"
    assert not other.requests


# -- answers beyond measure ------------------------------------------------------------

LINE = {"text": "a" * 50_000, "times": 2000}


@contextmanager
def bounded(plane: Plane, others: str, most_bytes: int = 40 * MB) -> Iterator[None]:
    """Fails where the gateway comes to hold more meanwhile, or keeps another caller waiting."""
    over = threading.Event()
    before = plane.gateway.memory_bytes
    most, slowest = [before], [0.0]

    def watch() -> None:
        with plane.wire() as wire:
            last = False
            while not last:
                last = over.is_set()
                since = time.monotonic()
                assert wire.ask(post(CHAT, plane.owner_key, chat(others))).status == 200
                slowest.append(time.monotonic() - since)
                most.append(plane.gateway.memory_bytes)
                over.wait(0.01)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
        watching.result()
    assert max(most) < before + most_bytes
    assert max(slowest) < 1.0


@pytest.mark.parametrize(
    "start",
    ["HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nx-long: ", "HTTP/1.1 200 OK\r\nx-", JSON_HEAD + CHUNKED],
    ids=["reason", "value", "name", "chunk-size"],
)
def test_a_line_of_100_mb_in_an_answers_head_is_a_failure(plane: Plane, start: str) -> None:
    others = plane.service(plane.replica())
    endless = plane.replica(**raw(start, LINE, end="close"))
    path = plane.service(endless)
    with bounded(plane, others):
        alone = ask(plane, path)
    assert (alone.status, alone.code) == (502, "bad_gateway")
    plane.service(endless, plane.replica(text=WELL), name=name_of(path))
    assert ask(plane, path).body == WELL.encode()


@pytest.mark.parametrize("head", [JSON_HEAD, STREAM_HEAD], ids=["answer", "stream"])
@pytest.mark.parametrize("framed", [True, False], ids=["chunked", "no-length"])
def test_a_line_of_100_mb_is_passed_on_as_it_comes(plane: Plane, head: str, framed: bool) -> None:
    others = plane.service(plane.replica())
    path = plane.service(plane.replica(slots=1))
    tail = "\n\ndata: [DONE]\n\n" if head is STREAM_HEAD else "\n"
    if framed:
        part = {"text": f"{50_000:x}\r\n" + "x" * 50_000 + "\r\n", "times": 2000}
        orders = raw(head + CHUNKED, part, f"{len(tail):x}\r\n{tail}\r\n0\r\n\r\n")
    else:
        orders = raw(head + "\r\n", LINE, tail, end="close")
    with bounded(plane, others), plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, **orders)))
        answer = wire.head()
        size, last = 0, b""
        while chunk := wire.chunk():
            size, last = size + len(chunk), (last + chunk)[-20:]
    assert size == 100 * MB + len(tail)
    assert last.endswith(tail.encode())
    assert plane.event(answer).status == 200


def test_a_line_of_100_mb_where_a_stream_is_put_together_is_a_failure(plane: Plane) -> None:
    """Nobody can hold all of it, and part of it is no answer."""
    others = plane.service(plane.replica())
    part = {"text": f"{50_000:x}\r\n" + "x" * 50_000 + "\r\n", "times": 2000}
    endless = plane.replica(**raw(STREAM_HEAD + CHUNKED + "6\r\ndata: \r\n", part, "0\r\n\r\n"))
    path = plane.service(endless, collect=True)
    with bounded(plane, others):
        answer = ask(plane, path)
    assert (answer.status, answer.code) == (502, "bad_gateway")


def test_a_refusal_of_100_mb_is_cut_short(plane: Plane) -> None:
    others = plane.service(plane.replica())
    head = f"HTTP/1.1 400 No\r\ncontent-length: {100 * MB}\r\n\r\n"
    path = plane.service(plane.replica())
    with bounded(plane, others):
        answer = ask(plane, path, **raw(head, LINE))
    assert answer.status == 400
    assert len(answer.body) < MB


# -- silence ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_impatient() -> Iterator[Plane]:
    plane = Plane(hurried(), answer_timeout_s="1")
    warm(plane)
    yield plane
    plane.close()


@pytest.fixture
def impatient(one_impatient: Plane) -> Iterator[Plane]:
    """A gateway that waits a second for a word of a replica."""
    with nothing_leaks(one_impatient):
        yield one_impatient


def test_a_replica_that_hangs_is_given_up_wherever_it_hangs(impatient: Plane) -> None:
    """All at once, because each takes its time."""
    well = impatient.replica(text=WELL, slots=100)
    cases = []
    for orders in UNSAID.values():
        hanging = impatient.replica(**orders)
        path = impatient.service(hanging)
        wire = impatient.wire()
        wire.send(post(CHAT, impatient.owner_key, chat(path)))
        wait_for(lambda hanging=hanging: hanging.requests, "the request to arrive")  # type: ignore[misc]
        impatient.service(hanging, well, name=name_of(path))
        cases.append((wire, hanging))
    try:
        for wire, hanging in cases:
            answer = wire.answer()
            assert (answer.status, answer.body) == (200, WELL.encode())
            assert impatient.event(answer).replica_id == well.id
            # It was hung up on: it may stop its work.
            wait_for(lambda hanging=hanging: hanging.seen()["abandoned"], "that")  # type: ignore[misc]
    finally:
        for wire, _ in cases:
            wire.close()


def test_a_stream_that_falls_silent_ends_with_an_error_event(impatient: Plane) -> None:
    path = impatient.service(impatient.replica(slots=1))
    with impatient.wire() as wire:
        body = chat(path, **raw(STREAM_HEAD + CHUNKED + "a\r\ndata: {}\n\n\r\n"))
        answer = wire.ask(post(CHAT, impatient.owner_key, body))
        assert is_bad_gateway(answer)
        assert answer.body.startswith(b"data: {}\n\n")
        # The slot is free again.
        assert wire.ask(post(CHAT, impatient.owner_key, chat(path))).status == 200
    assert impatient.event(answer).status == 502


def test_a_stream_that_is_slow_but_not_silent_is_left_alone(impatient: Plane) -> None:
    path = impatient.service(impatient.replica())
    answer = ask(impatient, path, do="stream", chunks=4, pace_s=0.6)
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_process_that_stands_still_is_given_up(impatient: Plane) -> None:
    """The kernel takes connections and requests for it; nobody answers."""
    replicas = [impatient.replica() for _ in range(2)]
    kept, new = [impatient.service(replica) for replica in replicas]
    well = impatient.replica(text=WELL)
    # The one on a connection that there is already, the other on a new one.
    assert ask(impatient, kept).status == 200
    for replica in replicas:
        os.kill(replica.process.pid, signal.SIGSTOP)
    try:
        with impatient.wire() as wire, impatient.wire() as other:
            wire.send(post(CHAT, impatient.owner_key, chat(kept)))
            other.send(post(CHAT, impatient.owner_key, chat(new)))
            with impatient.wire() as third:
                assert third.ask(get("/healthz")).status == 200
            for replica, path in zip(replicas, (kept, new), strict=True):
                impatient.service(replica, well, name=name_of(path))
            assert wire.answer().body == WELL.encode()
            assert other.answer().body == WELL.encode()
    finally:
        for replica in replicas:
            os.kill(replica.process.pid, signal.SIGCONT)


# -- what is left of it all ------------------------------------------------------------


def test_the_only_slot_survives_whatever_befalls_it(plane: Plane) -> None:
    """Were one of these to keep it, the next would wait in vain."""
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    hang_ups: list[dict[str, Any]] = [{"do": "hang"}, {"do": "stream", "chunks": 2, "gated": True}]
    befalls: list[dict[str, Any]] = [*NO_HTTP.values(), *UNUSUAL.values(), *hang_ups]
    befalls += [{"status": status} for status in (400, 401, 404, 500, 502, 503)]
    befalls += [{"die_after": 0}, {"do": "stream", "chunks": 3, "die_after": 30}]
    answers = []
    for orders in befalls:
        if orders in hang_ups:
            known = len(replica.requests)
            with plane.wire() as wire:
                wire.send(post(CHAT, plane.owner_key, chat(path, **orders)))
                wait_for(lambda known=known: len(replica.requests) > known, "it")  # type: ignore[misc]
        else:
            answers.append(ask(plane, path, **orders))
        answers.append(ask(plane, path))
        assert answers[-1].status == 200
    at_rest(plane, path)
    accounted_once(plane, answers)


def test_a_replica_that_failed_is_asked_again_once_it_is_well(plane: Plane) -> None:
    failing, well = plane.replica(**NO_HTTP["garbage"]), plane.replica()
    path = plane.service(failing)
    assert ask(plane, path).status == 502
    plane.service(failing, well, name=name_of(path))
    failing.now()

    def asked() -> bool:
        with ThreadPoolExecutor(4) as pool:
            calls = list(pool.map(lambda _: ask(plane, path, delay_s=0.02).status, range(4)))
        assert set(calls) == {200}
        return len(failing.requests) > 1

    wait_for(asked, "the replica to be asked again", 10)


def test_a_replica_that_comes_back_at_its_address_is_found(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    replica = plane.replica()
    path = plane.service(replica)
    assert ask(plane, path).status == 200
    replica.kill()
    assert ask(plane, path).status == 502
    replica.revive()
    wait_for(lambda: ask(plane, path).status == 200, "it to be found", 5)


def test_an_answer_cut_off_is_not_taken_for_one_that_has_ended(plane: Plane) -> None:
    """A long one, chunked, closed in order by a replica that thinks it has said enough."""
    path = plane.service(plane.replica())
    many = {"text": f"{MB // 10:x}\r\n" + "x" * (MB // 10) + "\r\n", "times": 60}
    with plane.wire() as wire:
        wire.send(
            post(CHAT, plane.owner_key, chat(path, **raw(JSON_HEAD + CHUNKED, many, end="close")))
        )
        with pytest.raises(Broken):
            wire.answer()
