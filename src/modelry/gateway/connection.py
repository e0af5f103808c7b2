"""Connections from callers: HTTP/1.1 parsed by llhttp, one request at a time each.

A connection parses requests, hands each to the `Handler`, and writes what the
handler's job answers. It knows nothing of keys, routes or replicas. Requests
that a caller pipelines wait their turn; a caller that hangs up is told to the
job at once, so that nobody works for nobody.
"""

import asyncio
import logging
import math
from collections import deque
from typing import Protocol, cast

import httptools

from modelry.gateway.answers import AnswerWriter, Host, Job
from modelry.gateway.heads import KnownHead, known_head
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request

log = logging.getLogger(__name__)

_HEAD_MAX = 64 * 1024
_BACKLOG_MAX = 1024 * 1024
_HEAD_TIMEOUT_S = 30.0
_BODY_STALL_S = 60.0
_STRANGERS_BODY_S = 60.0
_KEEP_ALIVE_S = 75.0
_LINGER_BYTES = 8 * 1024 * 1024
_UNREAD_S = 120.0


class Handler(Protocol):
    """Decides over requests. `check_head` raises a `Reply` to refuse before the body is read."""

    def body_limit(self, request: Request) -> int: ...
    def check_head(self, request: Request) -> None: ...
    def start(self, request: Request, client: "ClientConnection") -> Job | None: ...


class Server(Host, Protocol):
    """What a connection knows of the server it belongs to."""

    handler: Handler
    connections: set["ClientConnection"]

    def check_drained(self) -> None: ...


