"""The access log: one line of JSON a call, written in batches off the hot path.

A call of a service is logged with the line that the usage spool keeps of it,
copied from there; everything else that was answered gets a shorter one.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelry.gateway.replies import shown
from modelry.gateway.request import Request

log = logging.getLogger(__name__)

_FILE_BYTES = 50_000_000
_KEPT_FILES = 3
_KEPT_MAX = 16 * 1024 * 1024


class _Answered(msgspec.Struct, omit_defaults=True):
    at: float
    request_id: str
    method: str
    path: str
    status: int
    duration_s: float
    peer: str = ""


_encode = msgspec.json.Encoder().encode


class AccessLog:
    """`add` keeps lines; `flush` writes them, and those of `calls`. Several processes share
    one file.
    """

    def __init__(self, file: Path, calls: Callable[[], bytes]) -> None:
        self._file = file
        self._path = str(file)
        self._calls = calls
        self._lines: list[bytes] = []
        self._size = 0
        self._told = False

    def add(self, lines: bytes) -> None:
        """`lines`: JSON, each with its newline. The newest are lost where there are too many."""
        if self._size + len(lines) <= _KEPT_MAX:
            self._lines.append(lines)
            self._size += len(lines)

    def answered(self, request: Request, status: int, duration_s: float) -> None:
        """A request that reached no service."""
        line = _Answered(
            at=time.time(),
            request_id=request.id.decode(),
            method=request.method.decode("ascii", "replace"),
            # Without the query: it may carry what is not for a log.
            path=shown(request.path.decode("utf-8", "replace")),
            status=status,
            duration_s=round(duration_s, 6),
            peer=request.peer,
        )
        self.add(_encode(line) + b"\n")

    def flush(self) -> None:
        calls = self._calls()
        if calls:
            self.add(calls)
        if not self._lines:
            return
        try:
            self._rotate()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                rest = memoryview(b"".join(self._lines))
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._told:
                log.warning("the access log cannot be written: %s", error)
            self._told = True
            return
        self._told = False
        self._lines.clear()
        self._size = 0

    def _rotate(self) -> None:
        try:
            if os.stat(self._path).st_size < _FILE_BYTES:  # noqa: PTH116 - four times a second
                return
        except FileNotFoundError:
            return
        for number in range(_KEPT_FILES, 0, -1):
            older = self._file.with_suffix(f".log.{number}")
            newer = self._file.with_suffix(f".log.{number - 1}") if number > 1 else self._file
            if newer.exists():
                newer.replace(older)
