"""Event streams leave as they came, but for what the gateway takes out, however they arrive.

Each stream is compared with what a plain reading of its frames, one by one, leads to.
"""

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.gateway.events import EventStream

CORPUS = sorted(Path(__file__).parents[1].joinpath("corpus", "sse").glob("*.sse"))
OURS = b'"u-1/ours"'
HELD_MAX = 64 * 1024
_FRAME = re.compile(rb".*?\n\r?\n", re.DOTALL)
_DATA = re.compile(rb"data: ?(\{[^\n\r]*\})")

Pairs: TypeAlias = list[tuple[str, Any]]


# -- the plain reading -----------------------------------------------------------------


@dataclass
class Reading:
    """What is left of a stream: its frames, each as `parts` has it, and what they tell.

    `chunks` of the frames bring a part of an answer.
    """

    frames: list[Any] = field(default_factory=list)
    chunks: int = 0
    usage: tuple[int, int, int] | None = None
    done: bool = False


def split(stream: bytes) -> list[bytes]:
    """Frames, each with the blank line that ends it, and at last what has no end."""
    frames = _FRAME.findall(stream)
    rest = stream[sum(map(len, frames)) :]
    return [*frames, rest] if rest else frames


def parts(frame: bytes) -> tuple[bytes, Pairs | None, bytes]:
    """What stands before the JSON object of a frame, its fields in order, what stands after.

    So that blanks around a field that was taken out do not matter. Other frames are bytes.
    """
    found = _DATA.search(frame)
    if found is None:
        return frame, None, b""
    pairs: Pairs = json.loads(found.group(1), object_pairs_hook=list)
    return frame[: found.start(1)], pairs, frame[found.end(1) :]


def reading(stream: bytes, *, hide_usage: bool, model: bytes | None) -> Reading:
    read = Reading()
    for frame in split(stream):
        before, pairs, after = parts(frame)
        if pairs is None or not _FRAME.fullmatch(frame):
            # What has no end goes on as it is.
            read.frames.append((before, pairs, after))
            read.done |= frame.splitlines()[:-1] == [b"data: [DONE]"]
            continue
        fields = dict(pairs)
        usage = fields.get("usage", "absent")
        if isinstance(usage, list):
            read.usage = numbers(dict(usage))
            if hide_usage and fields.get("choices") == []:
                continue
        elif usage is None and hide_usage:
            pairs = [(name, value) for name, value in pairs if name != "usage"]
        if model is not None:
            pairs = [
                (name, json.loads(model) if name == "model" else value) for name, value in pairs
            ]
        read.chunks += 1
        read.frames.append((before, pairs, after))
    return read


def numbers(usage: dict[str, Any]) -> tuple[int, int, int]:
    details = dict(usage.get("prompt_tokens_details") or [])
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return prompt, completion, details.get("cached_tokens", 0)


# -- the stream itself -----------------------------------------------------------------


def passed(stream: EventStream, pieces: list[bytes]) -> bytes:
    out = [stream.feed(piece) for piece in pieces]
    return b"".join([*out, stream.end()])


def told(stream: EventStream) -> tuple[int, int, int] | None:
    usage = stream.usage
    if usage is None:
        return None
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(ends)]


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def agree(data: bytes, splits: list[list[bytes]], **mode: Any) -> None:
    """Fails unless the stream, in whatever pieces, comes to what the plain reading says."""
    wanted = reading(data, **mode)
    for pieces in splits:
        stream = EventStream(**mode)
        out = passed(stream, pieces)
        assert [parts(frame) for frame in split(out)] == wanted.frames
        assert told(stream) == wanted.usage
        assert wanted.chunks <= stream.frames <= len(wanted.frames)
        assert stream.done == wanted.done
        if mode == AS_IT_CAME:
            assert out == data


AS_IT_CAME = {"hide_usage": False, "model": None}
modes = pytest.mark.parametrize(
    ("hide_usage", "model"),
    [(False, None), (True, None), (False, OURS), (True, OURS)],
    ids=["as-it-came", "usage-hidden", "renamed", "usage-hidden-renamed"],
)