class ClientConnection(AnswerWriter):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._server = server
        self._parser: httptools.HttpRequestParser | None = None
        self._peer = ""
        self._parsing: Request | None = None
        self._head_bytes = 0
        self._arriving = 0
        self._body_limit = 0
        self._delivered = False
        self._rest_bytes = 0
        self._dropped = 0
        self._unread_since = 0.0
        self._served = False
        self._refused = False
        self._refusal: Reply | None = None
        self._known: KnownHead[Request] | None = None
        self._writable = True
        self._ready: deque[Request] = deque()
        self._backlog = bytearray()

    def _finished(self) -> None:
        self._served = True
        if self._refused:
            self._linger()
        elif self._closing:
            self._close()
        elif self._ready or self._backlog or self._refusal is not None:
            # Not from within this call: a row of pipelined requests that are
            # answered at once would nest as deep as the row is long.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._server.draining and self._parsing is None:
            self._close()

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
        self._active_at = self._clock()
        if self._refusal is not None:
            # Read and dropped, so that the caller gets to read why.
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.drop()
            return
        if self._current or self._ready or self._backlog or not self._writable:
            # Keep reading while a job runs: only so is a hang-up noticed.
            self._backlog += data
            if len(self._backlog) > _BACKLOG_MAX:
                # More than anybody pipelines: it goes unanswered, and the caller is told so
                # by the connection's end.
                self._backlog.clear()
                self._closing = True
            return
        known = self._known
        if known is not None and self._parsing is None:
            body = known.body_of(data)
            if body is not None and len(body) <= self._body_limit:
                id_ = self._server.request_id()
                self._start(known.meaning.renew(id_, body, self._active_at))
                return
        self._feed(data)

    def pause_writing(self) -> None:
        self._writable = False
        self._unread_since = self._clock()
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
        self._parsing = Request(self._peer, self._active_at)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        assert self._parsing is not None
        self._parsing.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._parsing
        assert request is not None
        # Trailers come after the head: they must not pass for headers.
        if not request.id:
            request.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, request, server = self._parser, self._parsing, self._server
        assert parser is not None
        assert request is not None
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        request.complete_head()
        request.id = server.request_id()
        fields = request.fields
        version = parser.get_http_version()
        if version != "1.1":
            request.chunks = False
            if version != "1.0":
                raise _bad_head("only HTTP/1.1 and HTTP/1.0 are spoken here")
        elif b"host" not in fields:
            raise _bad_head("it has no Host header")
        if sum(name == b"host" for name, _ in request.headers) > 1:
            raise _bad_head("it has several Host headers")
        if request.method == b"CONNECT":
            # What follows would be no HTTP.
            raise error(501, "not_implemented", "This is no proxy.")
        if self._arriving > _HEAD_MAX and request.head_size > _HEAD_MAX:
            raise _head_too_large()
        if b"transfer-encoding" in fields:
            if fields[b"transfer-encoding"].strip().lower() != b"chunked" or not request.chunks:
                raise _bad_head("of the transfer encodings, only chunked is understood")
            if b"content-length" in fields:
                raise _bad_head("it has both a Content-Length and a Transfer-Encoding")
        server.handler.check_head(request)
        limit = self._body_limit = server.handler.body_limit(request)
        length = fields.get(b"content-length")
        if length is not None and int(length) > limit:
            raise self._too_large()
        expects = fields.get(b"expect")
        if expects is not None and expects.lower() == b"100-continue" and self._current is None:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        request = self._parsing
        assert request is not None
        self._delivered = True
        body = request.body
        if len(body) + len(data) > self._body_limit:
            raise self._too_large()
        if not body:
            # Most bodies come whole: they are never copied.
            request.body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            request.body = bytearray(body)
            request.body += data

    def on_message_complete(self) -> None:
        assert self._parsing is not None
        self._ready.append(self._parsing)
        self._parsing = None

    # ------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        arriving = self._parsing
        self._arriving = self._head_bytes + len(data)
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
            self._bound_rest(len(data))
            if self._parsing is arriving:
                self._bound_head(len(data))
                if arriving is None and len(self._ready) == 1:
                    self._learn(self._ready[0], data)
        self._next()

    def _learn(self, request: Request, data: bytes) -> None:
        """Know the head of a request that came in one piece, should the caller send it again."""
        if (
            request.keep_alive
            and request.is_inference
            and request.method == b"POST"
            and b"transfer-encoding" not in request.fields
            and b"expect" not in request.fields
            and b"upgrade" not in request.fields
        ):
            self._known = known_head(data, request)

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

    def _bound_rest(self, size: int) -> None:
        """Bound what comes within a body and is none of it: trailers, extensions of chunks."""
        if self._parsing is None or not self._parsing.id or self._delivered:
            self._rest_bytes = 0
        else:
            self._rest_bytes += size
            if self._rest_bytes > _HEAD_MAX:
                self._refuse(_head_too_large())
        self._delivered = False

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
            log.exception("%s failed", request.id.decode())
            self.respond(error(500, "internal_error", "Something went wrong in the gateway."))
            return
        if job is not None and self._current is request:
            self._job = job

    def _refuse(self, reply: Reply) -> None:
        """Refuse the request that is arriving, once those before it are answered, and close."""
        if self._refusal is None:
            self._refusal = reply

    def _respond_refusal(self, reply: Reply) -> None:
        request = self._current = self._parsing or Request(self._peer, self._active_at)
        if not request.id:
            # As far as it came, so that the refusal has the shape of what was called.
            request.complete_head()
            request.id = self._server.request_id()
        request.keep_alive = False
        self._parsing = None
        self._refused = True
        self.respond(reply)

    def _too_large(self) -> Reply:
        message = f"The request's body is larger than {self._body_limit} bytes, the limit here."
        return error(413, "request_too_large", message)

    # -- used by the server --------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close a connection that idles too long or sends a request too slowly."""
        if not self._writable and now - self._unread_since > _UNREAD_S:
            # It takes nothing any more, and holds a slot.
            self.drop()
            return
        if self._job is not None:
            self._job.sweep(now)
        if self._current is not None:
            return
        request = self._parsing
        if request is None:
            if now - self._active_at > _KEEP_ALIVE_S:
                self._close()
        elif now - request.arrived_at > self._patience_s(request) or (
            now - self._active_at > _BODY_STALL_S
        ):
            self._refuse(error(408, "request_timeout", "The request took too long to arrive."))
            self._next()

    def _patience_s(self, request: Request) -> float:
        """How long a request may take to arrive: one of nobody's that we know, a minute."""
        if not request.id:
            return _HEAD_TIMEOUT_S
        return math.inf if request.is_inference else _STRANGERS_BODY_S

    def drain(self) -> None:
        """Take no further request; close now if none is under way, or on its way: nobody else can
        answer who has just connected.
        """
        if self._current is None and not self._ready and self._served:
            self._close()

    def hurry(self) -> None:
        if self._job is not None:
            self._job.hurry()
        elif self._current is None and not self._ready:
            # Its first request would have come by now.
            self._close()


def _bad_head(why: str) -> Reply:
    return error(400, "invalid_request_error", f"The request is not valid HTTP/1.1: {why}.")


def _head_too_large() -> Reply:
    return error(431, "request_header_too_large", "The request's headers are too large.")
