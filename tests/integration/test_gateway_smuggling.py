"""Requests that two readers may read differently are refused, and whatever hides in them too.

A table of such requests; a corpus of whole conversations; and both changed at
random. Of all that, a replica must get nothing but what a reader to the letter
(`tests.support.strict_http`) takes for a request, byte for byte.
"""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.data_plane import OWNER, Plane, Replica, chat
from tests.support.leaks import nothing_leaks, warm
from tests.support.strict_http import Conversation, conversation
from tests.support.wire import get, post

CHAT = "/v1/chat/completions"
MB = 1_000_000
CORPUS = sorted(Path(__file__).parents[1].joinpath("corpus", "http").glob("*.bin"))


class Target:
    """A gateway with one service, and all that its replica gets to see."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.replica: Replica = plane.replica(slots=64)
        self.path = plane.service(self.replica, name="target")
        self.key = plane.owner_key

    def reached(self) -> list[tuple[str, str]]:
        """Request line and body of what has reached the replica since this was last asked."""
        requests = self.replica.seen("take")["requests"]
        return [(each["head"].partition("\r\n")[0], each["body"]) for each in requests]

    def fill_in(self, text: bytes) -> bytes:
        """A request of the corpus, with a key that works here."""
        return text.replace(b"@KEY@", self.key.encode())


@pytest.fixture(scope="module")
def one_target() -> Iterator[Target]:
    plane = Plane(max_body_bytes="100000")
    warm(plane)
    with nothing_leaks(plane):
        yield Target(plane)
    plane.close()


@pytest.fixture
def target(one_target: Target) -> Target:
    # What an earlier test let through is no fault of this one.
    one_target.reached()
    return one_target


# -- the table -------------------------------------------------------------------------


def head(*lines: str, first: str = f"POST {CHAT} HTTP/1.1", host: str | None = "host: x") -> str:
    """A request's head, its last blank line included, with a key that works."""
    named = [] if host is None else [host]
    return "\r\n".join([first, *named, "authorization: Bearer @KEY@", *lines, "", ""])


BODY = json.dumps(chat(f"{OWNER}/target"))
SIZE = len(BODY)
CHUNKED = "transfer-encoding: chunked"
LENGTH = f"content-length: {SIZE}"
HIDDEN = head(LENGTH) + BODY
"""What must not come out of any of these; it stands behind each."""


def chunks(size: str = f"{SIZE:x}", body: str = BODY, end: str = "0\r\n\r\n") -> str:
    return head(CHUNKED) + f"{size}\r\n{body}\r\n{end}"


CHUNKED_BODY = f"{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"

BARE_LINE_FEEDS = {
    "after-the-request-line": head(LENGTH).replace("\r\n", "\n", 1) + BODY,
    "after-a-header": head("x: y", LENGTH).replace("x: y\r\n", "x: y\n") + BODY,
    "after-the-length": head(LENGTH, "x: y").replace(f"{LENGTH}\r\n", f"{LENGTH}\n") + BODY,
    "at-the-heads-end": head(LENGTH)[:-2] + "\n" + BODY,
    "twice-at-the-heads-end": head(LENGTH)[:-4] + "\n\n" + BODY,
    "everywhere": head(LENGTH).replace("\r\n", "\n") + BODY,
    "before-a-hidden-encoding": head(f"x: y\n{CHUNKED}", LENGTH) + BODY,
    "bare-return-after-a-header": head("x: y", LENGTH).replace("x: y\r\n", "x: y\r") + BODY,
    "bare-return-in-a-header": head("x: y\rz: 1", LENGTH) + BODY,
    "return-twice": head(LENGTH).replace("\r\n", "\r\r\n") + BODY,
    "after-a-chunks-size": head(CHUNKED) + f"{SIZE:x}\n{BODY}\r\n0\r\n\r\n",
    "after-a-chunk": head(CHUNKED) + f"{SIZE:x}\r\n{BODY}\n0\r\n\r\n",
    "after-the-last-chunks-size": chunks(end="0\n\r\n"),
    "after-the-last-chunk": chunks(end="0\r\n\n"),
    "in-a-chunks-extension": chunks(f"{SIZE:x};a=b\nc"),
    "bare-return-in-a-chunks-extension": chunks(f"{SIZE:x};a=b\rc"),
    "in-a-trailer": chunks(end="0\r\nx: y\n\r\n"),
}

