"""HTTP/1.1 as callers speak it, well and badly."""

import json
import os
import signal

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Wire, get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000


def test_pipelined_requests_are_answered_in_order(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    requests = [
        post(CHAT, plane.owner_key, chat(path, text='"slow"', delay_s=0.2)),
        get("/healthz"),
        post(CHAT, plane.owner_key, chat(path, do="stream", chunks=2)),
        post(CHAT, plane.owner_key, chat("missing")),
        post(CHAT, plane.owner_key, chat(path, text='"last"')),
    ]
    with plane.wire() as wire:
        wire.send(b"".join(requests))
        answers = [wire.answer() for _ in requests]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
    assert answers[0].body == b'"slow"'
    assert answers[1].json() == {"status": "ok"}
    assert answers[2].body.endswith(b"data: [DONE]\n\n")
    assert answers[4].body == b'"last"'


def test_a_long_row_of_pipelined_requests_is_answered(plane: Plane) -> None:
    with plane.wire() as wire:
        wire.send(get("/healthz") * 5000)
        for _ in range(5000):
            assert wire.answer().status == 200


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (get("/v1/models", "sk-wrong"), 401),
        (b"garbage\r\n\r\n", 400),
        (post(CHAT, None, b"{}"), 401),
    ],
    ids=["stranger", "garbage", "no-key"],
)
def test_a_bad_request_does_not_cost_the_good_one_before_it(
    plane: Plane, bad: bytes, status: int
) -> None:
    with plane.wire() as wire:
        wire.send(get("/healthz") + bad)
        assert wire.answer().status == 200
        assert wire.answer().status == status
        assert wire.ended()


def test_a_connection_is_kept_and_closed_as_asked(plane: Plane) -> None:
    with plane.wire() as wire:
        for _ in range(50):
            assert "connection" not in wire.ask(get("/healthz")).headers
        answer = wire.ask(get("/healthz", None, ("connection: close",)))
        assert answer.headers["connection"] == "close"
        assert wire.ended()


def test_a_refused_body_leaves_the_connection_usable(plane: Plane) -> None:
    with plane.wire() as wire:
        assert wire.ask(post(CHAT, plane.owner_key, b"{")).status == 400
        assert wire.ask(post(CHAT, plane.owner_key, chat("missing"))).status == 404
        assert wire.ask(get("/v1/models", plane.owner_key)).status == 200


def test_requests_that_arrive_byte_by_byte_are_understood(plane: Plane) -> None:
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        for byte in post(CHAT, plane.owner_key, chat(path)):
            wire.send(bytes([byte]))
        assert wire.answer().status == 200


def test_an_http_1_0_caller_gets_an_answer_it_understands(plane: Plane) -> None:
    """No chunks, and the end of the connection for the end of a stream."""
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path), version="1.0"))
        assert answer.status == 200
        assert wire.ended()
    with plane.wire() as wire:
        body = chat(path, do="stream", chunks=2)
        answer = wire.ask(post(CHAT, plane.owner_key, body, version="1.0"))
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b'data: {"number": 0}\n\ndata: {"number": 1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("word", ["100-continue", "100-Continue"])
def test_a_caller_who_asks_first_is_told_to_go_on(plane: Plane, word: str) -> None:
    body = json.dumps(chat(plane.service(plane.replica()))).encode()
    request = post(CHAT, plane.owner_key, body, (f"expect: {word}",))
    with plane.wire(timeout_s=2) as wire:
        assert wire.ask(request[: -len(body)]).status == 100
        assert wire.ask(body).status == 200


def test_a_body_too_large_is_not_asked_for(plane: Plane) -> None:
    head = post(CHAT, plane.owner_key, b"", ("expect: 100-continue",))
    with plane.wire() as wire:
        assert wire.ask(head.replace(b"length: 0", b"length: 9000000")).status == 413


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_an_offer_to_upgrade_gets_an_answer(plane: Plane, upgrade: str) -> None:
    """`curl --http2` makes one with its first request."""
    headers = ("connection: upgrade, http2-settings", f"upgrade: {upgrade}", "http2-settings: AA")
    with plane.wire() as wire:
        assert wire.ask(get("/healthz", None, headers)).status in (200, 501)


