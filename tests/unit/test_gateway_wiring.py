"""A stream through connection, relay and lane, however its bytes are cut.

What its caller gets is compared with what a reading of the frames alone leads to.
"""

import json
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.gateway.answers import AnswerWriter, Host
from modelry.gateway.body import Head
from modelry.gateway.call import Call
from modelry.gateway.events import EventStream
from modelry.gateway.metrics import ServiceMeter
from modelry.gateway.replica import Replica
from modelry.gateway.request import Request
from modelry.gateway.service import Service
from modelry.gateway.upstream import Upstream
from modelry.gateway.upstream_connection import UpstreamConnection
from modelry.routing.messages import EndpointAddress, KeyGrant, Route

OURS = "u-1/ours"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Caller(AnswerWriter):
    def _finished(self) -> None: ...


class Pool(Upstream):
    """Keeps no connection, so that none outlives its test."""

    def keep(self, connection: UpstreamConnection) -> None: ...


class Stage:
    """A call whose replica has just been connected to."""

    def __init__(self) -> None:
        memory = SimpleNamespace(release=lambda request: None)
        host = SimpleNamespace(draining=False, cors=None, log=None, memory=memory)
        self.client = Caller(cast(Host, host))
        self.caller = Wire()
        self.client._transport = cast(Any, self.caller)
        request = Request("", time.monotonic())
        request.id, request.path, request.method = b"req_1", b"/v1/chat/completions", b"POST"
        request.body = b'{"model":"x","stream":true}'
        self.client._current = request
        address = EndpointAddress("ep_1", "http://replica.example/v1", 4)
        pool = Pool("tcp:replica.example:80")
        route = SimpleNamespace(service_id="s", access_path=OURS, collect=False, dialect="")
        self.replica = Replica(address, pool, cast(Route, route))
        self.replica.heads[request.path] = b"POST / HTTP/1.1\r\nx-request-id: "
        self.used: list[int | None] = []
        service = SimpleNamespace(
            route=route,
            meter=ServiceMeter(),
            leave=lambda call, replica, used: self.used.append(used),
            has_other=lambda tried: False,
            enter_again=lambda call: None,
        )
        desk = SimpleNamespace(
            clock=time.monotonic, record=lambda line: None, answer_timeout_s=60.0,
            replica_failed=lambda service, replica, why: None,
        )  # fmt: skip
        self.call = Call(
            cast(Any, desk), cast(Service, service), KeyGrant("k", "0", "u-1"), request,
            Head(model="x", stream=True), self.client, None, 1,
        )  # fmt: skip
        self.call._replica = self.replica
        self.connection = UpstreamConnection(pool)
        self.connection.connection_made(cast(Any, Wire()))
        self.connection.begin(self.call)

    @property
    def frames(self) -> int:
        events = self.call._events
        lane = self.call._lane
        return (events.frames if events else 0) + (lane.frames if lane else 0)


def dechunked(data: bytes) -> bytes:
    """The body of a chunked answer, without its head; it must be whole."""
    _, _, data = data.partition(b"\r\n\r\n")
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        assert data[count : count + 2] == b"\r\n"
        body, data = body + data[:count], data[count + 2 :]
        if not count:
            assert data == b""
            return body
    raise AssertionError("it has no end")


def frame(text: str, model: str = OURS, **more: object) -> bytes:
    fields = {"model": model, "choices": [{"delta": {"content": text}}], **more}
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


TEXTS = ["a", "b", " c", " d", '"', "\\", "\n", "[DONE]", "usage", '","usage":null,"', ""]
frames = st.builds(frame, st.sampled_from(TEXTS)) | st.sampled_from(
    [
        frame("a", model="theirs"),
        frame("b", usage=None),
        frame("a", created=1),
        frame("b", created=2),
        b": ping\n\n",
        b"event: x\n" + frame("a"),
        frame("a").replace(b"\n", b"\r\n"),
        b"data: " + b"x" * 70_000 + b"\n\n",
        b"data: " + b"x" * 70_000 + b"\n" + frame("a"),
        b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}\n\n',
    ]
)


