"""Connections from callers: HTTP/1.1, one request at a time each.

A connection has its `RequestReader` parse what comes, hands each request to the
`Handler`, and writes what the handler's job answers. It knows nothing of keys,
routes or replicas. Requests
that a caller pipelines wait their turn; a caller that hangs up is told to the
job at once, so that nobody works for nobody.
"""

import asyncio
import logging
import math
from typing import Protocol, cast

from modelry.gateway.answers import AnswerWriter, Host, Job
from modelry.gateway.heads import KnownHead, known_head
from modelry.gateway.memory import SMALL_BYTES
from modelry.gateway.reader import RequestReader, Rules
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request

log = logging.getLogger(__name__)

_BACKLOG_MAX = 1024 * 1024
_SLICE = 64 * 1024
_HEAD_TIMEOUT_S = 30.0
_BODY_STALL_S = 60.0
_STRANGERS_BODY_S = 60.0
_KEEP_ALIVE_S = 75.0
_LINGER_BYTES = 8 * 1024 * 1024
_UNREAD_S = 120.0
_CLOSE_S = 10.0
_ANSWERED = Reply(400, b"")
"""Stands for the refusal of what comes once it cannot matter any more; it is never sent."""


class Handler(Rules, Protocol):
    """Decides over requests. `start` returns None where it has answered, or raises a `Reply`."""

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
        self._reader = RequestReader(
            server.handler, server.memory, server.request_id, self._head_read
        )
        self._dropped = 0
        self._unread_since = 0.0
        self._served = False
        self._refused = False
        self._overflowed = False
        """More came ahead than is kept: nothing that comes now has a known place."""
        self._refusal: Reply | None = None
        self._known: KnownHead[Request] | None = None
        self._writable = True
        self._holding = False
        """Whether the body that is passed on waits for its other side."""
        self._backlog = bytearray()

    def _finished(self) -> None:
        self._served = True
        parsing = self._reader.parsing
        if parsing is not None and parsing.stream is not None and not self._reader.ready:
            # Answered before its body had come: what still comes of it is read and dropped.
            self._refused = True
            self._refusal = _ANSWERED
            self._clear_backlog()
            self.take_body()
        if self._refused:
            self._linger()
        elif self._closing:
            self._close()
        elif self._reader.ready or self._backlog or self._refusal is not None:
            # Not from within this call: a row of pipelined requests that are
            # answered at once would nest as deep as the row is long.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._server.draining and self._reader.parsing is None:
            self._close()

    # -- asyncio -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._reader.peer = peer[0] if isinstance(peer, tuple) else ""
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        self._server.check_drained()
        job, self._job = self._job, None
        request, self._current = self._current, None
        try:
            if job is not None:
                job.client_gone()
        finally:
            if request is not None:
                self._server.memory.release(request)
            self._reader.close()
            self._clear_backlog()

    def data_received(self, data: bytes) -> None:
        self._active_at = self._clock()
        if self._overflowed:
            return
        if self._refusal is not None:
            # Read and dropped, so that the caller gets to read why.
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.drop()
            return
        reader = self._reader
        if self._streaming and not self._backlog and not self._holding:
            self._feed(data)
            return
        if self._current or reader.ready or self._backlog or not self._writable:
            # Keep reading while a job runs: only so is a hang-up noticed.
            self._keep_for_later(data)
            return
        known = self._known
        if known is not None and reader.parsing is None:
            body = known.body_of(data)
            if (
                body is not None
                and len(body) <= reader.body_limit
                and (len(body) <= SMALL_BYTES or self._server.memory.hold(known.meaning, len(body)))
            ):
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

    # -- bodies that are passed on -------------------------------------------

    @property
    def _streaming(self) -> bool:
        """Whether what comes now is of the body of the request that is worked on."""
        current = self._current
        return (
            current is not None and current.stream is not None and current is self._reader.parsing
        )

    def hold_body(self) -> None:
        self._holding = True
        if self._transport is not None:
            self._transport.pause_reading()

    def take_body(self) -> None:
        if not self._holding:
            return
        self._holding = False
        self._active_at = self._clock()
        self._pass_backlog()
        if not self._holding and self._transport is not None:
            self._transport.resume_reading()

    def _pass_backlog(self) -> None:
        """Pass on what of the body came along with what was before it."""
        while self._backlog and self._streaming and not self._holding:
            data = bytes(self._backlog[:_SLICE])
            del self._backlog[:_SLICE]
            self._server.memory.give_back(len(data), stranger=True)
            self._feed(data)

    # ------------------------------------------------------------------------

    def _head_read(self, request: Request) -> None:
        expects = request.fields.get(b"expect")
        if (
            expects is not None
            and expects.lower() == b"100-continue"
            and request.chunks
            and not self._reader.ready
        ):
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        begins = reader.parsing is None
        # Small requests take many times their bytes once they are parsed.
        first = data[:_SLICE] if begins else data
        rest = data[_SLICE:] if begins else b""
        try:
            reader.feed(first, self._active_at)
            if rest and not reader.ready:
                reader.feed(rest, self._active_at)
                rest = b""
        except Reply as reply:
            self._refuse(reply)
        else:
            if rest:
                self._keep_for_later(rest, ahead=True)
            elif begins and reader.parsing is None and len(reader.ready) == 1:
                self._learn(reader.ready[0], data)
        self._next()

    def _keep_for_later(self, data: bytes, *, ahead: bool = False) -> None:
        """Until the requests before it are answered; `ahead` of what is kept already."""
        self._backlog[0 if ahead else len(self._backlog) : 0 if ahead else None] = data
        more = self._server.memory.take(len(data), stranger=True)
        if not more or len(self._backlog) > _BACKLOG_MAX:
            # More than anybody pipelines: it goes unanswered, and the caller is told so
            # by the connection's end.
            self._clear_backlog(len(data) if not more else 0)
            self._closing = self._overflowed = True
            if self._current is None:
                self._close()

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

    def _next(self) -> None:
        """Start the next complete request; parse what came while the last one ran."""
        if self._transport is None or self._current is not None or not self._writable:
            return
        if self._overflowed or self._refused:
            self._close()
            return
        reader = self._reader
        if reader.ready:
            self._start(reader.ready.popleft())
        elif self._refusal is not None:
            self._respond_refusal(self._refusal)
        elif self._backlog:
            data = bytes(self._backlog[:_SLICE])
            del self._backlog[:_SLICE]
            self._server.memory.give_back(len(data), stranger=True)
            self._feed(data)
        elif self._server.draining and reader.parsing is None:
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
            if not self._writable:
                # The head that it began with was one answer too many.
                job.client_writable(False)
            self._pass_backlog()

    def _refuse(self, reply: Reply) -> None:
        """Refuse the request that is arriving, once those before it are answered, and close."""
        if self._refusal is None:
            self._refusal = reply

    def _respond_refusal(self, reply: Reply) -> None:
        reader = self._reader
        request = self._current = reader.parsing or Request(reader.peer, self._active_at)
        if not request.id:
            # As far as it came, so that the refusal has the shape of what was called.
            request.complete_head()
            request.id = self._server.request_id()
        request.keep_alive = False
        reader.parsing = None
        self._refused = True
        self.respond(reply)

    def _clear_backlog(self, uncounted: int = 0) -> None:
        """`uncounted`: bytes of it that there was no memory for."""
        if self._backlog:
            counted = len(self._backlog) - uncounted
            self._server.memory.give_back(counted, stranger=True)
            self._backlog = bytearray()

    # -- used by the server --------------------------------------------------

    def sweep(self, now: float) -> None:
        """Close a connection that idles too long or sends a request too slowly."""
        if not self._writable and now - self._unread_since > _UNREAD_S:
            # It takes nothing any more, and holds a slot.
            self.drop()
            return
        if self._closed_at and now - self._closed_at > _CLOSE_S:
            self.drop()
            return
        if self._job is not None and self._writable:
            # A replica is not to blame for a caller who takes nothing.
            self._job.sweep(now)
        if self._streaming and not self._holding and now - self._active_at > _BODY_STALL_S:
            # What has come of it was passed on, so there is nothing to say it to.
            self.drop()
            return
        if self._current is not None:
            return
        request = self._reader.parsing
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
        return _STRANGERS_BODY_S if request.of_stranger else math.inf

    def drain(self) -> None:
        """Take no further request; close now if none is under way, or on its way: nobody else can
        answer who has just connected.
        """
        if self._idle and self._reader.parsing is None and self._served:
            self._close()

    def hurry(self) -> None:
        if self._closed_at:
            self.drop()
        elif self._job is not None:
            self._job.hurry()
        elif self._idle and (self._reader.parsing is None or self._reader.parsing.of_stranger):
            # Its first request would have come by now.
            self._close()

    @property
    def _idle(self) -> bool:
        """Whether no whole request of its caller's is here."""
        return self._current is None and not self._reader.ready and not self._backlog
