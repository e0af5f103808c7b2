"""The short way of a frame that is like one before it: from a replica's socket to its caller's.

Many frames of a stream differ in a few letters of text alone. Once one has come as
a chunk of its own and went on as it was, the next that is as long, and the same
before and after its text, needs no other look.

This is what a gateway of chats does most, so steps are counted here. Streams are
many, and what each touches has left the processor's caches since its last frame:
all of it lies in one object, and what streams have in common is shared
(docs/adr/0011).
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic

from modelry.gateway.metrics import Observations
from modelry.routing.messages import BUCKETS_S

_PLAIN = bytes({*range(0x20, 0x100)} - {*b'"\\'})
"""What cannot end a text in JSON, nor a line."""
_TEXT = re.compile(rb'"(?:content|reasoning_content|text|delta)": ?"([ !#-\[\]-\xff]*)"')
_LESSONS = 32
_KNOWN_MOST = 32
_NONE: dict[int, tuple[bytes, bytes]] = {}
_CHUNK_MOST = 2048
_SHARED_MOST = 256
_ends: dict[bytes, bytes] = {}
"""What follows the text in the streams of late, which many engines end alike."""


class Lane:
    """Of one stream. `write` takes chunks as they are coded; `between` the seconds between frames.

    `frames`: how many it took. `last_at`: when one last came, this way or another.
    """

    __slots__ = (
        "_after",
        "_after_size",
        "_before",
        "_before_size",
        "_between",
        "_known",
        "_lessons",
        "_open",
        "_size",
        "_write",
        "frames",
        "last_at",
    )

    def __init__(self, between: Observations, write: Callable[[bytes], None], now: float) -> None:
        self.frames = 0
        self.last_at = now
        self._between = between
        self._write = write
        self._lessons = 0
        self._known: dict[int, tuple[bytes, bytes]] = {}
        """Length of a chunk → how the last of that length began, up to its text, and ended."""
        self._open = self._known
        self._size = -1
        """Length of the last one, how it began, and what followed its text."""
        self._before = self._after = b""
        self._before_size = self._after_size = 0

    def takes(self, chunk: bytes) -> bool:
        """Pass a whole chunk on, if it is known; whether it was."""
        if len(chunk) != self._size and not self._turn_to(len(chunk)):
            return False
        if (
            not chunk.startswith(self._before)
            or not chunk.endswith(self._after)
            # Any other byte may end the text, or the line.
            or chunk[self._before_size : -self._after_size].translate(None, _PLAIN)
        ):
            return False
        now = monotonic()
        gap_s = now - self.last_at
        self.last_at = now
        between = self._between
        between.counts[bisect_left(BUCKETS_S, gap_s)] += 1
        between.total_s += gap_s
        self.frames += 1
        self._write(chunk)
        return True

    def learn(self, chunk: bytes) -> None:
        """Know chunks like this one, of a single frame that went on as it was, unless there have
        been many that were not alike.
        """
        # A stream whose frames change with the time is learned anew each time.
        if self._lessons > _LESSONS + self.frames or len(chunk) > _CHUNK_MOST:
            return
        self._lessons += 1
        found = _TEXT.search(chunk)
        if found is None:
            return
        after = chunk[found.end(1) :]
        if len(_ends) >= _SHARED_MOST:
            _ends.clear()
        if len(self._known) >= _KNOWN_MOST:
            self._known.clear()
        self._known[len(chunk)] = chunk[: found.start(1)], _ends.setdefault(after, after)
        self._size = -1

    def stand(self, between_frames: bool) -> None:
        """Within a frame, let nothing through."""
        self._open = self._known if between_frames else _NONE
        self._size = -1

    def _turn_to(self, size: int) -> bool:
        known = self._open.get(size)
        if known is None:
            return False
        self._size = size
        self._before, self._after = known
        self._before_size, self._after_size = len(self._before), len(self._after)
        return True
