"""Requests as they arrive on one connection: parsed by llhttp, held to the rules, bounded.

Bytes go in, whole requests come out. It answers nobody: what is wrong with a
request is raised as the `Reply` to refuse it with.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from modelry.gateway.memory import Memory
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import Request
from modelry.gateway.streams import BodyStream

_HEAD_MAX = 64 * 1024
_AHEAD_MOST = 4096
"""Requests that come at once: one is some 600 bytes here, however short it was."""
_FIELDS_MOST = 256


class Rules(Protocol):
    """What may come in. `check_head` raises a `Reply` to refuse before the body is read."""

    def body_limit(self, request: Request) -> int: ...
    def check_head(self, request: Request) -> None: ...
    def streams(self, request: Request, length: int) -> bool:
        """Whether a body of so many bytes is passed on while it arrives."""
        ...


class RequestReader:
    """`head_read` is called at the end of each head. After a `Reply` was raised nothing may be
    fed any more.
    """

    def __init__(
        self,
        rules: Rules,
        memory: Memory,
        request_id: Callable[[], bytes],
        head_read: Callable[[Request], None],
    ) -> None:
        self.parsing: Request | None = None
        """The request that is arriving."""
        self.ready: deque[Request] = deque()
        """Requests that have arrived."""
        self.body_limit = 0
        """That of the last request."""
        self.peer = ""
        """Where it comes from, once that is known."""
        self._rules = rules
        self._memory = memory
        self._request_id = request_id
        self._head_read = head_read
        self._parser = httptools.HttpRequestParser(self)
        self._now = 0.0
        self._head_bytes = 0
        self._arriving = 0
        self._delivered = False
        self._rest_bytes = 0
        self._declined = False

    def feed(self, data: bytes, now: float) -> None:
        """Take what came at `now`. Raises `Reply` where it must be refused."""
        self._now = now
        arriving = self.parsing
        self._arriving = self._head_bytes + len(data)
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as wrapped:
            cause = wrapped.__context__
            if isinstance(cause, Reply):
                raise cause from None
            raise
        except httptools.HttpParserError:
            raise error(
                400, "invalid_request_error", "The request is not valid HTTP/1.1."
            ) from None
        self._bound_rest(len(data))
        if self.parsing is arriving or (arriving is None and not self.ready):
            # All of it was the head's, or the body's.
            self._bound_head(len(data))

    def close(self) -> None:
        """Nobody will ask for what is here."""
        for request in (*self.ready, *([self.parsing] if self.parsing else [])):
            self._memory.release(request)
        self.ready.clear()
        self.parsing = None

    # -- httptools -----------------------------------------------------------

    def on_message_begin(self) -> None:
        if len(self.ready) >= _AHEAD_MOST:
            raise error(400, "invalid_request_error", "Too many requests were sent ahead.")
        if not self._declined:
            self.parsing = Request(self.peer, self._now)
            self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        assert self.parsing is not None
        if not self._declined:
            self.parsing.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self.parsing
        assert request is not None
        # Trailers come after the head: they must not pass for headers.
        if not request.id:
            request.headers.append((name.lower(), value))
            if len(request.headers) > _FIELDS_MOST:
                raise _head_too_large()

    def on_headers_complete(self) -> None:
        parser, request = self._parser, self.parsing
        assert request is not None
        if self._declined:
            self._declined = False
            return
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        request.complete_head()
        request.id = self._request_id()
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
        self._rules.check_head(request)
        length = fields.get(b"content-length")
        # Where another protocol is offered, the parser leaves off at the body.
        if length is not None and b"upgrade" not in fields:
            size = int(length)
            if size and self._rules.streams(request, size):
                request.stream = BodyStream(size)
                self._head_read(request)
                # It is for its job to take the body from here on.
                self.ready.append(request)
                return
        limit = self.body_limit = self._rules.body_limit(request)
        if length is not None and int(length) > limit:
            raise self._too_large()
        self._head_read(request)

    def on_body(self, data: bytes) -> None:
        request = self.parsing
        assert request is not None
        self._delivered = True
        if request.stream is not None:
            request.stream.feed(data)
            return
        body = request.body
        if len(body) + len(data) > self.body_limit:
            raise self._too_large()
        if not self._memory.hold(request, len(data)):
            raise _no_memory()
        if not body:
            # Most bodies come whole: they are never copied.
            request.body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            request.body = bytearray(body)
            request.body += data

    def on_message_complete(self) -> None:
        request = self.parsing
        assert request is not None
        if self._parser.should_upgrade() and _has_body(request):
            # llhttp leaves off where the other protocol would begin. It does
            # not, so the body is still to come.
            return
        if request.stream is None:
            self.ready.append(request)
        else:
            request.stream.end()
        self.parsing = None

    # ------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # An offer that we decline by answering as if it had not been
                # made; what follows is HTTP/1.1 still.
                data = data[offer.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                if self.parsing is not None:
                    self._declined = True
                    self._parser.feed_data(_framing(self.parsing))
                if data:
                    continue
            return

    def _bound_rest(self, size: int) -> None:
        """Bound what comes within a body and is none of it: trailers, extensions of chunks."""
        if self.parsing is None or not self.parsing.id or self._delivered:
            self._rest_bytes = 0
        else:
            self._rest_bytes += size
            if self._rest_bytes > _HEAD_MAX:
                raise _head_too_large()
        self._delivered = False

    def _bound_head(self, size: int) -> None:
        """Bound the head: the parser hands over a header only once its line is complete."""
        request = self.parsing
        if request is None or request.id:
            return
        self._head_bytes += size
        if self._head_bytes > _HEAD_MAX:
            raise _head_too_large()

    def _too_large(self) -> Reply:
        message = f"The request's body is larger than {_size(self.body_limit)}, the limit here."
        return error(413, "request_too_large", message)


def _size(number: int) -> str:
    """Bytes in the largest unit of which they are a whole number."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number % size == 0:
            return f"{number // size} {unit}"
    return f"{number} bytes"


def _has_body(request: Request) -> bool:
    fields = request.fields
    return b"transfer-encoding" in fields or int(fields.get(b"content-length", b"0")) > 0


def _framing(request: Request) -> bytes:
    """A head that frames its body as the request's own did."""
    fields = request.fields
    if b"transfer-encoding" in fields:
        framing = b"transfer-encoding: chunked"
    else:
        framing = b"content-length: " + fields[b"content-length"]
    return b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing


def _bad_head(why: str) -> Reply:
    return error(400, "invalid_request_error", f"The request is not valid HTTP/1.1: {why}.")


def _head_too_large() -> Reply:
    return error(431, "request_header_too_large", "The request's headers are too large.")


def _no_memory() -> Reply:
    message = "The requests that are arriving now are too large together. Please try again."
    return error(503, "overloaded", message, retry_after_s=1)