FOLDED = {
    "a-header": head("x: a\r\n b", LENGTH) + BODY,
    "a-header-with-a-tab": head("x: a\r\n\tb", LENGTH) + BODY,
    "the-length": head(f"content-length:\r\n {SIZE}") + BODY,
    "the-length-in-two": head(f"content-length: {str(SIZE)[0]}\r\n {str(SIZE)[1:]}") + BODY,
    "the-encoding": head("transfer-encoding:\r\n chunked") + CHUNKED_BODY,
    "the-encoding-under-another": head(f"x: a\r\n {CHUNKED}", LENGTH) + BODY,
    "the-first-header": head(LENGTH).replace("host", " host") + BODY,
    "a-blank-line-that-is-none": head(LENGTH)[:-2] + " \r\n\r\n" + BODY,
    "a-trailer": chunks(end="0\r\nx: a\r\n b\r\n\r\n"),
}

LENGTHS = {
    "twice": head(LENGTH, LENGTH) + BODY,
    "twice-and-different": head(LENGTH, "content-length: 3") + BODY,
    "twice-in-other-letters": head(LENGTH, "Content-LENGTH: 3") + BODY,
    "in-a-list": head(f"content-length: {SIZE}, {SIZE}") + BODY,
    "in-a-list-without-blanks": head(f"content-length: {SIZE},{SIZE}") + BODY,
    "with-a-plus": head(f"content-length: +{SIZE}") + BODY,
    "negative": head("content-length: -1") + BODY,
    "hexadecimal": head(f"content-length: 0x{SIZE:x}") + BODY,
    "with-an-exponent": head("content-length: 1e2") + BODY,
    "with-a-point": head(f"content-length: {SIZE}.0") + BODY,
    "with-an-underscore": head("content-length: 1_0") + BODY,
    "with-a-blank-in-it": head("content-length: 1 0") + BODY,
    "with-a-semicolon": head(f"content-length: {SIZE};") + BODY,
    "quoted": head(f'content-length: "{SIZE}"') + BODY,
    "empty": head("content-length:") + BODY,
    "blank": head("content-length:   ") + BODY,
    "beyond-64-bits": head(f"content-length: {2**64 + SIZE}") + BODY,
    "beyond-32-bits-twice": head(f"content-length: {2**128 + SIZE}") + BODY,
    "in-other-digits": head("content-length: \u0663".encode().decode("latin-1")) + BODY,
    "and-chunks": head(LENGTH, CHUNKED) + CHUNKED_BODY,
    "after-chunks": head(CHUNKED, LENGTH) + CHUNKED_BODY,
    "nothing-and-chunks": head("content-length: 0", CHUNKED) + CHUNKED_BODY,
}

ENCODINGS = {
    "twice": head(CHUNKED, CHUNKED),
    "twice-in-one": head("transfer-encoding: chunked, chunked"),
    "with-another-before": head("transfer-encoding: gzip, chunked"),
    "with-another-before-in-its-own": head("transfer-encoding: gzip", CHUNKED),
    "with-another-after": head("transfer-encoding: chunked, identity"),
    "with-another-after-in-its-own": head(CHUNKED, "transfer-encoding: identity"),
    "another": head("transfer-encoding: identity"),
    "none": head("transfer-encoding:"),
    "none-before": head("transfer-encoding:", CHUNKED),
    "nearly": head("transfer-encoding: xchunked"),
    "nearly-too": head("transfer-encoding: chunkedx"),
    "with-a-parameter": head("transfer-encoding: chunked;q=1"),
    "quoted": head('transfer-encoding: "chunked"'),
    "with-a-comma": head("transfer-encoding: ,chunked"),
    "with-a-tab-of-another-kind": head("transfer-encoding: \vchunked"),
    "with-a-nul": head("transfer-encoding: chunked\0"),
    "with-a-blank-before-the-colon": head("transfer-encoding : chunked"),
    "with-a-tab-before-the-colon": head("transfer-encoding\t: chunked"),
    "with-a-tab-of-another-kind-before-the-colon": head("transfer-encoding\v: chunked"),
    "in-http-1.0": head(CHUNKED, first=f"POST {CHAT} HTTP/1.0"),
    "in-http-1.0-kept": head(CHUNKED, "connection: keep-alive", first=f"POST {CHAT} HTTP/1.0"),
}

