"""llama.cpp's event stream on its way to a caller: see `LlamaAnswers` for what is done to it.

Most frames of a chat need nothing and go on as they came, past all of this where they are like one
before them (`lane.py`). Of a completion, every frame gets another id, which is done to bytes.
"""

from collections.abc import Callable

import msgspec

from modelry.gateway.events import EventStream
from modelry.gateway.llama_answers import OUR_ID, THEIR_ID, Json, LlamaAnswers
from modelry.gateway.replies import engine_refusal
from modelry.gateway.usage import read_answer

# What stands in frames that are to be mended. Within a text, its quotes would be escaped.
_USAGE, _FIRST, _TIMINGS, _ERROR = b'"usage"', b'"content":null', b'"timings"', b'"error":'
_BEGIN, _END, _DONE, _NOTHING = b"data: ", b"\n\n", b"data: [DONE]", b"data: null"
_THEIRS = b'"id":"%b' % THEIR_ID.encode()
_OURS = b'"id":"%b' % OUR_ID.encode()
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)

_decode_chunk = msgspec.json.Decoder(Json).decode
_encode = msgspec.json.Encoder().encode


class LlamaStream(EventStream):
    """`hide_usage`: the caller did not ask for usage."""

    __slots__ = ("_answers", "_reads_all", "_renames", "refused")

    def __init__(self, answers: LlamaAnswers, *, hide_usage: bool) -> None:
        super().__init__(hide_usage=hide_usage, model=None)
        self._answers = answers
        self._reads_all = answers.reads_all
        self._renames = not answers.is_chat
        self.refused: object = None
        """What the engine said instead of an answer, where a stream begins with that."""

    def feed(self, data: bytes) -> bytes:
        # Not `in`: see `EventStream.feed`.
        if (
            self._reads_all
            or self._is_due
            or data.find(_FIRST) >= 0
            or data.find(_TIMINGS) >= 0
            or data.find(_ERROR) >= 0
            or (self._renames and data.find(_NOTHING) >= 0)
        ):
            self.alone = False
            return self._feed_pieces(data)
        passed = super().feed(data)
        return data.replace(_THEIRS, _OURS, 1) if self._renames and self.alone else passed

    @property
    def _is_due(self) -> bool:
        """Whether what comes is to begin a chat's answer."""
        return not self.frames and not self._renames

    def writes(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """What writes coded chunks of frames that go the short way."""
        return _renaming(write) if self._renames else write

    def _frame(self, frame: bytes) -> bytes:
        said = frame.strip()
        if said == _DONE:
            return self._written(self._answers.left()) + super()._frame(frame)
        if said == _NOTHING:
            # So llama.cpp opens the stream of a list of prompts.
            return b""
        mended = (
            self._reads_all
            or self._renames
            or frame.find(_USAGE) >= 0
            or frame.find(_FIRST) >= 0
            or frame.find(_TIMINGS) >= 0
            or frame.find(_ERROR) >= 0
        )
        if not (mended or self._is_due) or not said.startswith(_BEGIN):
            return super()._frame(frame)
        try:
            chunk = _decode_chunk(said[len(_BEGIN) :])
            problem = chunk.get("error")
            if problem is not None and not self.frames:
                self.refused = problem
                return b""
            if problem is not None:
                return _BEGIN + engine_refusal(500, {"error": problem}).body + _END
            brings = bool(chunk.get("choices"))
            chunks = self._answers.chunks(chunk)
        except (msgspec.DecodeError, *_MALFORMED):
            return super()._frame(frame)
        if not mended and chunks == [chunk]:
            # It begins as it is to.
            return super()._frame(frame)
        self.frames += brings
        return self._written(chunks)

    def _written(self, chunks: list[Json]) -> bytes:
        out = []
        for chunk in chunks:
            data = _encode(chunk)
            if "usage" in chunk:
                self.usage = read_answer(data)[0] or self.usage
                if self._hide:
                    continue
            out.append(_BEGIN + data + _END)
        return b"".join(out)


def _renaming(write: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def renamed(chunk: bytes) -> None:
        data = chunk[chunk.index(b"\n") + 1 : -2].replace(_THEIRS, _OURS, 1)
        write(b"%x\r\n%b\r\n" % (len(data), data))

    return renamed
