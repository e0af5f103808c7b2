"""One file that arrives piece by piece, over as many connections as it takes.

What is on disk is the truth of how much has come: nothing else needs to survive a
restart. Bytes go to the disk as they come, in blocks, from a worker thread.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from modelry.catalog.weights import copy_hashed
from modelry.errors import Conflict, InvalidRequest, ModelryError

_BLOCK = 1024 * 1024
_STALL_S = 60.0
_PIECE_MAX_S = 3600.0
"""How long one request may send: a slow sender comes back and goes on where it was."""


class CutOff(ModelryError):
    """The sender went away, or was too slow; what had come is kept."""

    status, code = 408, "upload_stalled"


class DiskFull(ModelryError):
    status, code = 507, "insufficient_storage"


class ArrivingFile:
    """What has come of one announced file lies at `path`."""

    def __init__(self, name: str, size_bytes: int, path: Path) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.path = path
        self.received = min(path.stat().st_size, size_bytes) if path.exists() else 0
        self._lock = asyncio.Lock()
        self._sender: object | None = None
        self._closed = False
        # Of the first `_hashed` bytes: the digest need not read them again.
        self._digest = hashlib.sha256()
        self._hashed = 0

    @property
    def whole(self) -> bool:
        return self.received == self.size_bytes

    async def take(self, offset: int, length: int | None, blocks: AsyncIterator[bytes]) -> None:
        """Append what comes. A later sender takes over from an earlier one, whose connection may
        be dead without anybody having noticed. Raises `Conflict` where `offset` is not the end of
        what is here, `CutOff`, or `DiskFull`.
        """
        sender = object()
        async with self._lock:
            self._require_at(offset)
            self._require_fits(offset + (length or 0))
            self._sender = sender
        loop = asyncio.get_running_loop()
        end = loop.time() + _PIECE_MAX_S
        held = bytearray()
        cut: ModelryError | None = None
        try:
            while True:
                async with asyncio.timeout(min(_STALL_S, max(0.0, end - loop.time()))):
                    block = await anext(blocks, None)
                if block is None:
                    break
                self._require_fits(self.received + len(held) + len(block))
                held += block
                if len(held) >= _BLOCK:
                    await self._append(sender, held)
                    held = bytearray()
        except TimeoutError:
            cut = CutOff("the upload stalled; go on from where it is", hint=self._hint())
        except ConnectionError:
            cut = CutOff("the connection ended; go on from where it is", hint=self._hint())
        await self._append(sender, held, sync=True)
        if cut is not None:
            raise cut

    async def close(self) -> None:
        """Nobody sends any more, and nothing is being written."""
        async with self._lock:
            self._closed = True

    def sha256(self) -> str:
        """Of the whole file; reads what was not hashed as it came."""
        if self._hashed == self.received:
            return self._digest.hexdigest()
        with self.path.open("rb") as file:
            return copy_hashed(file, None, lambda _: None)[1]

    def restart(self) -> None:
        """Forget what has come."""
        self.path.write_bytes(b"")
        self.received = self._hashed = 0
        self._digest = hashlib.sha256()

    # ------------------------------------------------------------------------

    async def _append(self, sender: object, data: bytearray, *, sync: bool = False) -> None:
        async with self._lock:
            if self._closed or self._sender is not sender:
                raise Conflict(
                    f"{self.name}: another request sends this file now",
                    hint="send one piece at a time",
                    code="upload_busy",
                )
            await asyncio.to_thread(self._write, bytes(data), sync)

    def _write(self, data: bytes, sync: bool) -> None:
        start = self.received
        try:
            with self.path.open("r+b" if self.path.exists() else "w+b", buffering=0) as file:
                self.path.chmod(0o600)
                file.seek(start)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) or 0 :]
                file.truncate()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull(
                    "the disk is full", hint="an operator has to free some space; then go on"
                ) from None
            raise
        if self._hashed == start:
            self._digest.update(data)
            self._hashed += len(data)
        self.received = start + len(data)

    def _require_at(self, offset: int) -> None:
        if offset != self.received:
            raise Conflict(
                f"{self.name}: {self.received} bytes of it are here, and this piece begins at "
                f"{offset}",
                hint=self._hint(),
                param="offset",
                code="upload_offset",
            )

    def _require_fits(self, end: int) -> None:
        if end > self.size_bytes:
            raise InvalidRequest(
                f"{self.name}: it was announced with {self.size_bytes} bytes, and more is sent",
                hint="begin a new upload if the file has changed",
                param="offset",
            )

    def _hint(self) -> str:
        return f"send on from byte {self.received}; `GET /uploads/{{id}}` says where each file is"
