"""Files that the gateways of a data directory keep for a while: bounded, and fair to owners.

What is kept is written by one gateway and read by any. Together the files take at most so many
bytes; beyond that, whoever holds most loses the oldest. What lies in them, and who may have it,
is for others to know: `image_files.py`, `dialects/responses/store.py`.
"""

import contextlib
import heapq
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelry.errors import ModelryError

log = logging.getLogger(__name__)

DISK_LEFT_BYTES = 128 * 1024 * 1024
"""What a file leaves of the disk: the database and the records of usage lie on it too."""
OWNER_DIGITS = 8
"""So many characters at the start of a name stand for whose the file is."""
_DRAFT = ".new"
_DRAFT_LOST_S = 60.0


@dataclass(frozen=True, order=True)
class _Found:
    written_at: float
    size: int
    path: str


class KeptFiles:
    """`what`: what a file is, in messages, such as "image"; `ttl_s`: how long one is kept;
    `most_bytes`: of all together, beyond which files go before their time: of whoever holds
    most, the oldest first.

    `keep` and `sweep` take their time: they are for threads, any number at once.
    """

    def __init__(self, folder: Path, what: str, *, ttl_s: float, most_bytes: int) -> None:
        self._folder = folder
        self._what = what
        self._ttl_s = ttl_s
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._held_bytes: int | None = None
        """Of all files, as last counted, and what was kept here since. What other gateways have
        kept since then is not in it."""

    def keep(self, name: str, data: bytes) -> None:
        """Store a file, whole or not at all.

        Raises `ModelryError`, also where the disk is nearly full.
        """
        draft = self._folder / f"{name}{_DRAFT}"
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            self._make_room(len(data))
            draft.touch(mode=0o600)
            draft.write_bytes(data)
            draft.rename(self._folder / name)
        except OSError as problem:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise ModelryError(f"the {self._what} could not be kept: {problem.strerror}") from None

    @property
    def has_room(self) -> bool:
        """Whether the disk has room for a small file; a cheap look at it."""
        folder = self._folder if self._folder.exists() else self._folder.parent
        try:
            return shutil.disk_usage(folder).free > DISK_LEFT_BYTES
        except OSError:
            return False

    def path(self, name: str) -> Path:
        return self._folder / name

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A file whose time has not come; None where there is none. Raises `OSError`, and
        `ModelryError` where it has more than `most_bytes`.
        """
        try:
            with self.path(name).open("rb") as file:
                told = os.fstat(file.fileno())
                if time.time() - told.st_mtime > self._ttl_s:
                    return None
                if told.st_size > most_bytes:
                    raise ModelryError(f"the {self._what} is too large to be read")
                return file.read()
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> bool:
        """Whether there was such a file. Raises `OSError`."""
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def sweep(self) -> None:
        """Delete what has expired, and what is too much."""
        with self._lock:
            self._clear(0)

    # -- room ----------------------------------------------------------------

    def _make_room(self, size: int) -> None:
        """Count `size` bytes that are to come. Raises `ModelryError` where there is no room."""
        what = self._what
        if size > self._most_bytes:
            raise ModelryError(f"the {what} is larger than all that is kept may be together")
        with self._lock:
            held = self._held_bytes
            if held is None or held + size > self._most_bytes:
                held = self._clear(size)
            if shutil.disk_usage(self._folder).free - size < DISK_LEFT_BYTES:
                raise ModelryError(f"the {what} could not be kept: the disk is nearly full")
            self._held_bytes = held + size

    def _clear(self, coming: int) -> int:
        """The same where `coming` bytes more need room. Returns how many bytes are left."""
        now, left = time.time(), 0
        kept: dict[str, list[_Found]] = {}
        for name, found in self._files():
            patience_s = _DRAFT_LOST_S if name.endswith(_DRAFT) else self._ttl_s
            if now - found.written_at > patience_s:
                _delete(found.path)
            else:
                kept.setdefault(name[:OWNER_DIGITS], []).append(found)
                left += found.size
        if left + coming > self._most_bytes:
            # Some more than that: the next file is not to count all others again.
            left -= _thin_out(kept, left + coming - self._most_bytes // 10 * 9)
        self._held_bytes = left
        return left

    def _files(self) -> Iterator[tuple[str, _Found]]:
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return
        except OSError as problem:
            log.warning("%s could not be read: %s", self._folder, problem.strerror)
            return
        for entry in entries:
            # One that another gateway has deleted, or that its disk has lost.
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                yield entry.name, _Found(found.st_mtime, found.st_size, entry.path)


def _thin_out(kept: dict[str, list[_Found]], size: int) -> int:
    """Delete at least `size` bytes, or all: always the oldest of whoever holds most at that
    moment, so that nobody's files push out those of others who have fewer. Returns how many.
    """
    owners = [(-sum(each.size for each in files), owner) for owner, files in kept.items()]
    heapq.heapify(owners)
    for files in kept.values():
        files.sort(reverse=True)
    freed = 0
    while freed < size and owners:
        held, owner = owners[0]
        oldest = kept[owner].pop()
        _delete(oldest.path)
        freed += oldest.size
        if kept[owner]:
            heapq.heapreplace(owners, (held + oldest.size, owner))
        else:
            heapq.heappop(owners)
    return freed


def _delete(path: str) -> None:
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as problem:
        log.warning("%s could not be deleted: %s", path, problem.strerror)
