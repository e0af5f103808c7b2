"""Connections from callers: HTTP/1.1 parsed by llhttp, one request at a time each.

A connection parses requests, hands each to the `Handler`, and writes what the
handler's job answers. It knows nothing of keys, routes or replicas. Requests
that a caller pipelines wait their turn; a caller that hangs up is told to the
job at once, so that nobody works for nobody.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from modelry.gateway.replies import Reply, error, head
from modelry.gateway.request import Request, origin_form

log = logging.getLogger(__name__)

_HEAD_MAX = 64 * 1024
_BACKLOG_MAX = 64 * 1024
_HEAD_TIMEOUT_S = 30.0
_BODY_STALL_S = 60.0
_KEEP_ALIVE_S = 75.0
_SWEEP_S = 5.0


class Job(Protocol):
    """The work on one request, from the handler's `start` until it finished its answer."""

    def client_gone(self) -> None: ...
    def client_writable(self, writable: bool) -> None: ...


class Handler(Protocol):
    """Decides over requests. `check_head` raises a `Reply` to refuse before the body is read."""

    def check_head(self, request: Request) -> None: ...
    def start(self, request: Request, client: "ClientConnection") -> Job | None: ...


class ClientConnection(asyncio.Protocol):
    def __init__(self, server: "Server") -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self._peer = ""
        self._parsing: Request | None = None
        self._head_bytes = 0
        self._refusal: Reply | None = None
        self._writable = True
        self._ready: deque[Request] = deque()
        self._backlog = bytearray()
        self._current: Request | None = None
        self._job: Job | None = None
        self._chunked = False
        self._bodiless = False
        self._closing = False
        self._active_at = time.monotonic()

    # -- used by jobs --------------------------------------------------------

    def respond(self, reply: Reply) -> None:
        """Write a whole answer and finish."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(reply.body)).encode()),
            *reply.headers,
        ]
        self.begin(reply.status, headers, close=False)
        self.write(reply.body)
        self.finish()

    def begin(self, status: int, headers: list[tuple[bytes, bytes]], *, close: bool) -> None:
        """Write the head. Without a content-length the body is chunked.

        `close` ends the connection after this answer.
        """
        request = self._current
        assert request is not None
        if close or self._server.draining or not request.keep_alive:
            self._closing = True
        self._bodiless = request.method == b"HEAD" or status in (204, 304)
        names = {name for name, _ in headers}
        delimited = b"content-length" in names or status in (204, 304)
        self._chunked = not delimited and request.chunks
        if self._chunked:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        elif not delimited:
            self._closing = True
        if self._closing:
            headers = [*headers, (b"connection", b"close")]
        headers = [*headers, (b"x-request-id", request.id.encode())]
        self._send(head(status, headers))

    def write(self, data: bytes) -> None:
        if not data or self._bodiless:
            return
        if self._chunked:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._send(data)

    def finish(self) -> None:
        """The answer is complete; the next request may come."""
        if self._chunked and not self._bodiless:
            self._send(b"0\r\n\r\n")
        self._job = None
        self._current = None
        self._active_at = time.monotonic()
        if self._closing:
            self._close()
        else:
            # Not from within this call: a row of pipelined requests that are
            # answered at once would nest as deep as the row is long.
            asyncio.get_running_loop().call_soon(self._next)

    def abort(self) -> None:
        """Break the connection: the answer that was begun cannot be completed."""
        self._job = None
        self._current = None
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    # -- asyncio -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        self._server.check_drained()
        self._ready.clear()
        job, self._job = self._job, None
        self._current = None
        if job is not None:
            job.client_gone()

    def data_received(self, data: bytes) -> None:
        self._active_at = time.monotonic()
        if self._refusal is not None:
            return
        if self._current is not None or not self._writable:
            # Keep reading while a job runs: only so is a hang-up noticed.
            self._backlog += data
            if len(self._backlog) > _BACKLOG_MAX:
                self.pause_reading()
            return
        self._feed(data)

    def pause_writing(self) -> None:
        self._writable = False
        if self._job is not None:
            self._job.client_writable(False)

    def resume_writing(self) -> None:
        self._writable = True
        if self._job is not None:
            self._job.client_writable(True)
        else:
            self._next()

    # -- httptools -----------------------------------------------------------

    def on_message_begin(self) -> None:
        self._parsing = Request(self._peer)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        assert self._parsing is not None
        self._parsing.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._parsing is not None
        # Trailers come after the head: they must not pass for headers.
        if not self._parsing.id:
            self._parsing.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        assert self._parsing is not None
        request = self._parsing
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        request.chunks = self._parser.get_http_version() != "1.0"
        request.target = origin_form(request.target)
        request.id = self._server.request_id()
        if request.head_size > _HEAD_MAX:
            raise _head_too_large()
        self._server.handler.check_head(request)
        length = request.header(b"content-length")
        if length is not None and int(length) > self._server.max_body_bytes:
            raise self._too_large()
        expects = (request.header(b"expect") or b"").lower()
        if expects == b"100-continue" and self._current is None:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        assert self._parsing is not None
        body = self._parsing.body
        if len(body) + len(data) > self._server.max_body_bytes:
            raise self._too_large()
        body += data

    def on_message_complete(self) -> None:
        assert self._parsing is not None
        self._ready.append(self._parsing)
        self._parsing = None

    # ------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        arriving = self._parsing
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as wrapped:
            cause = wrapped.__context__
            if not isinstance(cause, Reply):
                raise
            self._refuse(cause)
        except httptools.HttpParserError:
            self._refuse(error(400, "invalid_request_error", "The request is not valid HTTP/1.1."))
        else:
            if self._parsing is arriving:
                self._bound_head(len(data))
        self._next()

    def _parse(self, data: bytes) -> None:
        while True:
            assert self._parser is not None
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # An offer that we decline by answering as if it had not been
                # made; what follows is HTTP/1.1 still.
                data = data[offer.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                if data:
                    continue
            return

    def _bound_head(self, size: int) -> None:
        """Bound the head: the parser hands over a header only once its line is complete."""
        request = self._parsing
        if request is None or request.id:
            return
        self._head_bytes += size
        if self._head_bytes > _HEAD_MAX:
            self._refuse(_head_too_large())

    def _next(self) -> None:
        """Start the next complete request; parse what came while the last one ran."""
        if self._transport is None or self._current is not None or not self._writable:
            return
        if self._ready:
            self._start(self._ready.popleft())
        elif self._refusal is not None:
            self._respond_refusal(self._refusal)
        elif self._backlog:
            data, self._backlog = bytes(self._backlog), bytearray()
            self._transport.resume_reading()
            self._feed(data)
        elif self._server.draining and self._parsing is None:
            self._close()

    def _start(self, request: Request) -> None:
        self._current = request
        try:
            # None: answered already, and `_current` may be the next request by now.
            job = self._server.handler.start(request, self)
        except Reply as reply:
            self.respond(reply)
            return
        except Exception:
            log.exception("%s failed", request.id)
            self.respond(error(500, "internal_error", "Something went wrong in the gateway."))
            return
        if job is not None and self._current is request:
            self._job = job

    def _refuse(self, reply: Reply) -> None:
        """Refuse the request that is arriving, once those before it are answered, and close."""
        if self._refusal is None:
            self._refusal = reply

    def _respond_refusal(self, reply: Reply) -> None:
        request = self._current = self._parsing or Request(self._peer)
        request.id = request.id or self._server.request_id()
        request.keep_alive = False
        self._parsing = None
        self.respond(reply)

    def _too_large(self) -> Reply:
        limit = self._server.max_body_bytes
        return error(
            413,
            "request_too_large",
            f"The request's body is larger than this server takes ({limit} bytes).",
        )

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- used by the server --------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close a connection that idles too long or sends a request too slowly."""
        if self._current is not None:
            return
        request = self._parsing
        if request is None:
            if now - self._active_at > _KEEP_ALIVE_S:
                self._close()
        elif (not request.id and now - request.arrived_at > _HEAD_TIMEOUT_S) or (
            now - self._active_at > _BODY_STALL_S
        ):
            self._refuse(error(408, "request_timeout", "The request took too long to arrive."))
            self._next()

    def drain(self) -> None:
        """Take no further request; close now if none is under way."""
        if self._current is None and not self._ready and self._parsing is None:
            self._close()


def _head_too_large() -> Reply:
    return error(431, "request_header_too_large", "The request's headers are too large.")


class Server:
    """The listening side. One per process."""

    def __init__(
        self, handler: Handler, *, max_body_bytes: int, request_id: Callable[[], str]
    ) -> None:
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.request_id = request_id
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self._drained = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listen on `host`:`port` (0: any free one) and return the port. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=2048
        )
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)
        chosen: int = self._listener.sockets[0].getsockname()[1]
        return chosen

    async def drain(self, timeout_s: float) -> None:
        """Stop listening, let running requests finish, then close what is left."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.drain()
        self.check_drained()
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.abort()

    def check_drained(self) -> None:
        if self.draining and not self.connections:
            self._drained.set()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.sweep(now)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
