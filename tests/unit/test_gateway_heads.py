"""A head that is known by its bytes means what llhttp would have read.

Whatever is taken without being parsed is parsed here, and must come to the same.
"""

from dataclasses import dataclass, field
from typing import Any

import httptools
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from modelry.gateway.heads import known_head, whole_chunk


@dataclass
class Message:
    """What llhttp reads; `head` without the value of its Content-Length."""

    head: list[Any] = field(default_factory=list)
    lengths: list[bytes] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False


class Reader:
    """Reads messages with llhttp, as the gateway does."""

    def __init__(self, data: bytes, kind: Any) -> None:
        self.messages: list[Message] = []
        self.valid = True
        parser = self.parser = kind(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.valid = False

    @property
    def only(self) -> Message | None:
        """The message, where there is one, whole, and nothing behind it."""
        if not self.valid or len(self.messages) != 1 or not self.messages[0].whole:
            return None
        return self.messages[0]

    def on_message_begin(self) -> None:
        self.messages.append(Message())

    def on_url(self, url: bytes) -> None:
        self.messages[-1].head.append(url)

    def on_status(self, status: bytes) -> None:
        self.messages[-1].head.append(status)

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.messages[-1]
        if name.lower() == b"content-length":
            message.lengths.append(value)
            value = b""
        message.head.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        request = isinstance(parser, httptools.HttpRequestParser)
        first = parser.get_method() if request else parser.get_status_code()
        self.messages[-1].head.append((first, parser.get_http_version()))

    def on_body(self, data: bytes) -> None:
        self.messages[-1].body += data

    def on_message_complete(self) -> None:
        # Asked now, as the gateway does: afterwards llhttp has forgotten.
        self.messages[-1].head.append(self.parser.should_keep_alive())
        self.messages[-1].whole = True


names = st.sampled_from([b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
blanks = st.sampled_from([b"", b" ", b"\t", b"  "])
bodies = st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0"])
# None of these makes a gateway forget a head; the others are tried as mutations.
others = st.lists(
    st.sampled_from(
        [
            b"host: x",
            b"authorization: Bearer sk-1",
            b"x-length: 12",
            b"x: content-length: 3",
            b"content-type: application/json",
            b"empty:",
            b"content-lengthy: 4",
        ]
    ),
    max_size=4,
)
REQUESTS = [b"POST /v1/chat/completions HTTP/1.1", b"POST / HTTP/1.0\r\nconnection: keep-alive"]
ANSWERS = [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 Internal Server Error", b"HTTP/1.1 299 "]
BODILESS = [b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"]


@st.composite
def heads(draw: st.DrawFn, starts: list[bytes]) -> tuple[bytes, bytes]:
    """What stands before the digits of a length, and what after, up to the body."""
    before, after = draw(others), draw(others)
    name, blank, other_blank = draw(names), draw(blanks), draw(blanks)
    start = [draw(st.sampled_from(starts)), *before, name + b":" + blank]
    return b"\r\n".join(start), b"\r\n".join([other_blank, *after, b"", b""])


@st.composite
def messages(draw: st.DrawFn, starts: list[bytes]) -> bytes:
    before, after = draw(heads(starts))
    body, zeros = draw(bodies), draw(st.sampled_from([b"", b"", b"0", b"0000000"]))
    return before + zeros + b"%d" % len(body) + after + body


bits = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"0",
        b"7",
        b"-1",
        b"+",
        b":",
        b"\0",
        b"content-length: 3\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        "٣".encode(),
    ]
) | st.binary(max_size=3)


@st.composite
def changed(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with some of its bytes taken out and others put in."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(message)))
        gone = draw(st.sampled_from([0, 0, 1, 2, 5]))
        message = message[:at] + draw(bits) + message[at + gone :]
    return message


@st.composite
def with_a_length_of_its_own(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with another body, and a length that is right, or nearly."""
    head, end, _ = message.partition(b"\r\n\r\n")
    name = head.lower().find(b"\r\ncontent-length:")
    start = name + len(b"\r\ncontent-length:")
    stop = (head + b"\r").find(b"\r", start)
    body = draw(bodies)
    off = draw(st.sampled_from([0, 0, 0, 0, -1, 1, 10**9, 10**20]))
    written = draw(st.sampled_from([b"%d", b" %d", b"%d ", b"0%d", b"%010d", b"%x", b"+%d"]))
    return head[:start] + written % max(0, len(body) + off) + head[stop:] + end + body


def means_the_same(known_from: bytes, other: bytes, kind: Any) -> bytes | None:
    """The body that is taken of `other` unparsed. Fails where llhttp reads something else."""
    first = Reader(known_from, kind).only
    assert first is not None
    known = known_head(known_from, None)
    if known is None:
        return None
    taken = known.body_of(other)
    if taken is not None:
        read = Reader(other, kind).only
        assert read is not None, "llhttp does not read it as one whole message"
        assert read.head == first.head
        assert read.body == taken
        assert [int(length) for length in read.lengths] == [len(taken)]
    return taken


def usable(message: bytes, kind: Any) -> bool:
    """Whether a gateway would keep the head: one whole message on a connection that goes on."""
    only = Reader(message, kind).only
    return only is not None and only.head[-1] is True


@settings(max_examples=400)
@given(st.data())
@pytest.mark.parametrize("change", [changed, with_a_length_of_its_own])
def test_a_request_taken_unparsed_is_what_llhttp_reads(change: Any, data: st.DataObject) -> None:
    message = data.draw(messages(REQUESTS))
    assume(usable(message, httptools.HttpRequestParser))
    means_the_same(message, data.draw(change(message)), httptools.HttpRequestParser)


@settings(max_examples=400)
@given(st.data())
@pytest.mark.parametrize("change", [changed, with_a_length_of_its_own])
def test_an_answer_taken_unparsed_is_what_llhttp_reads(change: Any, data: st.DataObject) -> None:
    message = data.draw(messages(ANSWERS))
    assume(usable(message, httptools.HttpResponseParser))
    means_the_same(message, data.draw(change(message)), httptools.HttpResponseParser)


@pytest.mark.parametrize("start", BODILESS)
def test_a_body_behind_an_answer_that_has_none_is_not_taken(start: bytes) -> None:
    message = start + b"\r\ncontent-length: 0\r\n\r\n"
    other = start + b"\r\ncontent-length: 5\r\n\r\nhello"
    means_the_same(message, other, httptools.HttpResponseParser)


def test_an_interim_answer_is_not_taken_for_the_one_that_follows_it() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\ncontent-length: 0\r\n\r\n"
    known = known_head(interim + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "the answer")
    assert known is None or known.body_of(interim) is None


@given(heads(REQUESTS), bodies, bodies)
def test_a_known_head_is_taken_whatever_length_it_says(
    head: tuple[bytes, bytes], first: bytes, second: bytes
) -> None:
    """What it is for. If nothing were taken, all of the above would hold for nothing."""
    before, after = head[0], head[1].lstrip(b" \t")
    known = known_head(before + b"%d" % len(first) + after + first, "meaning")
    assert known is not None
    assert known.meaning == "meaning"
    assert known.body_of(before + b"%d" % len(second) + after + second) == second


@pytest.mark.parametrize(
    "message",
    [
        b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1234567890\r\n\r\n",
        b"",
        b"\r\n\r\n",
        b"content-length: 5\r\n\r\n12345",
    ],
)
def test_a_message_without_a_length_of_usual_size_is_not_known(message: bytes) -> None:
    assert known_head(message, None) is None


# -- chunks ----------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SENTINEL = b"3\r\n<|>\r\n0\r\n\r\n"


@st.composite
def chunk_like(draw: st.DrawFn) -> bytes:
    held = draw(bodies | st.sampled_from([b"0\r\n\r\n", b"5\r\nhello\r\n"]))
    size = draw(
        st.sampled_from([b"%x", b"%X", b"0%x", b"%07x", b"%08x", b"%x;a=b", b" %x", b"0x%x"])
    )
    off = draw(st.sampled_from([0, 0, 0, -1, 1, 16]))
    chunk: bytes = size % max(0, len(held) + off) + b"\r\n" + held + b"\r\n"
    return draw(changed(chunk))


@settings(max_examples=600)
@given(chunk_like())
@example(b"0\r\n\r\n")
@example(b"5\r\nhello\r\n")
@example(b"1_0\r\n" + b"x" * 16 + b"\r\n")
@example("٣\r\nabc\r\n".encode())
def test_a_chunk_taken_unparsed_is_what_llhttp_reads(chunk: bytes) -> None:
    held = whole_chunk(chunk)
    if held is None:
        return
    read = Reader(CHUNKED + chunk + SENTINEL, httptools.HttpResponseParser).only
    assert read is not None, "llhttp does not read it as a chunk"
    assert read.body == held + b"<|>"


@given(st.binary(min_size=1, max_size=300))
def test_a_chunk_in_its_plainest_form_is_taken(held: bytes) -> None:
    assert whole_chunk(b"%x\r\n%b\r\n" % (len(held), held)) == held
