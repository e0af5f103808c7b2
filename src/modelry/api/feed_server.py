"""The feed's server: tells every connected gateway each change, and hears what they report.

It listens on a Unix socket that only this account can open, apart from the
one the gateway relays strangers to.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from modelry.routing.feed import Feed
from modelry.routing.messages import (
    Ack,
    Change,
    FromControl,
    KeysUsed,
    decode_from_gateway,
    encode,
)

log = logging.getLogger(__name__)

_ACK_TIMEOUT_S = 1.0
_LINE_MAX = 1024 * 1024
# A gateway that does not read is cut off; it comes back for a fresh snapshot.
_UNREAD_MAX = 64 * 1024 * 1024


class FeedServer:
    def __init__(
        self, feed: Feed, note_key_use: Callable[[dict[str, float]], Awaitable[None]]
    ) -> None:
        self._feed = feed
        self._note_key_use = note_key_use
        self._acked: dict[asyncio.StreamWriter, int] = {}
        self._ack_heard = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, socket: Path) -> None:
        socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(socket), limit=_LINE_MAX)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def published(self) -> None:
        """Return once every connected gateway has applied what the feed holds now.

        After a second it returns all the same: a gateway that hangs must not
        hold up its control plane.
        """
        seq = self._feed.seq
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACK_TIMEOUT_S):
                while any(acked < seq for acked in self._acked.values()):
                    self._ack_heard.clear()
                    await self._ack_heard.wait()
                return
        log.warning("a gateway has not acknowledged change %s in time", seq)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)

        def tell(change: Change) -> None:
            _write(writer, change)

        unsubscribe = self._feed.subscribe(tell)
        self._acked[writer] = -1
        _write(writer, self._feed.snapshot())
        try:
            while line := await reader.readline():
                message = decode_from_gateway(line)
                if isinstance(message, Ack):
                    self._acked[writer] = message.seq
                    self._ack_heard.set()
                elif isinstance(message, KeysUsed):
                    await self._note_key_use(message.last_used_at)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("a gateway's connection broke off: %s", error)
        except asyncio.CancelledError:
            # The server closes; ending here keeps asyncio from reporting it.
            pass
        finally:
            unsubscribe()
            del self._acked[writer]
            self._ack_heard.set()
            self._tasks.discard(task)
            writer.close()


def _write(writer: asyncio.StreamWriter, message: FromControl) -> None:
    if writer.is_closing():
        return
    if writer.transport.get_write_buffer_size() > _UNREAD_MAX:
        writer.transport.abort()
        return
    writer.write(encode(message))
