"""Writing answers to a caller: whole, or begun, written and finished by a job.

Knows how an answer is framed on its connection, nothing of how requests come in.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from modelry.gateway.access_log import AccessLog
from modelry.gateway.cors import Cors
from modelry.gateway.memory import Memory
from modelry.gateway.replies import Reply, shaped, status_line
from modelry.gateway.request import Request

_LINGER_S = 1.0


class Job(Protocol):
    """The work on one request, from the handler's `start` until it finished its answer.

    `hurry`: everything ends; what can be cut short, such as a log that is
    followed, ends now.
    """

    def hurry(self) -> None: ...
    def sweep(self, now: float) -> None:
        """Called now and then: it may have waited for too long."""
        ...

    def client_gone(self) -> None: ...
    def client_writable(self, writable: bool) -> None: ...


class Host(Protocol):
    """What an answer depends on beyond its request."""

    draining: bool
    cors: Cors | None
    log: AccessLog | None
    memory: Memory
    request_id: Callable[[], bytes]


class AnswerWriter(asyncio.Protocol):
    """The answering side of a connection; the other side starts jobs and is told when one
    has finished.
    """

    translates = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._current: Request | None = None
        self._job: Job | None = None
        self._status = 0
        self._chunked = False
        self._bodiless = False
        self._closing = False
        self._clock = time.monotonic
        self._active_at = self._clock()
        self._closed_at = 0.0
        """When it was closed, which waits for the caller to take what it was sent."""

    # -- used by jobs --------------------------------------------------------

    def respond(self, reply: Reply) -> None:
        """Write a whole answer and finish."""
        request = self._current
        if request is not None and reply.problem is not None:
            reply = shaped(reply, request)
        self.respond_whole(reply.status, reply.lines, reply.body)

    def respond_whole(self, status: int, lines: bytes, body: bytes) -> None:
        """The same of parts: `lines` are header lines, each with its line end."""
        request, host = self._current, self._host
        assert request is not None
        plain = request.keep_alive and not self._closing
        if plain and status == 200 and not host.draining and host.cors is None:
            # What nearly every answer is: written in one piece.
            self._status = 200
            self._chunked = False
            data = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n" % (
                lines,
                len(body),
                request.id,
            )
            if request.method != b"HEAD":
                data += body
            if self._transport is not None:
                self._transport.write(data)
        else:
            head = self._head(status, lines, len(body))
            self._send(head if self._bodiless else head + body)
        self.finish()

    def begin(self, status: int, lines: bytes, length: int | None = None) -> None:
        """Write the head. Without a length the body is chunked."""
        self._send(self._head(status, lines, length))

    def _head(self, status: int, lines: bytes, length: int | None) -> bytes:
        request = self._current
        assert request is not None
        host = self._host
        self._status = status
        if host.draining or not request.keep_alive:
            self._closing = True
        empty = status in (204, 304)
        self._bodiless = empty or request.method == b"HEAD"
        self._chunked = False
        framing = b""
        if length is not None and status != 204:
            framing = b"content-length: %d\r\n" % length
        elif not empty and request.chunks:
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        elif not empty:
            self._closing = True
        if self._closing:
            framing += b"connection: close\r\n"
        if host.cors is not None and request.is_inference:
            framing += host.cors.lines(request)
        return b"%b%b%bx-request-id: %b\r\n\r\n" % (
            status_line(status),
            lines,
            framing,
            request.id,
        )

    def write(self, data: bytes) -> None:
        if not data or self._bodiless:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._transport is not None:
            self._transport.write(data)

    @property
    def chunk_writer(self) -> Callable[[bytes], None] | None:
        """What writes chunks that are coded already, where the answer goes out in chunks."""
        if self._transport is None or not self._chunked or self._bodiless:
            return None
        return self._transport.write

    def write_chunk(self, chunk: bytes, data: bytes) -> None:
        """Write `data`, of which `chunk` is the chunked form."""
        if self._chunked and not self._bodiless and self._transport is not None:
            self._transport.write(chunk)
        else:
            self.write(data)

    def finish(self) -> None:
        """The answer is complete; the next request may come."""
        if self._chunked and not self._bodiless:
            self._send(b"0\r\n\r\n")
        request = self._current
        assert request is not None
        self._job = None
        self._current = None
        self._active_at = now = self._clock()
        if self._host.log is not None and not request.accounted:
            self._host.log.answered(request, self._status, now - request.arrived_at)
        self._host.memory.release(request)
        self._finished()

    def _linger(self) -> None:
        """Say that no more comes, and let a caller that still sends read why.

        Closing at once would reset the connection, and with it the answer.
        """
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, self._close)

    def abort(self) -> None:
        """Break the connection: the answer that was begun cannot be completed."""
        self._job = None
        request, self._current = self._current, None
        if request is not None:
            self._host.memory.release(request)
        if self._transport is not None:
            self._transport.abort()

    def serves(self, request: Request) -> bool:
        """Whether it is this request that is answered now: its caller has not left."""
        return self._current is request

    def drop(self) -> None:
        """Break the connection, whatever runs on it; its job is told."""
        if self._transport is not None:
            self._transport.abort()

    def hold_body(self) -> None:
        """Read no more of the body that is passed on, until `take_body`."""
        raise NotImplementedError

    def take_body(self) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------------------

    def _finished(self) -> None:
        """An answer is complete: go on, or close."""
        raise NotImplementedError

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._closed_at = self._closed_at or self._clock()
            self._transport.close()
