"""Everything that is not `/v1`: relayed to the control plane, so that one port has it all."""

import asyncio
from collections.abc import Callable

from modelry.gateway.connection import ClientConnection
from modelry.gateway.relay import Relay, end_to_end
from modelry.gateway.replies import Reply, json_reply
from modelry.gateway.request import Request
from modelry.gateway.upstream import Upstream, UpstreamConnection, UpstreamError

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
_OURS = frozenset({b"x-request-id"})
_READY_TIMEOUT_S = 2.0


class Management:
    def __init__(self, control: Upstream) -> None:
        self._control = control

    def check_head(self, request: Request) -> None:
        """The control plane authenticates its callers itself."""

    def start(self, request: Request, client: ClientConnection) -> "Relay | ReadyCheck":
        if request.path == b"/readyz":
            check = ReadyCheck(client)
            check.start(self._control)
            return check
        relay = Relay(client, _Forward(self._control, request))
        relay.start()
        return relay

    def healthy(self, client: ClientConnection) -> None:
        client.respond(json_reply({"status": "ok"}))


class _Forward:
    """The plan of one relayed request: the control plane, once."""

    def __init__(self, control: Upstream, request: Request) -> None:
        self._control = control
        self._request = request
        self._asked = False

    def next_upstream(self, resume: Callable[[], None]) -> Upstream | None:
        if self._asked:
            raise _down()
        self._asked = True
        return self._control

    def request_bytes(self) -> bytes:
        request = self._request
        # llhttp cannot know that an answer to HEAD has no body, so ask for it
        # with GET; the connection to the caller leaves the body out.
        method = b"GET" if request.method == b"HEAD" else request.method
        lines = [method + b" " + request.target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in end_to_end(request.headers, _REPLACED)]
        lines += [
            b"host: " + (request.header(b"host") or b"localhost"),
            b"x-forwarded-for: " + request.peer.encode(),
            b"x-request-id: " + request.id.encode(),
            b"content-length: " + str(len(request.body)).encode(),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + request.body

    def response_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return end_to_end(headers, _OURS)

    def released(self) -> None:
        """Nothing is held."""

    def refusal(self, status: int, body: bytes) -> Reply | None:
        return None

    def can_be_cut(self) -> bool:
        # A log that is followed would never end by itself.
        return True

    def accepts(self, status: int) -> bool:
        return True


class ReadyCheck:
    """Asks the control plane whether it answers, for `/readyz`."""

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._connection: UpstreamConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status = 0
        self._over = False

    def start(self, control: Upstream) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_READY_TIMEOUT_S, self._answer, False)
        control.send(self, fresh=True)

    def client_gone(self) -> None:
        self._stop()

    def hurry(self) -> None:
        """It has a deadline of its own."""

    def client_writable(self, writable: bool) -> None:
        """The answer is a few bytes."""

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        if self._over:
            connection.abandon()
            return
        self._connection = connection
        connection.write(b"GET /readyz HTTP/1.1\r\nhost: control\r\n\r\n")

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def upstream_body(self, data: bytes) -> None:
        """What it says beyond its status is of no matter."""

    def upstream_done(self) -> None:
        self._connection = None
        self._answer(self._status == 200)

    def upstream_failed(self, error: UpstreamError) -> None:
        self._connection = None
        self._answer(False)

    def _answer(self, ready: bool) -> None:
        if self._over:
            return
        self._stop()
        if ready:
            self._client.respond(json_reply({"status": "ready"}))
        else:
            self._client.respond(json_reply({"status": "control plane does not answer"}, 503))

    def _stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None


def _down() -> Reply:
    message = "The control plane does not answer. It is being restarted; try again in a moment."
    body = {
        "error": {
            "code": "unavailable",
            "message": message,
            "hint": None,
            "param": None,
        }
    }
    reply = json_reply(body, 503)
    return Reply(503, reply.body, headers=((b"retry-after", b"2"),))
