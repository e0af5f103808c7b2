"""Usage on its way to the control plane: lines in files, until they are taken.

Each gateway process writes a folder of its own under `spools`, in segments. A
line is written before the answer's end is sent, straight to the kernel, so
that it survives this process being killed. What an earlier process left is
sent by whoever comes next. Nothing is deleted before the control plane has
said that it holds it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections import deque
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SEGMENT_BYTES = 8 * 1024 * 1024
_BATCH_BYTES = 256 * 1024
_UNWRITTEN_MAX = 20_000
_LOCK = "lock"


@dataclass(frozen=True)
class Slice:
    """Whole lines of `source`, from `start` of `segment` on."""

    source: str
    segment: int
    start: int
    data: bytes


class Source:
    """One spool's folder, read from its oldest segment on."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.name = folder.name
        self._descriptor = descriptor
        self._segment, self._offset = min(self._segments(), default=1), 0

    def next_slice(self) -> Slice | None:
        """What is not taken yet, a batch of whole lines; None where that is nothing."""
        while True:
            try:
                data = self._read()
            except OSError as error:
                log.warning("the usage in %s cannot be read now: %s", self.folder, error)
                return None
            if data:
                return Slice(self.name, self._segment, self._offset, data)
            later = [number for number in self._segments() if number > self._segment]
            if not later:
                return None
            with contextlib.suppress(OSError):
                self._file(self._segment).unlink()
            self._segment, self._offset = min(later), 0

    def taken(self, segment: int, offset: int) -> None:
        """All before `offset` of `segment` is held elsewhere."""
        if (segment, offset) > (self._segment, self._offset):
            self._segment, self._offset = segment, offset

    def remove(self) -> None:
        """Delete the folder, once there is nothing left in it."""
        with contextlib.suppress(OSError):
            for file in self.folder.iterdir():
                file.unlink()
            self.folder.rmdir()
        os.close(self._descriptor)

    def _read(self) -> bytes:
        """Raises `OSError` where what is there cannot be read."""
        try:
            with self._file(self._segment).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_BATCH_BYTES)
        except FileNotFoundError:
            return b""
        # The rest of a line that a killed machine left half written has no end.
        return data[: data.rfind(b"\n") + 1]

    def _segments(self) -> list[int]:
        names = [file.stem for file in self.folder.glob("*.jsonl")]
        return sorted(int(name) for name in names if name.isdigit())

    def _file(self, segment: int) -> Path:
        return self.folder / f"{segment:08d}.jsonl"


class Spool:
    """Where this process writes. Where the disk is full, lines wait in memory."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        own = folder / secrets.token_hex(8)
        own.mkdir(mode=0o700)
        lock = _lock(own)
        assert lock is not None
        self.own = Source(own, lock)
        self._segment = 0
        # Its first segment is opened by the first line.
        self._written = _SEGMENT_BYTES
        self._file = -1
        self._unwritten: deque[bytes] = deque(maxlen=_UNWRITTEN_MAX)
        self._told = False

    def write(self, line: bytes) -> None:
        """Keep a line, its newline included."""
        if self._unwritten:
            self._unwritten.append(line)
            return
        try:
            if self._written < _SEGMENT_BYTES and os.write(self._file, line) == len(line):
                self._written += len(line)
            else:
                self._append_anew(line)
        except OSError as error:
            self._unwritten.append(line)
            if not self._told:
                log.warning("usage cannot be written and waits in memory: %s", error.strerror)
                self._told = True

    def retry(self) -> None:
        """Write what could not be written before."""
        try:
            while self._unwritten:
                self._append_anew(self._unwritten[0])
                self._unwritten.popleft()
            self._told = False
        except OSError:
            return

    def left_behind(self) -> list[Source]:
        """The spools of processes that are gone, now ours to send."""
        found = []
        for folder in sorted(self._root.iterdir()):
            if folder.is_dir() and folder.name != self.own.name:
                lock = _lock(folder)
                if lock is not None:
                    found.append(Source(folder, lock))
        return found

    def _append_anew(self, line: bytes) -> None:
        """In a segment that has room, behind the last whole line. Raises `OSError`."""
        if self._written >= _SEGMENT_BYTES:
            self._next_segment()
        # Where the disk is full, a line is there whole or not at all.
        os.ftruncate(self._file, self._written)
        if os.write(self._file, line) < len(line):
            os.ftruncate(self._file, self._written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += len(line)

    def _next_segment(self) -> None:
        path = self.own.folder / f"{self._segment + 1:08d}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._segment, self._written = file, self._segment + 1, 0


def _lock(folder: Path) -> int | None:
    """The folder's lock, held until this process ends; None where another holds it."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
