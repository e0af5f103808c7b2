"""Usage on its way to the control plane: lines in files, until they are taken.

Each gateway process writes a folder of its own under `spools`, in segments that
are mapped into memory: a line is with the kernel the moment it is copied, before
the answer's end is sent, so that it survives this process being killed, and
costs no system call. Segments are reserved whole, because a page that a full
disk has not got would end the process; behind the last line they are zeros.

What an earlier process left is sent by whoever comes next. Nothing is deleted
before the control plane has said that it holds it.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_SEGMENT_BYTES = 4 * 1024 * 1024
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
        """What is not taken yet, a batch of whole lines; None where that is nothing.

        Raises `OSError` where what is there cannot be read.
        """
        while True:
            data = self._read()
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

    def drop_if_taken(self, segment: int, end: int) -> bool:
        """Delete a segment that ends at `end`, where all of it is held elsewhere."""
        taken = (self._segment, self._offset) >= (segment, end)
        if taken:
            with contextlib.suppress(OSError):
                self._file(segment).unlink()
        return taken

    def remove(self) -> None:
        """Delete the folder, once there is nothing left in it."""
        with contextlib.suppress(OSError):
            for file in self.folder.glob("*.jsonl"):
                file.unlink()
            # Last: until then nobody else can take the folder for their own.
            (self.folder / _LOCK).unlink()
            self.folder.rmdir()
        os.close(self._descriptor)

    def _read(self) -> bytes:
        try:
            with self._file(self._segment).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_BATCH_BYTES)
        except FileNotFoundError:
            return b""
        # A line that is half written has no end; behind the last there are zeros.
        zeros = data.find(b"\0")
        return data[: data.rfind(b"\n", 0, len(data) if zeros < 0 else zeros) + 1]

    def _segments(self) -> list[int]:
        names = [file.stem for file in self.folder.glob("*.jsonl")]
        return sorted(int(name) for name in names if name.isdigit())

    def _file(self, segment: int) -> Path:
        return self.folder / f"{segment:08d}.jsonl"


class Spool:
    """Where this process writes. Where the disk is full, lines wait in memory."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self.name = secrets.token_hex(8)
        self.own: Source | None = None
        self._segment = 0
        # Its first segment is opened by the first line.
        self._map: mmap.mmap | None = None
        self._size = 0
        self._end = 0
        self._copied = 0
        self._unwritten: deque[bytes] = deque(maxlen=_UNWRITTEN_MAX)
        self._told = False
        self.on_full: Callable[[bytes], None] | None = None
        """Gets the lines of a segment that nobody has asked for, before the next is begun."""

    def write(self, line: bytes) -> None:
        """Keep a line, its newline included."""
        end = self._end + len(line)
        if end <= self._size and not self._unwritten:
            self._map[self._end : end] = line  # type: ignore[index]
            self._end = end
        else:
            self._unwritten.append(line)
            self.retry()

    def retry(self) -> None:
        """Write what could not be written before."""
        while self._unwritten:
            line = self._unwritten[0]
            end = self._end + len(line)
            if end > self._size:
                try:
                    self._next_segment()
                except OSError as error:
                    if not self._told:
                        log.warning("usage cannot be written, it waits in memory: %s", error)
                    self._told = True
                    return
                continue
            assert self._map is not None
            self._map[self._end : end] = line
            self._end = end
            self._unwritten.popleft()
        self._told = False

    def new_lines(self) -> bytes:
        """The lines written since this was last asked."""
        if self._map is None or self._copied == self._end:
            return b""
        lines, self._copied = self._map[self._copied : self._end], self._end
        return lines

    def left_behind(self) -> list[Source]:
        """The spools of processes that are gone, now ours to send."""
        found = []
        for folder in sorted(self._root.iterdir()):
            if folder.is_dir() and folder.name != self.name:
                lock = _lock(folder)
                if lock is not None:
                    found.append(Source(folder, lock))
        return found

    def _own_source(self) -> Source:
        """The folder of this process, made when it is first needed. Raises `OSError`."""
        if self.own is None:
            folder = self._root / self.name
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = _lock(folder)
            if lock is None:
                raise OSError(f"{folder} cannot be locked")
            self.own = Source(folder, lock)
        return self.own

    def _next_segment(self) -> None:
        """Raises `OSError` where the disk has no room for it."""
        own = self._own_source()
        if self.on_full is not None:
            self.on_full(self.new_lines())
        # Room for one is enough where all of it was taken.
        if own.drop_if_taken(self._segment, self._end) and self._map is not None:
            self._map.close()
            self._map, self._size, self._end, self._copied = None, 0, 0, 0
        path = own.folder / f"{self._segment + 1:08d}.jsonl"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SEGMENT_BYTES)
            mapped = mmap.mmap(descriptor, _SEGMENT_BYTES)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._map, self._size = mapped, _SEGMENT_BYTES
        self._segment += 1
        self._end = self._copied = 0


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
