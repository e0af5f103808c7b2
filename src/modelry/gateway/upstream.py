"""Connections to replicas and to the control plane: HTTP/1.1, kept alive, pooled.

One `Upstream` is one address. A connection carries one exchange at a time; it
tells its exchange what arrives and knows nothing of what is relayed or why.
"""

import asyncio
import logging
from typing import Protocol, cast

import httptools

from modelry.errors import ModelryError

log = logging.getLogger(__name__)

# An engine spends a thread on each connection it keeps.
_IDLE_KEPT = 16


class UpstreamError(ModelryError):
    """The connection could not be made or ended before the response did.

    `stale`: it was a kept connection that the other side had closed, and not a
    byte of an answer came, so asking again on a new connection is right.
    """

    status, code = 502, "bad_gateway"

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Exchange(Protocol):
    """What a connection tells its user; `upstream_failed` comes at most once, and last."""

    def upstream_connected(self, connection: "UpstreamConnection") -> None: ...
    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def upstream_body(self, data: bytes) -> None: ...
    def upstream_done(self) -> None: ...
    def upstream_failed(self, error: UpstreamError) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    def __init__(self, upstream: "Upstream") -> None:
        self._upstream = upstream
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim = False
        self._answered = False
        self._delimited = False
        self._used = False

    # -- used by the exchange ------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._answered = False
        exchange.upstream_connected(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Hang up at once: what the other side still works on is no longer wanted."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None or self._parser is None:
            # Bytes without a request: nothing the other side says can be trusted now.
            self._close()
            return
        exchange = self._exchange
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            log.exception("an answer of %s could not be relayed", self._upstream.address)
            # Also where the answer had ended and the connection was kept already.
            self._upstream.forget(self)
            self._exchange = exchange
            self._fail("its answer could not be relayed")
        except httptools.HttpParserError:
            self._fail("the upstream's answer is not valid HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._upstream.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._answered and not self._delimited and exc is None:
            exchange.upstream_done()
            return
        stale = self._used and not self._answered
        exchange.upstream_failed(
            UpstreamError("the connection ended before the answer was complete", stale=stale)
        )

    # -- httptools -----------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = []
        self._delimited = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length" or name == b"transfer-encoding":
            self._delimited = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        self._interim = status < 200
        if not self._interim and self._exchange is not None:
            self._answered = True
            self._exchange.upstream_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.upstream_body(data)

    def on_message_complete(self) -> None:
        if self._interim:
            return
        exchange, self._exchange = self._exchange, None
        assert self._parser is not None
        if self._parser.should_keep_alive() and exchange is not None:
            self._used = True
            # Reading may have been paused for a slow client: an idle connection
            # must notice when its other side closes it.
            self.resume_reading()
            self._upstream.keep(self)
        else:
            self._close()
        if exchange is not None:
            exchange.upstream_done()

    # ------------------------------------------------------------------------

    def _fail(self, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._close()
        if exchange is not None:
            exchange.upstream_failed(UpstreamError(message))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Upstream:
    """One address, `unix:<path>` or `tcp:<host>:<port>`, and its kept connections."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._idle: list[UpstreamConnection] = []
        self._connecting: set[asyncio.Task[None]] = set()

    def send(self, exchange: Exchange, *, fresh: bool = False) -> None:
        """Give `exchange` a connection; `fresh`: none that was used before."""
        if self._idle and not fresh:
            self._idle.pop().begin(exchange)
            return
        task = asyncio.ensure_future(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def keep(self, connection: UpstreamConnection) -> None:
        if len(self._idle) < _IDLE_KEPT:
            self._idle.append(connection)
        else:
            connection.abandon()

    def forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        for connection in tuple(self._idle):
            connection.abandon()

    async def _connect(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        kind, _, rest = self.address.partition(":")
        try:
            if kind == "unix":
                _, connection = await loop.create_unix_connection(
                    lambda: UpstreamConnection(self), rest
                )
            else:
                host, _, port = rest.rpartition(":")
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), host, int(port)
                )
        except OSError as error:
            reason = error.strerror or type(error).__name__
            exchange.upstream_failed(UpstreamError(f"no connection: {reason}"))
            return
        connection.begin(exchange)