@modes
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_a_stream_split_at_every_byte(file: Path, hide_usage: bool, model: bytes | None) -> None:
    data = file.read_bytes()
    in_two = [[data[:place], data[place:]] for place in range(len(data))]
    agree(data, [*in_two, blocks(data, 1)], hide_usage=hide_usage, model=model)


# -- streams made up -------------------------------------------------------------------

# What would mislead a search for bytes: an engine may well write such things.
TRAPS = [
    "[DONE]",
    "data: [DONE]\n\n",
    '"usage":null',
    ',"usage":null',
    '"model":"theirs"',
    '"choices":[]',
    '{"usage":{"prompt_tokens":1,"completion_tokens":1}}',
    '\\"usage\\":null\\',
    "\n\n",
    "\r\n\r\n",
    "ä 🙂 \u2028",
]

texts = st.sampled_from(TRAPS) | st.text(max_size=12)
counts = st.integers(0, 10**6)
THEIRS = "theirs"
NESTED: list[tuple[str, Any]] = [("usage", None), ("model", THEIRS), ("choices", [])]


class Fields(list[tuple[str, Any]]):
    """An object whose fields stand in this order."""


@st.composite
def usages(draw: st.DrawFn) -> Fields:
    usage = Fields([("prompt_tokens", draw(counts)), ("completion_tokens", draw(counts))])
    if draw(st.booleans()):
        usage.append(("prompt_tokens_details", Fields([("cached_tokens", draw(counts))])))
    return usage


@st.composite
def choices(draw: st.DrawFn) -> list[Fields]:
    choice = Fields([("index", 0), ("delta", Fields([("content", draw(texts))]))])
    nested = st.sampled_from(NESTED)
    choice.extend(draw(st.lists(nested, max_size=2, unique_by=lambda pair: pair[0])))
    return [choice]


@st.composite
def chunks(draw: st.DrawFn) -> str:
    fields: list[tuple[str, Any]] = [("id", draw(texts))]
    fields.append(("choices", draw(choices()) if draw(st.booleans()) else []))
    if draw(st.booleans()):
        fields.append(("model", THEIRS))
    if draw(st.booleans()):
        fields.append(("usage", draw(st.none() | usages())))
    if draw(st.booleans()):
        hidden = draw(st.sampled_from(NESTED))
        fields.append(("meta", Fields([hidden, ("note", draw(texts))])))
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (",", ": ")]))
    raw = draw(st.booleans())
    start = draw(st.sampled_from(["data: ", "data:", "event: chunk\ndata: ", ": hi\ndata: "]))
    return start + written(Fields(draw(st.permutations(fields))), comma, colon, raw)


def written(value: Any, comma: str, colon: str, raw: bool) -> str:
    if isinstance(value, Fields):
        pairs = [
            json.dumps(name) + colon + written(each, comma, colon, raw) for name, each in value
        ]
        return "{" + comma.join(pairs) + "}"
    if isinstance(value, list):
        return "[" + comma.join(written(each, comma, colon, raw) for each in value) + "]"
    return json.dumps(value, ensure_ascii=not raw)


frames = chunks() | st.sampled_from(
    [": keep-alive", "event: ping\ndata: {}", "data: [DONE]", "retry: 10", "data: {broken", ""]
)
ends = st.sampled_from(["\n\n", "\r\n\r\n"])
places = st.lists(st.integers(0, 5000), max_size=8)
TAILS = ["", "data: ", 'data: {"id":"x","usage":nul', "data: [DONE]", "\n", "\r\n", ": x\r"]


