"""A replica's log file: the engine writes to it directly, this rotates and reads it.

The engine holds the file open in append mode, so it goes on logging while no
control plane runs. Rotation therefore copies and truncates instead of
renaming: an engine that appends simply goes on at the new end. A line written
between the copy and the truncation is lost, which a log can bear.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

MAX_BYTES = 5_000_000
_KEPT = 2
_FOLLOW_POLL_S = 0.25
_BLOCK = 64 * 1024


class LogFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open_for_engine(self) -> int:
        """A descriptor that only appends, for a child's standard output and error."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def rotate_if_large(self, max_bytes: int = MAX_BYTES) -> None:
        try:
            if self.path.stat().st_size <= max_bytes:
                return
            for number in range(_KEPT, 1, -1):
                older = self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))
            try:
                shutil.copyfile(self.path, self._numbered(1))
            finally:
                # Also on a full disk, where a log that grows on would be the worst.
                os.truncate(self.path, 0)
        except FileNotFoundError:
            return

    def tail(self, lines: int, *, end: int | None = None) -> list[str]:
        """The last `lines` lines, those of the file before the last rotation included.

        `end`: leave out what stands behind this position, in bytes.
        """
        found = _last_lines(self.path, lines, end)
        if len(found) < lines:
            found = _last_lines(self._numbered(1), lines - len(found)) + found
        return found

    async def follow(self, lines: int) -> AsyncIterator[str]:
        """The tail, then each new line; ends when the file is gone."""
        # What is written from here on is read below, so the tail ends here.
        position = self.path.stat().st_size if self.path.exists() else 0
        for line in self.tail(lines, end=position):
            yield line
        rest = b""
        while self.path.exists():
            size = self.path.stat().st_size
            if size < position:
                position = 0
            if size > position:
                with self.path.open("rb") as file:
                    file.seek(position)
                    data = file.read(_BLOCK)
                position += len(data)
                *complete, rest = (rest + data).split(b"\n")
                for line_bytes in complete:
                    yield line_bytes.decode("utf-8", "replace")
            else:
                await asyncio.sleep(_FOLLOW_POLL_S)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _last_lines(path: Path, lines: int, end: int | None = None) -> list[str]:
    if lines <= 0:
        return []
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            if end is not None:
                position = min(position, end)
            data = b""
            while position > 0 and data.count(b"\n") <= lines:
                step = min(_BLOCK, position)
                position -= step
                file.seek(position)
                data = file.read(step) + data
    except FileNotFoundError:
        return []
    return [line.decode("utf-8", "replace") for line in data.splitlines()[-lines:]]
