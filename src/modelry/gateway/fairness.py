"""A queue that is fair between keys, by tokens: start-time fair queuing.

Time here is counted in tokens. Each key that waits stands at a moment: that at
which it would begin its next request, had every key been given tokens at the
same pace. The one that stands earliest is next; its request moves it on by the
tokens that it costs. Whoever comes new stands at the present, so a key that
asks for little is next at once, however many requests another has thrown in
(Goyal, Vin and Cheng, "Start-time fair queuing", 1996; docs/adr/0012 says why
not by turns). Pure: it knows neither clock nor replicas.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

CREDIT_TOKENS = 1024
"""What a key gets back for requests that cost less than expected puts it at most this far ahead."""
_KEYS_REMEMBERED = 1024


class _Line(Generic[Item]):
    __slots__ = ("at", "items", "key")

    def __init__(self, key: str, at: int) -> None:
        self.key = key
        self.at = at
        self.items: deque[tuple[int, Item]] = deque()


class FairQueue(Generic[Item]):
    """Items of keys, each with its cost in tokens."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Item]] = {}
        self._now = 0
        self._left_at: dict[str, int] = {}
        """Where keys stood that have nothing waiting now."""
        self.size = 0
        """How many items wait."""

    def __len__(self) -> int:
        return self.size

    def push(
        self, key: str, cost: int, item: Item, ahead_of: Callable[[Item], bool] | None = None
    ) -> None:
        """Add an item at the end of its key's line, or before the first it goes `ahead_of`."""
        line = self._lines.get(key)
        if line is None:
            at = max(self._now, self._left_at.pop(key, 0))
            line = self._lines[key] = _Line(key, at)
        at = len(line.items)
        if ahead_of is not None:
            others = (index for index, (_, other) in enumerate(line.items) if ahead_of(other))
            at = next(others, at)
        line.items.insert(at, (cost, item))
        self.size += 1

    def pop(self, may: Callable[[str], bool]) -> Item | None:
        """The next item, of a key that `may` go now; None where there is none."""
        eligible = [line for line in self._lines.values() if may(line.key)]
        if not eligible:
            return None
        line = min(eligible, key=lambda line: line.at)
        self._now = max(self._now, line.at)
        cost, item = line.items.popleft()
        line.at += cost
        self.size -= 1
        self._drop_if_empty(line)
        return item

    def remove(self, key: str, item: Item) -> None:
        """Take an item out that waits no longer, if it is here."""
        line = self._lines.get(key)
        if line is None:
            return
        for index, (_, waiting) in enumerate(line.items):
            if waiting is item:
                del line.items[index]
                self.size -= 1
                break
        self._drop_if_empty(line)

    def settle(self, key: str, tokens: int) -> None:
        """Charge what a request used beyond its cost (less than 0: give it back)."""
        earliest = self._now - CREDIT_TOKENS
        line = self._lines.get(key)
        if line is not None:
            line.at = max(earliest, line.at + tokens)
        elif key in self._left_at:
            self._left_at[key] = max(earliest, self._left_at[key] + tokens)

    def last_of_longest(self) -> tuple[str, Item]:
        """The newest item of the key that has most of them waiting."""
        line = max(self._lines.values(), key=lambda line: len(line.items))
        return line.key, line.items[-1][1]

    def waiting(self, key: str) -> int:
        line = self._lines.get(key)
        return 0 if line is None else len(line.items)

    def items(self) -> list[Item]:
        return [item for line in self._lines.values() for _, item in line.items]

    def _drop_if_empty(self, line: _Line[Item]) -> None:
        if line.items:
            return
        del self._lines[line.key]
        self._left_at[line.key] = line.at
        if len(self._left_at) > _KEYS_REMEMBERED:
            # Whoever stood in the past stands at the present when it comes back.
            ahead = {key: at for key, at in self._left_at.items() if at > self._now}
            self._left_at = ahead if len(ahead) <= _KEYS_REMEMBERED else {}