def lines_ended(frame: str, end: str) -> bytes:
    return (frame.replace("\n", end[: len(end) // 2]) + end).encode("utf-8", "surrogatepass")


@modes
@settings(max_examples=150)
@given(given_frames=st.lists(frames, max_size=6), end=ends, tail=st.sampled_from(TAILS), at=places)
def test_a_stream_split_anywhere(
    given_frames: list[str], end: str, tail: str, at: list[int], hide_usage: bool, model: bytes
) -> None:
    data = b"".join(lines_ended(frame, end) for frame in given_frames) + tail.encode()
    agree(data, [cut(data, at), [data]], hide_usage=hide_usage, model=model)


@modes
@given(given_frames=st.lists(st.tuples(frames, ends), max_size=6), at=places)
def test_a_stream_whose_lines_end_now_so_now_so(
    given_frames: list[tuple[str, str]], at: list[int], hide_usage: bool, model: bytes
) -> None:
    """As behind a proxy that adds comments of its own."""
    data = b"".join(lines_ended(frame, end) for frame, end in given_frames)
    agree(data, [cut(data, at), [data]], hide_usage=hide_usage, model=model)


# -- what is no stream at all ----------------------------------------------------------

bits = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b"data:",
        b'{"usage":null,',
        b',"usage":null}',
        b'{"choices":[],"usage":{"prompt_tokens":1}}',
        b'"model":"x"',
        b"{",
        b'"',
        b"\\",
        b"[DONE]",
        b"\xff\0",
    ]
)
rubbish = st.lists(bits | st.binary(max_size=4), max_size=30).map(b"".join)


@settings(max_examples=200)
@given(data=rubbish, at=places)
def test_rubbish_goes_on_as_it_came(data: bytes, at: list[int]) -> None:
    assert passed(EventStream(hide_usage=False, model=None), cut(data, at)) == data


@modes
@settings(max_examples=200)
@given(data=rubbish, at=places)
def test_rubbish_comes_out_the_same_in_one_piece_or_many(
    data: bytes, at: list[int], hide_usage: bool, model: bytes | None
) -> None:
    whole = EventStream(hide_usage=hide_usage, model=model)
    pieces = EventStream(hide_usage=hide_usage, model=model)
    assert passed(pieces, cut(data, at)) == passed(whole, [data])
    assert told(pieces) == told(whole)
    assert pieces.done == whole.done


# -- frames beyond measure -------------------------------------------------------------

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'


def fed_in_blocks(stream: EventStream, data: bytes, block: int) -> bytes:
    """Fails where the stream ever holds more than one usual frame and the last block."""
    out = 0
    passed_on = []
    for start in range(0, len(data), block):
        piece = data[start : start + block]
        passed_on.append(stream.feed(piece))
        out += len(passed_on[-1])
        assert start + len(piece) - out <= HELD_MAX + block
    return b"".join([*passed_on, stream.end()])


@pytest.mark.parametrize("block", [1000, 16384, 65536, 262144])
@pytest.mark.parametrize("line", [b"data: " + b"x" * 2_000_000, b"y" * 2_000_000])
def test_a_line_without_end_is_not_held(line: bytes, block: int) -> None:
    stream = EventStream(hide_usage=True, model=None)
    assert fed_in_blocks(stream, line, block) == line
    assert stream.within_frame


@given(
    size=st.integers(HELD_MAX - 200, HELD_MAX + 200),
    end=ends,
    block=st.sampled_from([1, 2, 3, 5, 16384]),
    lead=st.integers(0, 10),
)
@settings(max_examples=60)
def test_what_follows_a_frame_beyond_measure_is_read_as_ever(
    size: int, end: str, block: int, lead: int
) -> None:
    """Wherever the cuts fall, the middle of the blank line between the two included."""
    stop = end.encode()
    long = b'data: {"choices":[{"text":"' + b"x" * size + b'"}]}' + stop
    after = USAGE + stop + b"data: [DONE]" + stop
    # All but its end in large pieces, so that the small ones fall where it matters.
    at = len(long) - 4 - lead
    pieces = [*cut(long[:at], list(range(0, at, 16384))), *blocks(long[at:] + after, block)]
    stream = EventStream(hide_usage=True, model=None)
    assert passed(stream, pieces) == long + b"data: [DONE]" + stop
    assert told(stream) == (3, 4, 0)
    assert stream.done
    assert not stream.within_frame


def test_a_stream_that_breaks_off_says_whether_it_was_within_a_frame() -> None:
    stream = EventStream(hide_usage=False, model=None)
    # A frame that is still held has not begun for its caller.
    steps = [
        (b'data: {"a"', b"", False),
        (b":1}\n\n", b'data: {"a":1}\n\n', False),
        (b"data: " + b"x" * 100_000, b"data: " + b"x" * 100_000, True),
        (b"\n\n", b"\n\n", False),
    ]
    for data, passed_on, within in steps:
        assert (stream.feed(data), stream.within_frame) == (passed_on, within)
