"""The gateway's end of the feed: what it hears, what it reports, when a snapshot is kept.

While the control plane is away the table stands as it is; at a start without
one it comes from disk, so that calls are served all the same.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from modelry.gateway.reporter import batches
from modelry.gateway.snapshot import SnapshotFile
from modelry.gateway.table import Table
from modelry.routing.messages import (
    Ack,
    FromGateway,
    KeysUsed,
    UsageBatch,
    UsageTaken,
    Wake,
    decode_from_control,
    encode,
)

log = logging.getLogger(__name__)

_RECONNECT_S = 0.2
_SAVE_AFTER_S = 1.0
_SAVED_PER_S = 20_000
_SAVE_PAUSE_S = 0.01
_KEYS_S = 2.0
_LOAD_S = 1.0
_LAST_S = 1.0
_REPORTED_AT_ONCE = 500
# A snapshot line holds every route and key: 100,000 keys are about 20 MB.
_LINE_MAX = 256 * 1024 * 1024


class Reporter(Protocol):
    """What a gateway has to tell. Each message is sent at once on the connection given."""

    def connected(self) -> None:
        """A control plane listens that knows nothing of this process yet."""
        ...

    def messages(self) -> Iterator[FromGateway]:
        """Load, and now and then the metrics, as far as they changed."""
        ...

    def last(self) -> Iterator[FromGateway]:
        """All that changed, from a process that ends."""
        ...

    def usage(self) -> tuple[UsageBatch, bytes] | None:
        """The next usage to send, if any is left that was not sent already."""
        ...

    def taken(self, message: UsageTaken) -> None: ...


class FeedClient:
    """Keeps `table` as the control plane says. `run` goes on until it is cancelled."""

    def __init__(self, table: Table, socket: Path, snapshot: Path, reporter: Reporter) -> None:
        self._table = table
        self._socket = socket
        self._snapshot = SnapshotFile(snapshot)
        self._reporter = reporter
        self._writer: asyncio.StreamWriter | None = None
        self._woken: set[str] = set()
        self._saving: asyncio.Task[None] | None = None
        self._unsaved = False
        self.settled = asyncio.Event()
        """Set once the control plane was heard, or is not there to be heard."""

    def wake(self, service_id: str) -> None:
        """Ask for an idle service; once a moment, however many requests wait for it."""
        if self._writer is not None and service_id not in self._woken:
            _send(self._writer, Wake(service_id))
        self._woken.add(service_id)

    def load(self) -> None:
        """Fill the table from the snapshot on disk, if there is a sound one."""
        snapshot = self._snapshot.load()
        if snapshot is not None:
            self._table.apply(snapshot)

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    str(self._socket), limit=_LINE_MAX
                )
            except OSError:
                self.settled.set()
                await asyncio.sleep(_RECONNECT_S)
                continue
            self._writer = writer
            reporting = asyncio.create_task(self._report(writer))
            try:
                await self._follow(reader, writer)
            except (OSError, ValueError) as error:
                log.warning("the feed broke off: %s", error)
            except Exception:
                # Whatever it is: a feed that is not followed lets revoked keys in.
                log.exception("the feed broke off")
            finally:
                self._writer = None
                reporting.cancel()
                writer.close()
            await asyncio.sleep(_RECONNECT_S)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message = decode_from_control(line)
            if isinstance(message, UsageTaken):
                self._reporter.taken(message)
                self._send_usage(writer)
                continue
            self._table.live = True
            self._table.apply(message)
            self.settled.set()
            _send(writer, Ack(self._table.seq))
            self._unsaved = True
            if self._saving is None:
                self._saving = asyncio.create_task(self._save_later())

    async def tell_last(self) -> None:
        """Send what there still is to tell; this process ends."""
        writer = self._writer
        if writer is None:
            return
        for message in self._reporter.last():
            _send(writer, message)
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.drain(), _LAST_S)

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        try:
            await self._report_on(writer)
        except Exception:
            log.exception("what there is to report cannot be told; starting afresh")
            writer.close()

    async def _report_on(self, writer: asyncio.StreamWriter) -> None:
        self._reporter.connected()
        for service_id in self._woken:
            _send(writer, Wake(service_id))
        keys_at = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self._woken.clear()
            for message in self._reporter.messages():
                _send(writer, message)
            self._send_usage(writer)
            if self._table.last_used_at and clock() - keys_at >= _KEYS_S:
                keys_at = clock()
                used, self._table.last_used_at = self._table.last_used_at, {}
                for some in batches(used, _REPORTED_AT_ONCE):
                    _send(writer, KeysUsed(some))
            await asyncio.sleep(_LOAD_S)

    def _send_usage(self, writer: asyncio.StreamWriter) -> None:
        found = self._reporter.usage()
        if found is not None and not writer.is_closing():
            batch, lines = found
            writer.write(encode(batch) + lines)

    def save(self) -> None:
        """Write the table to disk, at once."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        self._snapshot.write(self._table.snapshot())

    async def _save_later(self) -> None:
        told = False
        try:
            while self._unsaved:
                # What it costs grows with the table, and so does the time between.
                await asyncio.sleep(max(_SAVE_AFTER_S, self._table.size / _SAVED_PER_S))
                self._unsaved = False
                try:
                    for _ in self._snapshot.steps(self._table.snapshot()):
                        await asyncio.sleep(_SAVE_PAUSE_S)
                except OSError as error:
                    if not told:
                        log.warning("the snapshot could not be written: %s", error)
                    told = self._unsaved = True
        finally:
            if self._saving is asyncio.current_task():
                self._saving = None


def _send(writer: asyncio.StreamWriter, message: FromGateway) -> None:
    if not writer.is_closing():
        writer.write(encode(message))
