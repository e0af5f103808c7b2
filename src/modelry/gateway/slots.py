"""Slots that several gateway processes share: a replica never gets more than it has.

A slot is a byte of the replica's file, and holding it is holding a lock on that
byte. The kernel gives each lock to one process at a time and takes it back
when the process ends, however it ends. Two system calls a request; no message.
"""

import contextlib
import fcntl
import logging
import os
from collections import Counter
from pathlib import Path

log = logging.getLogger(__name__)


class _File:
    __slots__ = ("descriptor", "mine", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        # Once only: closing any descriptor of it would drop every lock.
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.mine: set[int] = set()


class SharedSlots:
    """The claims of this process. They live as long as it does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._users: Counter[str] = Counter()

    def enlist(self, replica_id: str) -> None:
        """One more service stands on the replica: adapters share that of their base."""
        self._users[replica_id] += 1

    def take(self, replica_id: str, slots: int) -> bool:
        """Claim one of the replica's slots, unless all are held."""
        file = self._file(replica_id)
        if file is None:
            return True
        for slot in range(slots):
            if slot not in file.mine and _lock(file.descriptor, slot):
                file.mine.add(slot)
                return True
        return False

    def release(self, replica_id: str) -> None:
        """Give one back."""
        file = self._files.get(replica_id)
        if file is not None and file.mine:
            fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, file.mine.pop())

    def forget(self, replica_id: str) -> None:
        """A service does not stand on it any more; after the last one nobody takes a slot of it."""
        self._users[replica_id] -= 1
        if self._users[replica_id] > 0:
            return
        del self._users[replica_id]
        file = self._files.pop(replica_id, None)
        if file is not None:
            os.close(file.descriptor)
            with contextlib.suppress(OSError):
                file.path.unlink()

    def _file(self, replica_id: str) -> _File | None:
        file = self._files.get(replica_id)
        if file is None:
            try:
                file = self._files[replica_id] = _File(self._folder / f"{replica_id}.slots")
            except OSError as error:
                log.warning("slots are not shared with other gateways: %s", error)
        return file


def _lock(descriptor: int, slot: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
    except OSError:
        return False
    return True
