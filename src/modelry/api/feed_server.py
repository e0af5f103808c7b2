"""The feed's server: tells every connected gateway each change, and hears what they report.

It listens on a Unix socket that only this account can open, apart from the
one the gateway relays strangers to.
"""

import asyncio
import contextlib
import itertools
import logging
from pathlib import Path
from typing import Protocol

import msgspec

from modelry.routing.feed import Feed
from modelry.routing.messages import (
    Ack,
    Change,
    FromControl,
    FromGateway,
    KeysUsed,
    Load,
    MetricsReport,
    SpoolEnded,
    UsageBatch,
    UsageTaken,
    Wake,
    decode_from_gateway,
    encode,
)

log = logging.getLogger(__name__)

_ACK_TIMEOUT_S = 1.0
_LINE_MAX = 1024 * 1024
_USAGE_MAX = 4 * 1024 * 1024
# A gateway that does not read is cut off; it comes back for a fresh snapshot.
_UNREAD_MAX = 64 * 1024 * 1024


class Listener(Protocol):
    """Who hears what gateways report. `gateway` is one connection of one gateway process."""

    async def keys_used(self, message: KeysUsed) -> None: ...
    async def usage(self, batch: UsageBatch, lines: bytes) -> UsageTaken:
        """Store what is new in the batch for good, and say up to where all is stored."""
        ...

    async def spool_ended(self, message: SpoolEnded) -> None: ...
    def gateway_connected(self, gateway: int) -> None: ...
    def load(self, gateway: int, message: Load) -> None: ...
    def wake(self, message: Wake) -> None: ...
    def metrics(self, gateway: int, message: MetricsReport) -> None: ...
    def gateway_gone(self, gateway: int) -> None: ...


class FeedServer:
    def __init__(self, feed: Feed, listener: Listener) -> None:
        self._feed = feed
        self._listener = listener
        self._connections = itertools.count()
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
        gateway = next(self._connections)
        self._listener.gateway_connected(gateway)
        _write(writer, self._feed.snapshot())
        try:
            while line := await reader.readline():
                message = decode_from_gateway(line)
                if isinstance(message, Ack):
                    self._acked[writer] = message.seq
                    self._ack_heard.set()
                elif isinstance(message, UsageBatch):
                    if not 0 <= message.length <= _USAGE_MAX:
                        raise ValueError(f"a usage batch of {message.length} bytes")
                    lines = await reader.readexactly(message.length)
                    _write(writer, await self._listener.usage(message, lines))
                else:
                    await self._hear(gateway, message)
        except (OSError, EOFError) as error:
            log.info("a gateway went: %s", error)
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("a gateway's connection broke off: %s", error)
        except Exception:
            # The gateway comes back and tells again what was not acknowledged.
            log.exception("what a gateway reported could not be taken")
        except asyncio.CancelledError:
            # The server closes; ending here keeps asyncio from reporting it.
            pass
        finally:
            unsubscribe()
            self._listener.gateway_gone(gateway)
            del self._acked[writer]
            self._ack_heard.set()
            self._tasks.discard(task)
            writer.close()

    async def _hear(self, gateway: int, message: FromGateway) -> None:
        match message:
            case KeysUsed():
                await self._listener.keys_used(message)
            case Load():
                self._listener.load(gateway, message)
            case Wake():
                self._listener.wake(message)
            case MetricsReport():
                self._listener.metrics(gateway, message)
            case SpoolEnded():
                await self._listener.spool_ended(message)


def _write(writer: asyncio.StreamWriter, message: FromControl) -> None:
    if writer.is_closing():
        return
    if writer.transport.get_write_buffer_size() > _UNREAD_MAX:
        writer.transport.abort()
        return
    writer.write(encode(message))
