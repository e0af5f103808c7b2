"""One connection to a replica, an endpoint elsewhere or the control plane: HTTP/1.1 by llhttp.

It carries one exchange at a time, tells it what arrives, and knows nothing of
what is relayed or why.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from modelry.errors import ModelryError
from modelry.gateway.heads import Head, Headers, KnownHead, whole_chunk
from modelry.gateway.lane import Lane

log = logging.getLogger(__name__)

_HEAD_MAX = 256 * 1024


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
    def upstream_head(self, head: Head) -> None: ...
    def upstream_body(self, data: bytes) -> None: ...
    def upstream_chunk(self, chunk: bytes, data: bytes) -> None:
        """As `upstream_body`; `chunk` is the same in the chunked transfer coding."""
        ...

    def upstream_whole(self, head: Head, body: bytes) -> None:
        """An answer at once, and no stream: its head, its body and its end."""
        ...

    def upstream_done(self) -> None: ...
    def upstream_failed(self, error: UpstreamError) -> None: ...


class Pool(Protocol):
    """What a connection knows of the `Upstream` it belongs to."""

    address: str
    learns: bool
    known: KnownHead[Head] | None

    def keep(self, connection: "UpstreamConnection") -> None: ...
    def forget(self, connection: "UpstreamConnection") -> None: ...
    def learn(self, answer: bytes, head: Head) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    __slots__ = (
        "_after_chunk",
        "_answered",
        "_between_chunks",
        "_delimited",
        "_dry_bytes",
        "_exchange",
        "_finished",
        "_head",
        "_headers",
        "_interim",
        "_midway",
        "_parser",
        "_parts",
        "_paused",
        "_reusable",
        "_transport",
        "_upstream",
        "_used",
        "_whole_data",
        "lane",
        "on_writable",
    )

    def __init__(self, upstream: Pool) -> None:
        self._upstream = upstream
        self._exchange: Exchange | None = None
        self._finished: Exchange | None = None
        """Whose answer is whole, while what came with it is still read."""
        self._reusable = True
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: Headers = []
        self._head = Head(0, self._headers)
        self._interim = False
        self._answered = False
        self._delimited = False
        self._paused = False
        self._used = False
        self._midway = False
        self._dry_bytes = 0
        self._after_chunk = False
        self._between_chunks = False
        """Whether the next chunk begins with the next byte."""
        self._parts: list[bytes] = []
        self._whole_data = b""
        """All that came of the answer, where it came in one piece."""
        self.lane: Lane | None = None
        """A short way for whole chunks, which the exchange may give; it ends with the exchange."""
        self.on_writable: Callable[[bool], None] | None = None
        """Told whether it takes more of a request that is sent in parts; ends with the exchange."""

    # -- used by the exchange ------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.on_writable = None
        self._answered = False
        self._dry_bytes = 0
        exchange.upstream_connected(self)

    def kept(self) -> None:
        """It waits in a pool: that it ends there says nothing of who is at its other side."""
        self._used = True

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Hang up at once: what the other side still works on is no longer wanted."""
        self._exchange = self.lane = self.on_writable = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio -------------------------------------------------------------

    def pause_writing(self) -> None:
        if self.on_writable is not None:
            self.on_writable(False)

    def resume_writing(self) -> None:
        if self.on_writable is not None:
            self.on_writable(True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        lane = self.lane
        if lane is not None and self._between_chunks and lane.takes(data):
            return
        exchange = self._exchange
        if exchange is None or self._parser is None:
            # Bytes without a request: nothing the other side says can be trusted now.
            self._close()
            return
        if self._between_chunks:
            held = whole_chunk(data)
            if held is not None:
                exchange.upstream_chunk(data, held)
                return
        if not self._midway:
            known = self._upstream.known
            body = None if known is None else known.body_of(data)
            if known is not None and body is not None:
                self._answered = self._used = True
                self._exchange = self.lane = None
                self._upstream.keep(self)
                try:
                    exchange.upstream_whole(known.meaning, body)
                except Exception:
                    self._unusable(exchange)
                return
            self._midway = True
            self._whole_data = data
        else:
            self._whole_data = b""
        trouble = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            log.exception("an answer of %s could not be relayed", self._upstream.address)
            trouble = "its answer could not be relayed"
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            trouble = "its answer is not valid HTTP"
        # Not where only a part of the next chunk's size has come.
        self._between_chunks = self._after_chunk and data.endswith(b"\r\n")
        if self._finished is not None:
            self._end_answer(trouble)
        elif trouble:
            self._fail(trouble)
        elif self._parts:
            self._dry_bytes = 0
            self._deliver(exchange)
        else:
            # A head, or a trailer, that does not end.
            self._dry_bytes += len(data)
            if self._dry_bytes > _HEAD_MAX and self._exchange is exchange:
                self._fail("its answer has too large a head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._upstream.forget(self)
        exchange, self._exchange = self._exchange, None
        self.lane = None
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
        # An answer that nobody asked for must not be the next one's.
        self._reusable = self._finished is None
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
            self._head = Head(status, self._headers)
            self._after_chunk = self._head.chunked
            if self._head.chunked or self._head.event_stream:
                # Heads of such answers are not learned.
                self._whole_data = b""
            self._exchange.upstream_head(self._head)

    def on_chunk_header(self) -> None:
        self._after_chunk = False

    def on_chunk_complete(self) -> None:
        self._after_chunk = True

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._interim:
            return
        self._midway = self._after_chunk = False
        if self._parts and self._exchange is not None:
            self._deliver(self._exchange)
        assert self._parser is not None
        if self._exchange is not None:
            self._finished, self._exchange = self._exchange, None
            self.lane = None
            self._reusable = self._parser.should_keep_alive()

    # ------------------------------------------------------------------------

    def _end_answer(self, trouble: str) -> None:
        """The answer is whole, and all that came with it is read: whoever asks next may have
        the connection from here on.
        """
        finished, self._finished = self._finished, None
        assert finished is not None
        if trouble or not self._reusable:
            self._close()
        else:
            self._used = True
            if self._whole_data and self._upstream.learns:
                self._upstream.learn(self._whole_data, self._head)
            self._whole_data = b""
            if self._paused:
                # For a slow client: an idle connection must notice when its
                # other side closes it.
                self.resume_reading()
            self._upstream.keep(self)
        try:
            finished.upstream_done()
        except Exception:
            self._unusable(finished)

    def _unusable(self, exchange: Exchange) -> None:
        """Whoever waits for the answer must hear of it, whatever was wrong with it."""
        log.exception("an answer of %s could not be relayed", self._upstream.address)
        exchange.upstream_failed(UpstreamError("its answer could not be relayed"))

    def _deliver(self, exchange: Exchange) -> None:
        """What came at once is passed on at once, however many chunks it had."""
        parts, self._parts = self._parts, []
        if self._exchange is exchange:
            exchange.upstream_body(parts[0] if len(parts) == 1 else b"".join(parts))

    def _fail(self, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        self.lane = None
        self._close()
        if exchange is not None:
            exchange.upstream_failed(UpstreamError(message))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
