"""The relay: one request's bytes to an upstream and its answer's bytes back.

A `Relay` is the job of one request. It is driven by callbacks from both
connections, keeps back-pressure both ways, and passes an answer on as it comes. What
differs between inference and management is in the `Plan` it follows: which
upstream to ask next, what to send, and which headers come back.
"""

from collections.abc import Callable
from typing import Protocol

from modelry.gateway.connection import ClientConnection
from modelry.gateway.replies import Reply, error_body
from modelry.gateway.upstream import Upstream, UpstreamConnection, UpstreamError

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


# An engine's refusal is a sentence; what is longer is cut.
_REFUSAL_MAX = 64 * 1024

Headers = list[tuple[bytes, bytes]]


def is_event_stream(headers: Headers) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


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


class Plan(Protocol):
    """What one relay does.

    `next_upstream` returns None where there is none yet and calls `resume` once
    that may have changed; it raises a `Reply` when there is none to hope for.
    `released` gives back what the last `next_upstream` took or waits for.
    """

    def next_upstream(self, resume: Callable[[], None]) -> Upstream | None: ...
    def request_bytes(self) -> bytes: ...
    def response_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]: ...
    def released(self) -> None: ...
    def refusal(self, status: int, body: bytes) -> Reply | None:
        """What the caller gets for an answer of 400 or more; None for the answer itself."""
        ...

    def can_be_cut(self) -> bool:
        """Whether its answer may end early when everything ends."""
        ...

    def accepts(self, status: int) -> bool:
        """Whether an answer with this status is one for the caller."""
        ...


class Relay:
    def __init__(self, client: ClientConnection, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._upstream: Upstream | None = None
        self._connection: UpstreamConnection | None = None
        self._begun = False
        self._ended = False
        self._event_stream = False
        self._last_bytes = b""
        self._refused: tuple[int, bytearray] | None = None

    def start(self) -> None:
        """Ask the plan's next upstream. Answers the client itself where there is none."""
        try:
            upstream = self._upstream = self._plan.next_upstream(self.start)
        except Reply as reply:
            self._end()
            self._client.respond(reply)
            return
        if upstream is not None:
            upstream.send(self)

    # -- the caller's side ---------------------------------------------------

    def client_gone(self) -> None:
        """The caller hung up: the engine must not go on for nobody."""
        if self._connection is not None:
            self._connection.abandon()
        self._end()

    def hurry(self) -> None:
        connection = self._connection
        if self._plan.can_be_cut() and connection is not None:
            begun = self._begun
            self._end()
            connection.abandon()
            if begun:
                self._client.finish()
            else:
                self._client.respond(
                    Reply(503, b"", problem=("unavailable", "Modelry is being stopped."))
                )

    def client_writable(self, writable: bool) -> None:
        if self._connection is None:
            return
        if writable:
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()

    # -- the upstream's side -------------------------------------------------

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        if self._ended:
            connection.abandon()
            return
        self._connection = connection
        connection.write(self._plan.request_bytes())

    def upstream_head(self, status: int, headers: Headers) -> None:
        if not self._plan.accepts(status):
            self._give_up("its answer is not for the caller")
            return
        if status >= 400 and self._plan.refusal(status, b"") is not None:
            self._refused = (status, bytearray())
            return
        self._begun = True
        self._event_stream = is_event_stream(headers)
        self._client.begin(status, self._plan.response_headers(headers))

    def upstream_body(self, data: bytes) -> None:
        if self._refused is not None:
            self._refused[1].extend(data[: _REFUSAL_MAX - len(self._refused[1])])
            return
        if self._event_stream:
            self._last_bytes = (self._last_bytes + data[-2:])[-2:]
        self._client.write(data)

    def upstream_done(self) -> None:
        refused = self._refused
        self._end()
        reply = self._plan.refusal(refused[0], bytes(refused[1])) if refused else None
        if reply is not None:
            self._client.respond(reply)
        else:
            self._client.finish()

    def upstream_failed(self, failure: UpstreamError) -> None:
        self._connection = None
        self._refused = None
        if self._ended:
            return
        if self._begun:
            self._break_off()
        elif failure.stale and self._upstream is not None:
            self._upstream.send(self, fresh=True)
        else:
            self._plan.released()
            self.start()

    # ------------------------------------------------------------------------

    def _give_up(self, why: str) -> None:
        """Hang up on an upstream whose answer cannot be used, as if it had died."""
        connection = self._connection
        self.upstream_failed(UpstreamError(why))
        if connection is not None:
            connection.abandon()

    def _break_off(self) -> None:
        """The upstream died within its answer: say so where the format lets us."""
        self._end()
        if not self._event_stream:
            self._client.abort()
            return
        message = "The replica stopped before the answer was complete. Please try again."
        # A blank line ends an event that was cut off.
        if self._last_bytes not in (b"", b"\n\n"):
            self._client.write(b"\n\n")
        self._client.write(b"data: " + error_body(502, "bad_gateway", message) + b"\n\n")
        self._client.finish()

    def _end(self) -> None:
        self._ended = True
        self._connection = None
        self._plan.released()