CHUNKS = {
    "no-size": chunks(""),
    "a-size-with-a-plus": chunks(f"+{SIZE:x}"),
    "a-negative-size": chunks(f"-{SIZE:x}"),
    "a-size-with-a-prefix": chunks(f"0x{SIZE:x}"),
    "a-size-with-an-underscore": chunks("1_0"),
    "a-blank-before-the-size": chunks(f" {SIZE:x}"),
    "a-blank-after-the-size": chunks(f"{SIZE:x} "),
    "no-number": chunks("size"),
    "a-size-in-other-digits": chunks("\u0663".encode().decode("latin-1")),
    "a-size-beyond-64-bits": chunks(f"{2**64 + SIZE:x}"),
    "a-size-of-128-zeros-and-more": chunks(f"{2**512 + SIZE:x}"),
    "less-than-there-is": chunks(f"{SIZE - 1:x}"),
    "more-than-there-is": chunks(f"{SIZE + 1:x}"),
    "nothing-between": head(CHUNKED) + f"{SIZE:x}\r\n{BODY}0\r\n\r\n",
    "a-nul-in-an-extension": chunks(f"{SIZE:x};a\0"),
    "a-trailer-without-a-colon": chunks(end="0\r\ntrailer\r\n\r\n"),
    "a-trailer-with-a-blank-before-its-colon": chunks(end="0\r\nx : y\r\n\r\n"),
    "a-trailer-with-a-nul": chunks(end="0\r\nx: \0\r\n\r\n"),
}

HEADS = {
    "no-host": head(LENGTH, host=None) + BODY,
    "two-hosts": head("host: y", LENGTH) + BODY,
    "the-same-host-twice": head("host: x", LENGTH) + BODY,
    "http-1.2": head(LENGTH, first=f"POST {CHAT} HTTP/1.2") + BODY,
    "http-2": head(LENGTH, first=f"POST {CHAT} HTTP/2.0") + BODY,
    "http-0.9": f"POST {CHAT}\r\n",
    "small-letters": head(LENGTH, first=f"POST {CHAT} http/1.1") + BODY,
    "a-version-with-more-digits": head(LENGTH, first=f"POST {CHAT} HTTP/1.10") + BODY,
    "a-version-with-a-blank": head(LENGTH, first=f"POST {CHAT} HTTP/ 1.1") + BODY,
    "a-blank-after-the-version": head(LENGTH, first=f"POST {CHAT} HTTP/1.1 ") + BODY,
    "a-blank-before-the-method": head(LENGTH, first=f" POST {CHAT} HTTP/1.1") + BODY,
    "a-tab": head(LENGTH, first=f"POST\t{CHAT} HTTP/1.1") + BODY,
    "another-tab": head(LENGTH, first=f"POST {CHAT}\vHTTP/1.1") + BODY,
    "a-blank-in-the-target": head(LENGTH, first=f"POST {CHAT} x HTTP/1.1") + BODY,
    "a-nul-in-the-target": head(LENGTH, first=f"POST {CHAT}\0 HTTP/1.1") + BODY,
    "no-target": head(LENGTH, first="POST HTTP/1.1") + BODY,
    "a-method-that-is-none": head(LENGTH, first=f"PO ST {CHAT} HTTP/1.1") + BODY,
    "no-colon": head("x", LENGTH) + BODY,
    "no-name": head(": y", LENGTH) + BODY,
    "a-blank-in-a-name": head("x y: z", LENGTH) + BODY,
    "a-blank-after-a-name": head(f"content-length : {SIZE}") + BODY,
    "a-bracket-in-a-name": head("x(: y", LENGTH) + BODY,
    "a-letter-beyond-ascii-in-a-name": head("x\xe4: y", LENGTH) + BODY,
    "a-nul-in-a-name": head("x\0: y", LENGTH) + BODY,
    "a-nul-in-a-value": head("x: \0", LENGTH) + BODY,
    "a-bell-in-a-value": head("x: \a", LENGTH) + BODY,
    "a-deletion-in-a-value": head("x: \x7f", LENGTH) + BODY,
}

