"""One at a time for each name: models may share a file, and be fetched side by side."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_S = 0.1


class Turns:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[str] = set()

    @contextmanager
    def turn(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """`waiting` is called now and then until it is our turn, and may raise to give up."""
        with self._changed:
            while name in self._taken:
                self._changed.wait(_LOOK_S)
                waiting()
            self._taken.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(name)
                self._changed.notify_all()
