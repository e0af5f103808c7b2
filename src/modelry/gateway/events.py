"""An event stream on its way to the caller: counted, its usage read, otherwise as it came.

The gateway asks every stream for usage. Where the caller did not, the frame
that brings it is taken out again, and so is the empty `usage` of the others.
Frames are passed on whole: one that arrives in pieces is held until its end,
which is when its caller could first read it.

Most of what comes is whole frames that need no change, and a few searches for
bytes show it; only the others are read field by field. Most never come here, but
go the short way of those that are alike (`lane.py`).
"""

import re

import msgspec

from modelry.gateway.usage import Usage, read_answer

# A frame that is longer than any usage is passed on as it comes.
_HELD_MAX = 64 * 1024
_END = re.compile(rb"\n\r?\n")
_OBJECT = re.compile(rb"data: ?(\{[^\n\r]*\})")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class EventStream:
    """`hide_usage`: the caller did not ask for usage. `model`: what it shall be called, as
    JSON, where the engine may call it otherwise.
    """

    __slots__ = (
        "_held",
        "_hide",
        "_model",
        "_named",
        "_passing",
        "_tail",
        "alone",
        "done",
        "frames",
        "usage",
    )

    def __init__(self, *, hide_usage: bool, model: bytes | None) -> None:
        self.frames = 0
        """How many came that bring a part of the answer."""
        self.usage: Usage | None = None
        self.alone = False
        """Whether what was fed last is one whole frame that goes on as all like it do."""
        self.done = False
        """Whether the stream said that it is complete."""
        self._hide = hide_usage
        self._model = model
        self._named = b"" if model is None else b'"model":' + model
        self._held = b""
        self._passing = False
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Takes what came, returns what goes on now."""
        if (
            self._held
            or self._passing
            or data[-2:] != b"\n\n"
            # Which two of three belong together is known from the front alone.
            or data[-3:-1] == b"\n\n"
            or data.find(b"\r") >= 0
        ):
            self.alone = False
            return self._feed_pieces(data)
        # Not `in`, which first raises a TypeError within: it looks for a number.
        if (
            data.find(b'"usage"') >= 0
            or data.find(b"[DONE]") >= 0
            or (self._named and data.count(b'"model"') != data.count(self._named))
            or (data[:5] != b"data:" and data.find(b"\ndata:") < 0)
        ):
            self.alone = False
            return self._read(data, 0)[0]
        self.alone = data.find(b"\n\n") == len(data) - 2
        if not self.alone:
            return self._read(data, 0)[0]
        self.frames += 1
        return data

    @property
    def between_frames(self) -> bool:
        """Whether what comes next begins a frame."""
        return not self._held and not self._passing

    @property
    def within_frame(self) -> bool:
        """Whether the start of a frame has gone on, and its end has not."""
        return self._passing

    def end(self) -> bytes:
        """What is left when the engine has said all: a frame without its end."""
        held, self._held = self._held, b""
        return held

    def _feed_pieces(self, data: bytes) -> bytes:
        passed = b""
        if self._passing:
            found = _END.search(self._tail + data)
            if found is None:
                self._tail = (self._tail + data)[-2:]
                return data
            cut = found.end() - len(self._tail)
            passed, data = data[:cut], data[cut:]
            self._passing = False
            self.frames += 1
        # What is held has no end in it, but may have the first line end of one.
        known = max(0, len(self._held) - 2)
        read, self._held = self._read(self._held + data, known)
        passed += read
        if len(self._held) > _HELD_MAX:
            self._passing = True
            self._tail = self._held[-2:]
            passed += self.end()
        return passed

    def _read(self, data: bytes, known: int) -> tuple[bytes, bytes]:
        """What goes on of the whole frames, and the rest. No frame ends before `known`."""
        passed, start = [], 0
        while found := _END.search(data, max(start, known)):
            passed.append(self._frame(data[start : found.end()]))
            start = found.end()
        return b"".join(passed), data[start:]

    def _frame(self, frame: bytes) -> bytes:
        """The frame as it goes on, empty where it does not."""
        if frame.strip() == b"data: [DONE]":
            self.done = True
            return frame
        if not frame.startswith(b"data:") and frame.find(b"\ndata:") < 0:
            # A comment, such as keeps a connection alive, or an event's name.
            return frame
        self.frames += 1
        if b'"usage"' not in frame and not (self._named and b'"model"' in frame):
            return frame
        found = _OBJECT.search(frame)
        if found is None:
            return frame
        try:
            fields = _decode_fields(found.group(1))
        except _UNREADABLE:
            return frame
        changed = False
        said = bytes(fields.get("usage", b""))
        if said.startswith(b"{"):
            self.usage = read_answer(found.group(1))[0] or self.usage
            if self._hide and bytes(fields.get("choices", b"")).split() in ([b"[]"], [b"[", b"]"]):
                self.frames -= 1
                return b""
        elif said == b"null" and self._hide:
            del fields["usage"]
            changed = True
        if self._model is not None and bytes(fields.get("model", self._model)) != self._model:
            fields["model"] = msgspec.Raw(self._model)
            changed = True
        if not changed:
            return frame
        return frame[: found.start(1)] + _encode(fields) + frame[found.end(1) :]
