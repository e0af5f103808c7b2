"""What must not be removed from the store now: it is being fetched, and no record names it yet."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Held:
    """Names of blobs and of partial files. Fetches hold, and `remove` of a clean-up asks.

    What was let go while a clean-up was under way stays until that is over: it had looked at
    the records before the fetch wrote its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: Counter[str] = Counter()
        self._cleaning = False
        self._one_cleaning = threading.Lock()
        self._let_go: set[str] = set()

    def hold(self, name: str) -> None:
        with self._lock:
            self._names[name] += 1

    def let_go(self, names: list[str]) -> None:
        with self._lock:
            self._names.subtract(names)
            self._names = +self._names
            if self._cleaning:
                self._let_go.update(names)

    @contextmanager
    def cleaning(self) -> Iterator[None]:
        """Around a clean-up, from before it looks at the records; one at a time."""
        with self._one_cleaning:
            with self._lock:
                self._cleaning = True
            try:
                yield
            finally:
                with self._lock:
                    self._cleaning = False
                    self._let_go.clear()

    def remove(self, name: str, remove: Callable[[], None]) -> bool:
        """Whether it was removed: nobody holds it, nor begins to until it is gone."""
        with self._lock:
            if self._names[name] or name in self._let_go:
                return False
            with contextlib.suppress(FileNotFoundError):
                remove()
            return True

    def is_held(self, name: str) -> bool:
        with self._lock:
            return bool(self._names[name]) or name in self._let_go


class Hold:
    """What one fetch holds; it lets go of all when it ends."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._names: list[str] = []

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.let_go(self._names)

    def add(self, name: str) -> None:
        self._held.hold(name)
        self._names.append(name)
