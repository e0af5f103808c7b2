"""What keys have used of their limits, shared by the gateway processes of one machine.

Each process writes a file of its own, mapped into memory, and reads those of
the others: no lock and no message. A row a key: a ring of seconds, the month's
tokens, and the requests under way. Files stay, so that a month's tokens
survive every restart; a new process takes over one whose owner is gone.

Reading the others and then counting oneself is not one step: two processes
may both take the last place of a limit. That is the one request a process
that a limit is exact to (docs/adr/0010).
"""

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

log = logging.getLogger(__name__)

RING_S = 64
_TOTALS = struct.Struct("<QIIqI")
"""Version (of any change), requests under way, month, the month's tokens, epoch."""
_VERSION = struct.Struct("<Q")
_REST = struct.Struct("<IIqI")
_EPOCH = struct.Struct("<I")
"""At the start of the file, where no key's row is: how often it was taken over. What an earlier
owner had under way ended with it.
"""
_BUCKET = struct.Struct("<IIq")
"""Unix second, requests, tokens."""
_RING = struct.Struct("<" + "IIq" * RING_S)
_RING_AT = 64
ROW_BYTES = _RING_AT + _RING.size
_GROW_ROWS = 256


@dataclass(frozen=True)
class Row:
    """What one process counted for one key. `buckets`: (second, requests, tokens)."""

    version: int = 0
    inflight: int = 0
    month: int = 0
    month_tokens: int = 0
    epoch: int = 0
    buckets: tuple[tuple[int, int, int], ...] = ()


_NOTHING = Row()


class _Other:
    """The file of another process, mapped for reading."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map: mmap.mmap | None = None
        self._rows: dict[int, Row] = {}
        self.alive = True

    def row(self, number: int) -> Row:
        start = number * ROW_BYTES
        if not self._covers(start):
            return _NOTHING
        assert self._map is not None
        version = _TOTALS.unpack_from(self._map, start)[0]
        known = self._rows.get(number)
        if known is None or known.version != version:
            known = self._rows[number] = _row(self._map, start)
        if known.inflight and not (self.alive and known.epoch == _EPOCH.unpack_from(self._map)[0]):
            return replace(known, inflight=0)
        return known

    def look(self) -> None:
        """See whether its owner lives: one that was killed has nothing under way."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            self.alive = True
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.alive = False

    def _covers(self, start: int) -> bool:
        if self._map is not None and start + ROW_BYTES <= len(self._map):
            return True
        size = os.fstat(self._descriptor).st_size
        if start + ROW_BYTES > size:
            return False
        self._map = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class Counters:
    """One process's file, and its view of the others'. Raises `OSError` where none can be had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path, self._descriptor = _own(folder)
        self._map: mmap.mmap | None = None
        self._others: dict[str, _Other] = {}
        size = os.fstat(self._descriptor).st_size // ROW_BYTES * ROW_BYTES
        self._rows = 0
        self._epoch = 1
        self.alone = True
        """Whether no other file was there when it last looked around."""
        if size:
            mapped = self._remap(size // ROW_BYTES)
            self._epoch = _EPOCH.unpack_from(mapped)[0] + 1
            _EPOCH.pack_into(mapped, 0, self._epoch)
        self.look_around()

    def own(self, number: int) -> Row:
        """What this process, or the one whose file it took over, counted for key `number`."""
        if not 1 <= number < self._rows:
            return _NOTHING
        assert self._map is not None
        return _row(self._map, number * ROW_BYTES)

    def others(self, number: int) -> list[Row]:
        """The rows of the others, without the requests under way of those that are gone."""
        return [other.row(number) for other in self._others.values()] if number else []

    def write(
        self,
        number: int,
        version: int,
        inflight: int,
        month: int,
        month_tokens: int,
        buckets: Iterable[Sequence[int]],
    ) -> None:
        """Show the others what changed. On a full disk they are not told."""
        if number < 1 or (number >= self._rows and not self._grow(number)):
            return
        assert self._map is not None
        start = number * ROW_BYTES
        for bucket in buckets:
            at = start + _RING_AT + bucket[0] % RING_S * _BUCKET.size
            _BUCKET.pack_into(self._map, at, *bucket)
        _REST.pack_into(
            self._map, start + _VERSION.size, inflight, month, month_tokens, self._epoch
        )
        # Last: who reads a version has all that belongs to it.
        _VERSION.pack_into(self._map, start, version)

    def look_around(self) -> None:
        """Find processes that came, and those that went. Now and then is enough."""
        names = {path.name for path in self._folder.glob("*.counts")} - {self._path.name}
        for name in names - self._others.keys():
            with contextlib.suppress(OSError):
                self._others[name] = _Other(self._folder / name)
        for name in self._others.keys() - names:
            self._others.pop(name).close()
        for other in self._others.values():
            other.look()
        self.alone = not self._others

    def _grow(self, number: int) -> bool:
        rows = (number // _GROW_ROWS + 1) * _GROW_ROWS
        try:
            # Reserved, not sparse: a page that cannot be had on a full disk
            # would end this process.
            start = self._rows * ROW_BYTES
            os.posix_fallocate(self._descriptor, start, rows * ROW_BYTES - start)
        except OSError as error:
            log.warning("limits are not shared with other gateways: %s", error)
            return False
        _EPOCH.pack_into(self._remap(rows), 0, self._epoch)
        return True

    def _remap(self, rows: int) -> mmap.mmap:
        self._rows = rows
        self._map = mmap.mmap(self._descriptor, rows * ROW_BYTES)
        return self._map


def _row(mapped: mmap.mmap, start: int) -> Row:
    version, inflight, month, tokens, epoch = _TOTALS.unpack_from(mapped, start)
    ring = _RING.unpack_from(mapped, start + _RING_AT)
    seconds = zip(ring[::3], ring[1::3], ring[2::3], strict=True)
    buckets = tuple(sorted(bucket for bucket in seconds if bucket[0]))
    return Row(version, inflight, month, tokens, epoch, buckets)


def _own(folder: Path) -> tuple[Path, int]:
    """A file whose owner is gone, or a new one; locked for as long as this process lives."""
    for path in sorted(folder.glob("*.counts")):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        return path, descriptor
    path = folder / f"{secrets.token_hex(8)}.counts"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return path, descriptor
