"""A queue that is fair between keys, by tokens: deficit round robin.

Each key that waits has a line of its own and a deficit, the tokens it may
still spend this round. Lines take turns; each turn adds a quantum to a line's
deficit, and a line whose deficit covers its first item gives it up. So over
time every key that waits gets as many tokens as any other, however many
requests it throws in (Shreedhar and Varghese, "Efficient fair queuing using
deficit round robin", 1995). Pure: it knows neither clock nor replicas.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

QUANTUM_TOKENS = 512


class _Line(Generic[Item]):
    __slots__ = ("deficit", "items", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.deficit = 0
        self.items: deque[tuple[int, Item]] = deque()


class FairQueue(Generic[Item]):
    """Items of keys, each with its cost in tokens."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Item]] = {}
        self._turns: deque[_Line[Item]] = deque()
        self.size = 0
        """How many items wait."""

    def __len__(self) -> int:
        return self.size

    def push(self, key: str, cost: int, item: Item, *, first: bool = False) -> None:
        """Add an item at the end of its key's line, or as its `first`."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key)
            self._turns.append(line)
        if first:
            line.items.appendleft((cost, item))
        else:
            line.items.append((cost, item))
        self.size += 1

    def pop(self, may: Callable[[str], bool]) -> Item | None:
        """The next item of a key that `may` have its turn now; None where there is none."""
        eligible = [line for line in self._turns if may(line.key)]
        if not eligible:
            return None
        # As many whole rounds as pass before any line can pay, at once.
        rounds = min(_rounds(line) for line in eligible)
        if rounds > 1:
            for line in eligible:
                line.deficit += (rounds - 1) * QUANTUM_TOKENS
        while True:
            line = self._turns[0]
            if may(line.key):
                if line.deficit >= line.items[0][0]:
                    return self._take(line)
                line.deficit += QUANTUM_TOKENS
            self._turns.rotate(-1)

    def remove(self, key: str, item: Item) -> None:
        """Take an item out that waits no longer."""
        line = self._lines[key]
        for index, (_, waiting) in enumerate(line.items):
            if waiting is item:
                del line.items[index]
                self.size -= 1
                break
        self._drop_if_empty(line)

    def settle(self, key: str, tokens: int) -> None:
        """Charge what a request used beyond its cost (less than 0: give it back)."""
        line = self._lines.get(key)
        if line is not None:
            line.deficit -= tokens

    def last_of_longest(self) -> tuple[str, Item]:
        """The newest item of the key that has most of them waiting."""
        line = max(self._lines.values(), key=lambda line: len(line.items))
        return line.key, line.items[-1][1]

    def waiting(self, key: str) -> int:
        line = self._lines.get(key)
        return 0 if line is None else len(line.items)

    def items(self) -> list[Item]:
        return [item for line in self._turns for _, item in line.items]

    def _take(self, line: _Line[Item]) -> Item:
        cost, item = line.items.popleft()
        line.deficit -= cost
        self.size -= 1
        self._drop_if_empty(line)
        return item

    def _drop_if_empty(self, line: _Line[Item]) -> None:
        if not line.items:
            # A deficit is not saved up for later.
            del self._lines[line.key]
            self._turns.remove(line)


def _rounds(line: _Line[Item]) -> int:
    """Turns until the line can pay for its first item."""
    return max(0, -((line.deficit - line.items[0][0]) // QUANTUM_TOKENS))
