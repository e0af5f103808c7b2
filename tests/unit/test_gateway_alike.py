"""Chunks that are known to be like one before them fare as if each had been read."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.gateway.events import EventStream
from modelry.gateway.heads import whole_chunk
from modelry.gateway.lane import Lane
from modelry.gateway.metrics import Observations


def coded(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(text: str, *, name: str = "content", colon: str = ":", **more: object) -> bytes:
    delta = {"index": 0, "delta": {name: text}, "finish_reason": None}
    fields = {"id": "c1", "model": "theirs", "choices": [delta], **more}
    said = json.dumps(fields, separators=(",", colon), ensure_ascii=False)
    return f"data: {said}\n\n".encode()


class Relay:
    """A stream that is read as the relay does it; `written` has what took the short way."""

    def __init__(self, *, hide_usage: bool, model: bytes | None) -> None:
        self.events = EventStream(hide_usage=hide_usage, model=model)
        self.written: list[bytes] = []
        self.between = Observations()
        self.lane = Lane(self.between, self.written.append, time.monotonic())

    @property
    def frames(self) -> int:
        return self.events.frames + self.lane.frames

    def passes(self, chunk: bytes) -> bool:
        """Whether it takes the short way."""
        return self.lane.takes(chunk)

    def feed(self, data: bytes) -> bytes:
        passed = self.events.feed(data)
        self.lane.stand(self.events.between_frames)
        return passed

    def read(self, chunk: bytes) -> bytes:
        """What goes on of one that does not."""
        data = whole_chunk(chunk)
        assert data is not None
        passed = self.feed(data)
        if passed is data and self.events.alone:
            self.lane.learn(chunk)
        return passed


@pytest.mark.parametrize("name", ["content", "reasoning_content", "text", "delta"])
@pytest.mark.parametrize("colon", [":", ": "])
def test_a_frame_that_differs_in_its_text_alone_is_known(name: str, colon: str) -> None:
    stream = Relay(hide_usage=True, model=None)
    assert not stream.passes(coded(frame(" one", name=name, colon=colon)))
    stream.read(coded(frame(" one", name=name, colon=colon)))
    assert stream.passes(coded(frame(" two", name=name, colon=colon)))
    assert stream.written == [coded(frame(" two", name=name, colon=colon))]
    assert stream.frames == 2
    assert sum(stream.between.counts) == 1
    # Another length is another frame, until one was read.
    assert not stream.passes(coded(frame(" four", name=name, colon=colon)))


@pytest.mark.parametrize(
    "other",
    [
        frame("o\\e"),
        frame('"e"'),
        frame("o\ne"),
        frame("one").replace(b"one", b"\n\ne"),
        frame("one").replace(b"one", b"o\re"),
        frame("one").replace(b"one", b'","'),
        frame("one").replace(b"c1", b"c2"),
        frame("one").replace(b"null", b"true"),
        frame("one") + frame("two"),
    ],
)
def test_a_frame_that_differs_in_more_is_not(other: bytes) -> None:
    stream = Relay(hide_usage=True, model=None)
    stream.read(coded(frame("one")))
    assert not stream.passes(coded(other))
    assert stream.frames == 1


def test_within_a_frame_nothing_is_known() -> None:
    stream = Relay(hide_usage=True, model=None)
    stream.read(coded(frame("one")))
    assert stream.feed(b"data: ") == b""
    assert not stream.passes(coded(frame("two")))
    assert stream.feed(b"{}\n\n") == b"data: {}\n\n"
    assert stream.passes(coded(frame("two")))


def test_a_frame_that_must_be_changed_is_never_known() -> None:
    hidden = Relay(hide_usage=True, model=None)
    named = Relay(hide_usage=False, model=b'"ours"')
    for _ in range(3):
        for stream, each in ((hidden, frame("one", usage=None)), (named, frame("one"))):
            assert not stream.passes(coded(each))
            assert stream.read(coded(each)) != each


def test_the_end_of_a_frame_that_was_too_long_to_hold_is_no_frame() -> None:
    """What it looks like was never held against the name of the model, or against usage."""
    stream = Relay(hide_usage=True, model=b'"ours"')
    stream.feed(b": " + b"x" * 70_000)
    tail = b"\n" + frame("one", usage={"prompt_tokens": 1})
    assert stream.read(coded(tail)) == tail
    assert not stream.passes(coded(b"\n" + frame("two", usage={"prompt_tokens": 1})))


def test_a_comment_brings_no_part_of_an_answer() -> None:
    stream = Relay(hide_usage=True, model=None)
    for _ in range(2):
        assert stream.read(coded(b": ping\n\n")) == b": ping\n\n"
        assert stream.read(coded(b"event: ping\n\n")) == b"event: ping\n\n"
    assert stream.frames == 0
    named = b"event: delta\n" + frame("one")
    assert stream.read(coded(named)) == named
    assert stream.passes(coded(b"event: delta\n" + frame("two")))
    assert stream.frames == 2


def test_streams_whose_frames_all_differ_are_not_learned_without_end() -> None:
    stream = Relay(hide_usage=False, model=None)
    for number in range(1000):
        stream.read(coded(frame("x" * number)))
    known = [number for number in range(1000) if stream.passes(coded(frame("y" * number)))]
    assert 0 < len(known) <= 32


TEXTS = ["a", "b", "ab", " a", '"', "\\", "\n", "é", "usage", "[DONE]", '","usage":null,"', ""]
frames = st.builds(
    frame,
    st.sampled_from(TEXTS),
    name=st.sampled_from(["content", "text", "role"]),
) | st.sampled_from(
    [
        frame("a", usage=None),
        frame("b", usage={"prompt_tokens": 1, "completion_tokens": 2}),
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
        b": ping\n\n",
        frame("a") + frame("b"),
        frame("a").replace(b"\n", b"\r\n"),
        frame("a")[:-1],
        frame("ab")[:20],
        frame("ab")[20:],
        b"\n",
    ]
)


@settings(max_examples=400)
@given(
    pieces=st.lists(frames, max_size=30),
    hide=st.booleans(),
    model=st.sampled_from([None, b'"ours"', b'"theirs"']),
)
def test_what_is_known_fares_as_if_it_were_read(
    pieces: list[bytes], hide: bool, model: bytes | None
) -> None:
    plain = EventStream(hide_usage=hide, model=model)
    quick = Relay(hide_usage=hide, model=model)
    for piece in pieces:
        chunk = coded(piece)
        passed = piece if quick.passes(chunk) else quick.read(chunk)
        assert passed == plain.feed(piece)
        events = quick.events
        assert (quick.frames, events.done) == (plain.frames, plain.done)
        assert (events.within_frame, events.usage) == (plain.within_frame, plain.usage)
    assert quick.events.end() == plain.end()
