"""Requests that are relayed to the control plane as they are."""

from modelry.gateway.answers import AnswerWriter
from modelry.gateway.away import away
from modelry.gateway.heads import Head, Headers
from modelry.gateway.replies import error, header_lines
from modelry.gateway.request import Request
from modelry.gateway.upstream import Upstream
from modelry.gateway.upstream_connection import UpstreamConnection, UpstreamError

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
_REPLACED = frozenset(
    {
        b"content-length",
        b"host",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"forwarded",
        b"x-request-id",
    }
)
_OURS = frozenset({b"x-request-id", b"content-length"})


def end_to_end(headers: Headers, without: frozenset[bytes]) -> Headers:
    """The headers that go on: none that belongs to one hop (RFC 9110, 7.6.1) or is in `without`."""
    named = {
        name.strip().lower()
        for key, value in headers
        if key == b"connection"
        for name in value.split(b",")
    }
    return [
        (name, value)
        for name, value in headers
        if name not in _HOP_BY_HOP and name not in named and name not in without
    ]


class Forward:
    """One request and its answer, passed on as they come, with back-pressure both ways.

    `origin`: header lines that say where the request came from.
    """

    def __init__(
        self, client: AnswerWriter, control: Upstream, request: Request, origin: bytes
    ) -> None:
        self._client = client
        self._control = control
        self._request = request
        self._origin = origin
        self._connection: UpstreamConnection | None = None
        self._begun = False
        self._ended = False
        self._full = False
        """Whether the control plane takes no more of the body for now."""

    def start(self) -> None:
        stream = self._request.stream
        if stream is not None:
            self._client.hold_body()
        # A body that is passed on cannot be sent twice, so no kept connection is risked.
        self._control.send(self, fresh=stream is not None)

    # -- the caller's side ---------------------------------------------------

    def client_gone(self) -> None:
        connection, self._connection = self._connection, None
        self._ended = True
        self._drop_body()
        if connection is not None:
            connection.abandon()

    def hurry(self) -> None:
        """A log that is followed would never end by itself."""
        connection = self._connection
        if connection is None:
            return
        self.client_gone()
        if self._begun:
            self._client.finish()
        else:
            self._request.keep_alive = False
            self._client.respond(error(503, "unavailable", "Modelry is being stopped."))

    def sweep(self, now: float) -> None:
        """A log that is followed may be silent for long."""

    def client_writable(self, writable: bool) -> None:
        if self._connection is None:
            return
        if writable:
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()

    # -- the control plane's side --------------------------------------------

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        if self._ended:
            connection.abandon()
            return
        self._connection = connection
        request = self._request
        # llhttp cannot know that an answer to HEAD has no body, so ask for it
        # with GET; the connection to the caller leaves the body out.
        method = b"GET" if request.method == b"HEAD" else request.method
        stream = request.stream
        connection.write(
            b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (
                method,
                request.target,
                header_lines(end_to_end(request.headers, _REPLACED)),
                self._origin,
                request.id,
                len(request.body) if stream is None else stream.length,
                bytes(request.body),
            )
        )
        if stream is not None:
            connection.on_writable = self._upstream_writable
            stream.pour(connection.write)
            if not self._full:
                self._client.take_body()

    def _upstream_writable(self, writable: bool) -> None:
        self._full = not writable
        if self._ended:
            return
        if writable:
            self._client.take_body()
        else:
            self._client.hold_body()

    def upstream_head(self, head: Head) -> None:
        self._begun = True
        if self._body_open:
            # It is answered already: what would follow the rest of it is not waited for.
            self._request.keep_alive = False
        lengths = [value for name, value in head.headers if name == b"content-length"]
        length = int(lengths[0]) if lengths else None
        self._client.begin(head.status, header_lines(end_to_end(head.headers, _OURS)), length)

    def upstream_body(self, data: bytes) -> None:
        self._client.write(data)

    def upstream_chunk(self, chunk: bytes, data: bytes) -> None:
        self._client.write(data)

    def upstream_whole(self, head: Head, body: bytes) -> None:
        self.upstream_head(head)
        self.upstream_body(body)
        self.upstream_done()

    def upstream_done(self) -> None:
        self._ended = True
        connection, self._connection = self._connection, None
        if self._body_open and connection is not None:
            # It still waits for the rest of this body: it is of no use to others.
            connection.abandon()
        self._drop_body()
        self._client.finish()

    def upstream_failed(self, failure: UpstreamError) -> None:
        self._connection = None
        if self._ended:
            return
        if self._body_open:
            self._request.keep_alive = False
        self._drop_body()
        if self._begun:
            self._ended = True
            self._client.abort()
        elif failure.stale:
            self._control.send(self, fresh=True)
        else:
            self._ended = True
            self._client.respond(away(self._request))

    # ------------------------------------------------------------------------

    @property
    def _body_open(self) -> bool:
        """Whether more of the body is to come."""
        stream = self._request.stream
        return stream is not None and not stream.ended

    def _drop_body(self) -> None:
        if self._request.stream is not None:
            self._request.stream.drop()