@settings(max_examples=250, deadline=None)
@given(
    given_frames=st.lists(frames, min_size=1, max_size=14),
    cuts=st.lists(st.integers(0, 400_000), max_size=6),
    chunk_cuts=st.lists(st.integers(0, 300_000), max_size=3),
    apart=st.booleans(),
)
def test_whatever_way_a_stream_is_cut_its_caller_gets_the_same(
    given_frames: list[bytes], cuts: list[int], chunk_cuts: list[int], apart: bool
) -> None:
    body = b"".join(given_frames) + b"data: [DONE]\n\n"
    # A chunk a frame, as engines have it, or chunks of anything.
    parts = [*given_frames, b"data: [DONE]\n\n"]
    if chunk_cuts:
        ends = sorted({0, len(body), *(cut % len(body) for cut in chunk_cuts)})
        parts = [body[start:end] for start, end in pairwise(ends)]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    stream = HEAD + b"".join(chunks) + b"0\r\n\r\n"
    if apart:
        pieces = [HEAD, *chunks, b"0\r\n\r\n"]
        if cuts:
            pieces = [p for piece in pieces for p in halves(piece, cuts[0])]
    else:
        ends = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
        pieces = [stream[start:end] for start, end in pairwise(ends)]
    agree(pieces, body)


def agree(pieces: list[bytes], body: bytes) -> None:
    """Fails unless a caller gets of these pieces what reading `body` byte by byte leads to."""
    stage = Stage()
    for piece in pieces:
        stage.connection.data_received(piece)
    plain = EventStream(hide_usage=True, model=json.dumps(OURS).encode())
    wanted = b"".join(plain.feed(body[at : at + 1]) for at in range(len(body))) + plain.end()
    assert dechunked(stage.caller.written) == wanted
    assert stage.connection.lane is None
    usage = plain.usage
    assert (
        stage.used == [0 if usage is None else usage.prompt_tokens + usage.completion_tokens]
        or usage is None
    )
    assert stage.frames == plain.frames


def halves(piece: bytes, cut: int) -> list[bytes]:
    """Now and then a piece comes in two."""
    at = cut % (3 * len(piece))
    return [piece[:at], piece[at:]] if 0 < at < len(piece) else [piece]


def coded(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE = b"data: [DONE]\n\n"
END = coded(DONE) + b"0\r\n\r\n"


def test_what_looks_like_a_known_chunk_within_another_is_a_part_of_it() -> None:
    known = coded(frame("b"))
    outer = known + b"\n\n"
    pieces = [
        HEAD, coded(frame("a")), coded(frame("c")),
        b"%x\r\n" % len(outer), known, b"\n\n\r\n", END,
    ]  # fmt: skip
    agree(pieces, frame("a") + frame("c") + outer + DONE)


def test_a_known_chunk_behind_the_start_of_a_frame_does_not_overtake_it() -> None:
    parts = [frame("a"), frame("c"), b": held\n", frame("b"), DONE]
    agree([HEAD, *map(coded, parts), b"0\r\n\r\n"], b"".join(parts))


def test_a_stream_whose_frames_change_with_the_time_keeps_to_the_short_way() -> None:
    """As those do that say in each when it was made."""
    stage = Stage()
    stage.connection.data_received(HEAD)
    for second in range(10):
        for _ in range(20):
            stage.connection.data_received(coded(frame("abc", created=1000 + second)))
    lane = stage.call._lane
    assert lane is not None
    assert lane.frames == 10 * 19


@pytest.mark.parametrize(("n", "tokens"), [(None, 5 + 10), (1, 5 + 10), (3, 5 + 30)])
def test_of_several_answers_each_is_charged(n: int | None, tokens: int) -> None:
    """The engine tells the usage of each, and of their prompt with it."""
    stage = Stage()
    cast(Any, stage.call._service).route.collect = True
    stage.call._head.n = n
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":10}}\n\n'
    stage.connection.data_received(HEAD)
    for number in range(33):
        stage.connection.data_received(coded(frame(f"{number:03}")))
    for _ in range(n or 1):
        stage.connection.data_received(coded(usage))
    stage.connection.data_received(END)
    assert stage.used == [tokens]