TABLE = [
    *(("bare-line-feed", name, text) for name, text in BARE_LINE_FEEDS.items()),
    *(("folded", name, text) for name, text in FOLDED.items()),
    *(("length", name, text) for name, text in LENGTHS.items()),
    *(("encoding", name, text + CHUNKED_BODY) for name, text in ENCODINGS.items()),
    *(("chunk", name, text) for name, text in CHUNKS.items()),
    *(("head", name, text) for name, text in HEADS.items()),
]


@pytest.mark.parametrize("split", [False, True], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize(
    "text", [text for _, _, text in TABLE], ids=[f"{kind}-{name}" for kind, name, _ in TABLE]
)
def test_a_doubtful_request_is_refused_and_hides_no_other(
    target: Target, text: str, split: bool
) -> None:
    data = target.fill_in((text + HIDDEN).encode("latin-1"))
    assert conversation(data) == Conversation([], invalid=True), "the reader to the letter takes it"
    with target.plane.wire(timeout_s=5) as wire:
        send(wire.socket, data, range(0, len(data), 7) if split else ())
        answer = wire.answer()
        assert answer.status == 400
        assert answer.code == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""
    assert target.reached() == []


def send(socket_: socket.socket, data: bytes, places: Any = ()) -> None:
    """Send it cut at these places, as far as anybody takes it."""
    socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ends = sorted({0, *(place for place in places if place < len(data)), len(data)})
    try:
        for start, end in pairwise(ends):
            socket_.sendall(data[start:end])
    except (BrokenPipeError, ConnectionResetError):
        pass


@pytest.mark.parametrize(
    ("first", "statuses"),
    [
        (f"CONNECT {CHAT} HTTP/1.1", {400, 405, 501}),
        ("CONNECT gateway:443 HTTP/1.1", {400, 501}),
        (f"TRACE {CHAT} HTTP/1.1", {405, 501}),
        (f"GET {CHAT} HTTP/1.1", {405}),
        (f"PUT {CHAT} HTTP/1.1", {405}),
        (f"QUERY {CHAT} HTTP/1.1", {400, 405, 501}),
        (f"post {CHAT} HTTP/1.1", {400, 405, 501}),
    ],
)
def test_another_method_reaches_no_replica_and_its_body_is_no_request(
    target: Target, first: str, statuses: set[int]
) -> None:
    hidden = target.fill_in(HIDDEN.encode())
    start = target.fill_in(head(f"content-length: {len(hidden)}", first=first).encode())
    with target.plane.wire(timeout_s=5) as wire:
        answer = wire.ask(start + hidden)
        assert answer.status in statuses
        # Either it is closed now, or it goes on behind the body.
        wire.send(get("/healthz", None, ("connection: close",)))
        rest = wire.rest()
        assert rest.count(b"HTTP/1.1 ") <= 1
        assert rest == b"" or b'"status"' in rest
    assert target.reached() == []


ODD = {
    "blank-lines-before": "\r\n\r\n" + head(LENGTH) + BODY,
    "blanks-around-the-length": head(f"CONTENT-LENGTH:\t {SIZE} \t") + BODY,
    "zeros-before-the-length": head(f"content-length: 000{SIZE}") + BODY,
    "no-blank-before-the-encoding": head("Transfer-Encoding:chunked") + CHUNKED_BODY,
    "a-blank-after-the-encoding": head("transfer-encoding: chunked ") + CHUNKED_BODY,
    "an-encoding-in-capitals": head("transfer-encoding: CHUNKED") + CHUNKED_BODY,
    "extensions-and-a-trailer": chunks(
        f'00{SIZE:X};a=b;c="d;e"', end="000;f\r\nx-trailer: y\r\n\r\n"
    ),
    "headers-that-say-little": head(LENGTH, "empty:", "x: \t", "y: \xff\xe4") + BODY,
    "options-of-the-connection": head(LENGTH, "connection: keep-alive, x") + BODY,
    "asked-first": head(LENGTH, "expect: 100-continue") + BODY,
    "an-absolute-target": head(LENGTH, first=f"POST http://gateway{CHAT}?a=b HTTP/1.1") + BODY,
    "http-1.0": head(LENGTH, "connection: keep-alive", first=f"POST {CHAT} HTTP/1.0") + BODY,
    "a-byte-a-chunk": head(CHUNKED) + "".join(f"1\r\n{each}\r\n" for each in BODY) + "0\r\n\r\n",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_is_odd_but_beyond_doubt_is_served_byte_for_byte(target: Target, text: str) -> None:
    """The other side of the table: were all refused, nothing would be shown."""
    data = target.fill_in(text.encode("latin-1"))
    assert [each.body for each in conversation(data).requests] == [BODY.encode()]
    with target.plane.wire(timeout_s=5) as wire:
        answer = wire.ask(data)
        if answer.status == 100:
            answer = wire.answer()
        assert answer.status == 200
        assert wire.ask(get("/healthz")).status == 200
    assert target.reached() == [(f"POST {CHAT} HTTP/1.1", BODY)]


# -- bounds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        (head(f"x: {'y' * 200_000}", LENGTH) + BODY, {431}),
        (head(f"{'x' * 200_000}: y", LENGTH) + BODY, {431}),
        (head(*(f"x-{number}: y" for number in range(10_000)), LENGTH) + BODY, {431}),
        (head(LENGTH, first=f"POST {CHAT}?{'x' * 200_000} HTTP/1.1") + BODY, {414, 431}),
        (head("content-length: 100001"), {413}),
        (head("content-length: 999999999999999"), {413}),
        (chunks(f"{100_001:x}", "x" * 100_001), {413}),
        (head(CHUNKED) + "fff\r\n" + "x" * 4095 + "\r\nfffffff\r\n" + "x" * 100_000, {413}),
        (head(CHUNKED) + ("800\r\n" + "x" * 2048 + "\r\n") * 50, {413}),
    ],
    ids=[
        "a-value",
        "a-name",
        "many-headers",
        "a-target",
        "a-length",
        "a-vast-length",
        "a-chunk",
        "a-vast-chunk",
        "many-chunks",
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["at-once", "in-pieces"])
def test_what_is_too_large_is_refused(
    target: Target, text: str, statuses: set[int], split: bool
) -> None:
    data = target.fill_in(text.encode())
    with target.plane.wire(timeout_s=5) as wire:
        send(wire.socket, data, range(0, len(data), 5000) if split else ())
        answer = wire.answer()
        assert answer.status in statuses
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""
    assert target.reached() == []


@pytest.mark.parametrize(
    "start",
    [
        chunks(end="0\r\nx-trailer: "),
        chunks(end="0\r\nx-"),
        head(CHUNKED) + "5;a=",
        head(CHUNKED) + '5;a="',
        head(CHUNKED) + "0" * 64,
    ],
    ids=["a-trailers-value", "a-trailers-name", "an-extension", "a-quoted-extension", "a-size"],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(target: Target, start: str) -> None:
    """Behind a body that is within its limit. Nobody need know a key to send a body."""
    block = (b"0" if start.endswith("0") else b"a") * 65536
    with target.plane.wire(timeout_s=5) as wire:
        wire.send(target.fill_in(start.encode()))
        before, sent = target.plane.gateway.memory_bytes, 0
        try:
            while sent < 32 * MB:
                wire.send(block)
                sent += len(block)
        except (ConnectionResetError, BrokenPipeError):
            pass
        # What the sockets in between hold, and what is read and dropped, is sent all the same.
        assert sent < 24 * MB
        assert target.plane.gateway.memory_bytes < before + 16 * MB
    assert target.reached() == []


def test_trailers_without_end_are_refused(target: Target) -> None:
    with target.plane.wire(timeout_s=5) as wire:
        wire.send(target.fill_in(chunks(end="0\r\n").encode()))
        send(wire.socket, b"x-trailer: y\r\n" * 20_000)
        assert wire.answer().status in (400, 413, 431)
    assert target.reached() == []


# -- the corpus, and whatever comes of it ----------------------------------------------


class Answers:
    """Reads answers off a connection, to the letter: 1xx are overlooked."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self._status = 0
        self._whole = True
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._whole = False

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self._whole = True
        if self._status >= 200:
            self.statuses.append(self._status)

    @property
    def whole(self) -> bool:
        """Whether the last answer that was begun is complete."""
        return self._whole


def judge(target: Target, data: bytes, places: Any = (), *, learned: bool = False) -> None:
    """Fails where the gateway reads these bytes otherwise than the reader to the letter does.

    `learned`: on a connection whose head the gateway knows already.
    """
    wanted = conversation(data)
    if wanted.invalid:
        # What is no request will not become one; but a head must end to be looked at whole.
        data += b"\r\n\r\n"
    answers, closed = Answers(), False
    target.reached()
    with target.plane.wire(timeout_s=2) as wire:
        if learned:
            assert wire.ask(post(CHAT, target.key, chat(target.path))).status == 200
            assert len(target.reached()) == 1
        send(wire.socket, data, places)
        while not closed and (
            wanted.invalid or wanted.ended or len(answers.statuses) < len(wanted.requests)
        ):
            # A timeout fails: it waits for what will not come, or says nothing.
            try:
                got = wire.socket.recv(65536)
            except ConnectionResetError:
                got = b""
            closed = got == b""
            answers.feed(got)
    if closed:
        assert answers.whole, "an answer is cut off"
    assert len(answers.statuses) <= len(wanted.requests) + 1
    if len(answers.statuses) > len(wanted.requests):
        assert answers.statuses[-1] >= 400
    left = [
        (f"POST {CHAT} HTTP/1.1", request.body.decode("latin-1"))
        for request in wanted.requests
        if request.method == b"POST"
    ]
    for each in target.reached():
        assert each in left, "no such request was sent"
        # In order, and each once.
        left = left[left.index(each) + 1 :]
    assert target.plane.gateway.process.poll() is None


@pytest.mark.parametrize("learned", [False, True], ids=["first", "learned"])
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_a_conversation_of_the_corpus_is_read_to_the_letter(
    target: Target, file: Path, learned: bool
) -> None:
    data = target.fill_in(file.read_bytes())
    judge(target, data, learned=learned)
    judge(target, data, range(len(data)), learned=learned)


BITS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"0",
    b"9",
    b"f",
    b"-",
    b"+",
    b'"',
    b"{}",
    b"\x80",
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive\r\n",
    b"expect: 100-continue\r\n",
    b"upgrade: h2c\r\nconnection: upgrade\r\n",
    b"host: y\r\n",
    b"x: y\r\n z\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"0\r\n\r\n",
    b"1\r\nx\r\n",
    b"CONNECT ",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """One of the corpus, or two in a row, with bits taken out, put in, repeated and swapped."""
    files = draw(st.lists(st.sampled_from(CORPUS), min_size=1, max_size=2))
    data = b"".join(file.read_bytes() for file in files)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([0, 0, 1, 1, 2, 3, 10, 40])))
        kind = draw(st.sampled_from(["replace", "replace", "repeat", "drop", "letters", "cut"]))
        if kind == "replace":
            data = data[:at] + draw(st.sampled_from(BITS)) + data[end:]
        elif kind == "repeat":
            data = data[:end] + data[at:]
        elif kind == "drop":
            data = data[:at] + data[end:]
        elif kind == "letters":
            data = data[:at] + data[at:end].swapcase() + data[end:]
        elif draw(st.booleans()):
            data = data[:at]
    return data


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=changed(), places=st.lists(st.integers(1, 600), max_size=4), learned=st.booleans())
def test_whatever_comes_of_it_is_read_to_the_letter(
    target: Target, data: bytes, places: list[int], learned: bool
) -> None:
    judge(target, target.fill_in(data), places, learned=learned)


def test_noise_from_many_at_once_disturbs_nobody(target: Target) -> None:
    """The same files, cut short and run into one another, while others are served."""
    data = [target.fill_in(file.read_bytes()) for file in CORPUS]
    over = threading.Event()

    def noise(turn: int) -> None:
        while not over.is_set():
            turn += 1
            first, second = data[turn % len(data)], data[(turn * 7) % len(data)]
            with target.plane.wire() as wire:
                send(wire.socket, first[: turn % (len(first) + 1)] + second)

    threads = [threading.Thread(target=noise, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    try:
        request = post(CHAT, target.key, chat(target.path))
        with target.plane.wire(timeout_s=5) as wire:
            answers = [wire.ask(request) for _ in range(100)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert {answer.status for answer in answers} == {200}
    target.reached()
