"""A long list of inputs, cut into pieces that an engine works on one after another.

An engine that does not notice a hang-up works on to the end of what it was given: that should be
soon. A piece has work for about a second on a processor, and for every slot of its replica.
"""

from collections.abc import Sequence

import msgspec

_INPUTS = 32
_BYTES = 16 * 1024


def cut(items: Sequence[msgspec.Raw], *, whole: bool, beside_bytes: int = 0) -> list[int]:
    """Where each piece ends. `whole`: there is but one. `beside_bytes` come with every item."""
    if whole:
        return [len(items)]
    ends, start, size = [], 0, 0
    for at, item in enumerate(items):
        mine = len(memoryview(item)) + beside_bytes
        if at > start and (at - start >= _INPUTS or size + mine > _BYTES):
            ends.append(at)
            start, size = at, 0
        size += mine
    return [*ends, len(items)]


class Cutting:
    """A list that is being asked for, piece by piece; see `cut` for its arguments."""

    def __init__(self, items: Sequence[msgspec.Raw], *, whole: bool, beside_bytes: int = 0) -> None:
        self._items = items
        self._beside_bytes = beside_bytes
        self._ends = cut(items, whole=whole, beside_bytes=beside_bytes)
        self._at = 0
        self.start = 0
        """Where the piece that is due begins."""

    @property
    def due(self) -> Sequence[msgspec.Raw]:
        return self._items[self.start : self._ends[self._at]]

    @property
    def due_bytes(self) -> int:
        """Of the piece that is due, with what comes beside each of its items."""
        return sum(len(memoryview(each)) + self._beside_bytes for each in self.due)

    @property
    def is_last(self) -> bool:
        return self._at == len(self._ends) - 1

    def halve(self) -> bool:
        """Cut the piece that is due in two. False where it is one item; or so many that, to find
        the one that an engine refuses, too much work would be done for nothing.
        """
        count = len(self.due)
        if not 1 < count <= _INPUTS:
            return False
        self._ends.insert(self._at, self.start + count // 2)
        return True

    def place(self, field: str) -> str:
        """Where the piece that is due stands in the body, such as `input[3]`, if it is one item."""
        return f"{field}[{self.start}]" if len(self.due) == 1 else field

    def go_on(self) -> None:
        """To the next piece."""
        self.start = self._ends[self._at]
        self._at += 1
