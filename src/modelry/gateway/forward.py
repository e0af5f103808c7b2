"""Requests that are relayed to the control plane as they are."""

from modelry.gateway.answers import AnswerWriter
from modelry.gateway.heads import Head, Headers
from modelry.gateway.replies import Reply, error, header_lines
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

    def start(self) -> None:
        self._control.send(self)

    # -- the caller's side ---------------------------------------------------

    def client_gone(self) -> None:
        connection, self._connection = self._connection, None
        self._ended = True
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
        connection.write(
            b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (
                method,
                request.target,
                header_lines(end_to_end(request.headers, _REPLACED)),
                self._origin,
                request.id,
                len(request.body),
                bytes(request.body),
            )
        )

    def upstream_head(self, head: Head) -> None:
        self._begun = True
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
        self._connection = None
        self._client.finish()

    def upstream_failed(self, failure: UpstreamError) -> None:
        self._connection = None
        if self._ended:
            return
        if self._begun:
            self._ended = True
            self._client.abort()
        elif failure.stale:
            self._control.send(self, fresh=True)
        else:
            self._ended = True
            self._client.respond(_down())


def _down() -> Reply:
    message = "The control plane does not answer. It is being restarted; try again in a moment."
    return error(503, "unavailable", message, retry_after_s=2)
