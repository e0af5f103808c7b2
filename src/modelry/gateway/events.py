"""An event stream on its way to the caller: counted, its usage read, otherwise as it came.

The gateway asks every stream for usage. Where the caller did not, the frame
that brings it is taken out again, and so is the empty `usage` of the others.
Frames are passed on whole: one that arrives in pieces is held until its end,
which is when its caller could first read it.
"""

import re

from modelry.gateway.usage import Usage, read_answer

# A frame that is longer than any usage is passed on as it comes.
_HELD_MAX = 64 * 1024
_MODEL = re.compile(rb'"model" ?: ?"(?:[^"\\]|\\.)*"')
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,')


class EventStream:
    """`hide_usage`: the caller did not ask for usage. `model`: what it shall be called, as
    JSON, where the engine may call it otherwise.
    """

    __slots__ = ("_held", "_hide", "_model", "_passing", "_theirs", "done", "frames", "usage")

    def __init__(self, *, hide_usage: bool, model: bytes | None) -> None:
        self.frames = 0
        self.usage: Usage | None = None
        self.done = False
        """Whether the stream said that it is complete."""
        self._hide = hide_usage
        self._model = model
        self._theirs: bytes | None = None
        self._held = b""
        self._passing = False

    def feed(self, data: bytes) -> bytes:
        """Takes what came, returns what goes on now."""
        if self._held or self._passing or data[-2:] != b"\n\n" or b"\r" in data:
            data = self._whole_frames(data)
            if not data:
                return b""
        self.frames += data.count(b"\n\n")
        if self._model is not None:
            data = self._renamed(data)
        if b'"usage"' in data:
            data = b"".join([self._read(frame) for frame in _split(data)])
        if b"[DONE]" in data[-12:]:
            self.done = True
            self.frames -= 1
        return data

    @property
    def within_frame(self) -> bool:
        """Whether the start of a frame has gone on, and its end has not."""
        return self._passing

    def end(self) -> bytes:
        """What is left when the engine has said all: a frame without its end."""
        held, self._held = self._held, b""
        return held

    def _whole_frames(self, data: bytes) -> bytes:
        """All up to the last end of a frame; the rest is held."""
        data = self._held + data
        self._held = b""
        cut = max(_after(data, b"\n\n"), _after(data, b"\n\r\n"))
        if not cut:
            if self._passing or len(data) > _HELD_MAX:
                self._passing = True
                return data
            self._held = data
            return b""
        self._passing = False
        whole, self._held = data[:cut], data[cut:]
        if b"\r\n\r\n" in whole:
            self.frames += whole.count(b"\r\n\r\n")
        return whole

    def _renamed(self, data: bytes) -> bytes:
        assert self._model is not None
        if self._theirs is None:
            found = _MODEL.search(data)
            if found is None:
                return data
            ours = b'"model":' + self._model
            self._theirs = found.group()
            if self._theirs == ours:
                # They call it as we do: nothing to look for in this stream.
                self._model = None
                return data
        return data.replace(self._theirs, b'"model":' + self._model)

    def _read(self, frame: bytes) -> bytes:
        start = frame.find(b"{")
        if start < 0 or b'"usage"' not in frame:
            return frame
        usage, _ = read_answer(frame[start:].rstrip())
        if usage is not None:
            self.usage = usage
            if self._hide and _brings_only_usage(frame):
                self.frames -= 1
                return b""
        elif self._hide:
            return _NO_USAGE.sub(b"", frame, count=1)
        return frame


def _after(data: bytes, end: bytes) -> int:
    """Where the last `end` ends; 0 where there is none."""
    found = data.rfind(end)
    return 0 if found < 0 else found + len(end)


_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def _brings_only_usage(frame: bytes) -> bool:
    return _NO_CHOICES.search(frame) is not None


def _split(data: bytes) -> list[bytes]:
    """Frames, each with the blank line that ends it."""
    if b"\r" in data:
        return [part for part in re.split(rb"(?<=\n\r\n)", data) if part]
    parts = data.split(b"\n\n")
    last = parts.pop()
    frames = [part + b"\n\n" for part in parts]
    return [*frames, last] if last else frames
