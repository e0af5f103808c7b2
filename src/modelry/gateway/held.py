"""A replica's whole answer while it comes: how much of it is held, and for how long.

A short one is held to its end, so that another replica may answer instead. What is to be changed
on its way out cannot go out before, so of such an answer more is held. What is held counts as
memory of what callers send does, from the size on where a connection's own buffers are left behind.
"""

from modelry.gateway.heads import Head
from modelry.gateway.memory import Memory
from modelry.gateway.replies import Reply, error
from modelry.gateway.usage import Usage, read_answer

_MOST = 4 * 1024 * 1024
"""A whole answer up to this size goes out at its end; a longer one as it comes."""
_MOST_CHANGED = 64 * 1024 * 1024
"""The same for one that is changed before it goes out: images get addresses, and endpoints
elsewhere may name another model.
"""
_COUNTED_FROM = 64 * 1024
_REFUSAL_MAX = 64 * 1024
_TAIL = 16 * 1024
"""Of one that goes out as it comes, the end is kept: usage stands there."""


class Held:
    """`changed`: whether the answer is to be changed. Of a refusal, the start will do.

    Whoever has it calls `drop` once it is not needed any more, as often as they like.
    """

    passing = False
    """Whether it goes out as it comes."""
    crowded = False
    """Whether there was no memory for it."""

    def __init__(self, head: Head, memory: Memory, *, changed: bool) -> None:
        self._refusal = head.status >= 400
        self._is_json = head.is_json
        self._most = _MOST_CHANGED if changed and head.is_json else _MOST
        self._memory = memory
        self._counted = 0
        self._data: bytes | bytearray = b""

    def add(self, data: bytes) -> bool:
        """Hold `data` as well. False where that is more than may be held."""
        if not self._data:
            self._data = data
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(self._data)
            self._data += data
        size = len(self._data)
        if self._refusal:
            self._data = self._data[:_REFUSAL_MAX]
            return True
        if size > _COUNTED_FROM:
            if not self._memory.take(size - self._counted, stranger=False):
                self.crowded = True
                return False
            self._counted = size
        return size <= self._most

    def let_go(self) -> bytes:
        """All of it, to go out; from now on, what comes has `passed`."""
        data = bytes(self._data)
        self.drop()
        self.passing = True
        self._data = data[-_TAIL:]
        return data

    def passed(self, data: bytes) -> None:
        self._data = (bytes(self._data) + data)[-_TAIL:]

    def drop(self) -> None:
        if self._counted:
            self._memory.give_back(self._counted, stranger=False)
            self._counted = 0
        self._data = b""

    def taken(self) -> bytes:
        """All of it. It stays counted until `drop`."""
        data, self._data = bytes(self._data), b""
        return data

    def refusal(self) -> Reply:
        """Of one that may not be held any longer, and is of no use in parts."""
        if self.crowded:
            message = "The answers under way are too large together. Please try again."
            return error(503, "overloaded", message, retry_after_s=1)
        message = (
            f"The engine's answer is over {_MOST_CHANGED >> 20} MiB, which is more than can be "
            "worked on here. Ask for less at a time; images in b64_json may be larger."
        )
        return error(502, "answer_too_large", message)

    @property
    def usage(self) -> Usage | None:
        """What one that has passed said of its usage, which engines put last."""
        tail = bytes(self._data)
        at = tail.rfind(b'"usage"')
        if not self._is_json or at < 0:
            return None
        return read_answer(b"{" + tail[at:])[0]