@pytest.mark.parametrize("cut", [0, 1, 20], ids=["whole", "last-byte-later", "body-later"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_comes_with_an_offer_to_upgrade_is_read(
    plane: Plane, chunked: bool, cut: int
) -> None:
    """Java's HttpClient makes one with each first request, whatever its method."""
    replica = plane.replica()
    body = json.dumps(chat(plane.service(replica))).encode()
    offer = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AA")
    request = post(CHAT, plane.owner_key, body, offer)
    if chunked:
        head = request.removesuffix(body)
        head = head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
        request = head + b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            body[:5], len(body) - 5, body[5:],
        )  # fmt: skip
    with plane.wire(timeout_s=5) as wire:
        if cut:
            wire.send(request[:-cut])
            request = request[-cut:]
        # With the next request right behind it.
        assert wire.ask(request + get("/healthz")).status == 200
        assert wire.answer().body == b'{"status":"ok"}'
    assert [seen["body"] for seen in replica.requests] == [body.decode()]


def test_a_body_too_large_with_an_offer_to_upgrade_is_refused(plane: Plane) -> None:
    offer = ("connection: upgrade", "upgrade: h2c", "transfer-encoding: chunked")
    head = post(CHAT, plane.owner_key, b"", offer).replace(b"content-length: 0\r\n", b"")
    with plane.wire() as wire:
        assert wire.ask(head + b"200000\r\n" + b"x" * 0x200000).status == 413


def test_head_has_the_headers_of_get_and_no_body(plane: Plane) -> None:
    with plane.wire() as wire:
        request = get("/healthz")
        shown = wire.ask(request)
        head = wire.ask(request.replace(b"GET", b"HEAD"), head_only=True)
        assert (head.status, head.headers["content-length"]) == (200, str(len(shown.body)))
        # Had it a body, this answer would begin with it.
        assert wire.ask(request).status == 200


def test_an_absolute_url_is_understood(plane: Plane) -> None:
    with plane.wire() as wire:
        url = f"{plane.gateway.url}/v1/models"
        assert wire.ask(get(url, plane.owner_key)).json()["object"] == "list"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nname: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n",
        b"\0" * 1000,
        b"GET /health z HTTP/1.1\r\n\r\n",
    ],
    ids=["tls", "short", "version", "http2", "no-colon", "nul", "folded", "nothing", "space"],
)
def test_garbage_is_a_400(plane: Plane, garbage: bytes) -> None:
    with plane.wire() as wire:
        answer = wire.ask(garbage)
        assert (answer.status, answer.code) == (400, "invalid_request_error")
        assert wire.ended()


def test_random_bytes_harm_nobody(plane: Plane) -> None:
    for _ in range(50):
        with plane.wire() as wire:
            try:
                wire.send(os.urandom(3000) + b"\r\n\r\n")
                wire.rest()
            except (ConnectionResetError, BrokenPipeError):
                pass
    with plane.wire() as wire:
        assert wire.ask(get("/healthz")).status == 200


HIDDEN = b"GET /healthz?hidden HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 6\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 6\r\n",
        b"content-length: 6\r\ncontent-length: 7\r\n",
        b"content-length: 6, 7\r\n",
        b"content-length: +6\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x6\r\n",
        b"content-length: 99999999999999999999999999\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        b"content-length: 6\ntransfer-encoding: chunked\r\n",
    ],
)
def test_a_request_of_doubtful_length_is_refused_and_hides_no_other(
    plane: Plane, framing: bytes
) -> None:
    path = plane.service(plane.replica())
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {plane.owner_key}\r\n"
    body = json.dumps(chat(path)).encode()
    with plane.wire() as wire:
        answer = wire.ask(head.encode() + framing + b"\r\n0\r\n\r\n" + HIDDEN + body)
        assert answer.status == 400
        assert wire.ended()


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"5\r\nhelloworld\r\n0\r\n\r\n", b"-1\r\n", b"0xfffffffffffffffff\r\n", b"\r\n"],
)
def test_broken_chunks_are_refused(plane: Plane, chunks: bytes) -> None:
    head = post(CHAT, plane.owner_key, b"").replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    with plane.wire() as wire:
        assert wire.ask(head + chunks).status == 400
        assert wire.ended()


