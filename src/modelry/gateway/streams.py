"""Bodies that are passed on while they arrive, and never held: models on their way in.

Nothing here knows of connections. Between its reader and its sink a body holds what
came before there was a sink, which is what came in one read.
"""

from collections.abc import Callable


class BodyStream:
    """`length`: bytes of it in all, as its head says."""

    __slots__ = ("_held", "_sink", "ended", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self.ended = False
        """Whether all of it has come."""
        self._held: list[bytes] = []
        self._sink: Callable[[bytes], None] | None = None

    def feed(self, data: bytes) -> None:
        if self._sink is None:
            self._held.append(data)
        else:
            self._sink(data)

    def end(self) -> None:
        self.ended = True

    def pour(self, sink: Callable[[bytes], None]) -> None:
        """Have `sink` get all of it, what has come already first."""
        held, self._held = self._held, []
        self._sink = sink
        for data in held:
            sink(data)

    def drop(self) -> None:
        """Nobody wants the rest."""
        self._held.clear()
        self._sink = _nowhere


def _nowhere(data: bytes) -> None:
    """Where the rest of a body goes whose request was answered before it had come."""
