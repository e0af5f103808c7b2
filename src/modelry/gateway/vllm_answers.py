"""What vLLM answers to chats, with what a model thinks under the name that callers know.

vLLM 0.32 calls it `reasoning`; DeepSeek's API, llama.cpp and the libraries that show it call it
`reasoning_content`. It is renamed as bytes: within a text, the quotes of such a name are escaped.
"""

from modelry.gateway.events import EventStream

_THEIRS, _OURS = b'"reasoning":', b'"reasoning_content":'


def renamed(answer: bytes) -> bytes:
    """A whole answer, or frames of a stream."""
    # Not `in`: see `EventStream.feed`.
    return answer.replace(_THEIRS, _OURS) if answer.find(_THEIRS) >= 0 else answer


class VllmStream(EventStream):
    """vLLM's event stream on its way to a caller. See `EventStream`."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        passed = super().feed(data)
        if passed.find(_THEIRS) < 0:
            return passed
        # Frames like it are not to go past this.
        self.alone = False
        return renamed(passed)