@pytest.mark.parametrize("pieces", [2, 3, 10])
def test_a_head_too_large_is_a_431_in_however_many_pieces(plane: Plane, pieces: int) -> None:
    request = get("/healthz", None, tuple(f"x-{n}: {'y' * 1000}" for n in range(70)))
    size = len(request) // pieces + 1
    with plane.wire() as wire, plane.wire() as other:
        for at in range(0, len(request), size):
            wire.send(request[at : at + size])
            # Its answer shows that the piece has been read.
            assert other.ask(get("/healthz")).status == 200
        assert wire.answer().status == 431


def test_many_large_headers_are_a_431(plane: Plane) -> None:
    headers = tuple(f"x-{number}: {'y' * 1000}" for number in range(100))
    with plane.wire() as wire:
        assert wire.ask(get("/healthz", None, headers)).status == 431
        assert wire.ended()


def test_headers_of_a_usual_size_are_taken(plane: Plane) -> None:
    headers = tuple(f"x-{number}: {'y' * 1000}" for number in range(30))
    with plane.wire() as wire:
        assert wire.ask(get("/healthz", None, headers)).status == 200


@pytest.mark.parametrize(
    "start",
    [b"GET /", b"GET / HTTP/1.1\r\nname: ", b"GET / HTTP/1.1\r\nname"],
    ids=["url", "value", "name"],
)
def test_a_head_without_end_is_refused_before_it_fills_the_memory(
    plane: Plane, start: bytes
) -> None:
    with plane.wire(timeout_s=5) as wire:
        wire.send(start)
        sent = 0
        try:
            while sent < 32 * MB:
                wire.send(b"a" * 65536)
                sent += 65536
        except (ConnectionResetError, BrokenPipeError):
            pass
    # What the sockets in between hold is sent before the refusal is heard.
    assert sent < 16 * MB


def test_trailers_are_no_headers(plane: Plane) -> None:
    """A field behind the body must not pass for one that was there when the caller was checked."""
    path = plane.service(plane.replica())
    body = json.dumps(chat(path)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    trailer = f"authorization: Bearer {plane.owner_key}\r\n\r\n"
    with plane.wire() as wire:
        assert wire.ask(head.encode() + b"\r\n" + chunk + trailer.encode()).status == 401


def test_callers_who_send_slowly_hold_nobody_up(plane: Plane) -> None:
    path = plane.service(plane.replica())
    slow = [plane.wire() for _ in range(200)]
    try:
        for number, wire in enumerate(slow):
            request = post(CHAT, plane.owner_key, chat(path))
            wire.send(request[: number % (len(request) - 1)])
        with plane.wire(timeout_s=3) as wire:
            for _ in range(20):
                assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
        # They are still welcome.
        request = post(CHAT, plane.owner_key, chat(path))
        slow[57].send(request[57:])
        assert slow[57].answer().status == 200
    finally:
        for wire in slow:
            wire.close()


def test_many_callers_at_once_each_get_their_own_answer(plane: Plane) -> None:
    path = plane.service(plane.replica(), plane.replica())
    wires: list[Wire] = [plane.wire() for _ in range(150)]
    try:
        for number, wire in enumerate(wires):
            wire.send(post(CHAT, plane.owner_key, chat(path, text=f'"{number}"', delay_s=0.1)))
        for number, wire in enumerate(wires):
            assert wire.answer().body == b'"%d"' % number
    finally:
        for wire in wires:
            wire.close()


def test_bytes_keep_their_order_where_an_answer_and_more_of_a_request_arrive_at_once(
    plane: Plane,
) -> None:
    """The rest of a pipelined body must not pass for a request of its own."""
    replica = plane.replica()
    path = plane.service(replica)
    first = post(CHAT, plane.owner_key, chat(path, do="stream", chunks=1, gated=True))
    body = json.dumps(chat(path) | {"note": "\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n"}).encode()
    second = post(CHAT, plane.owner_key, body)
    cut = len(second) - len(body)
    pid = plane.gateway.process.pid
    with plane.wire() as wire:
        wire.send(first + second[:cut])
        wait_for(lambda: replica.requests, "the first request to arrive")
        os.kill(pid, signal.SIGSTOP)
        try:
            replica.go()
            wait_for(lambda: replica.seen()["sent_bytes"] > 110, "the first answer to be sent")
            wire.send(second[cut:])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert b"number" in wire.answer().body
        assert wire.answer().json()["object"] == "chat.completion"
    assert [len(each["body"]) for each in replica.requests][1] == len(body)
