"""Everything that is not `/v1`: relayed to the control plane, so that one port has it all."""

import asyncio

from modelry.gateway.connection import ClientConnection
from modelry.gateway.forward import Forward
from modelry.gateway.heads import Head
from modelry.gateway.origin import Origin
from modelry.gateway.replies import json_reply
from modelry.gateway.request import Request
from modelry.gateway.upstream import Upstream
from modelry.gateway.upstream_connection import UpstreamConnection, UpstreamError

_READY_TIMEOUT_S = 2.0


class Management:
    """The control plane authenticates its callers itself."""

    def __init__(self, control: Upstream, origin: Origin) -> None:
        self._control = control
        self._origin = origin

    def start(self, request: Request, client: ClientConnection) -> "Forward | ReadyCheck":
        if request.path == b"/readyz":
            check = ReadyCheck(client)
            check.start(self._control)
            return check
        forward = Forward(client, self._control, request, self._origin.lines(request))
        forward.start()
        return forward

    def healthy(self, client: ClientConnection) -> None:
        client.respond(json_reply({"status": "ok"}))


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

    def sweep(self, now: float) -> None:
        """It has a timer."""

    def client_writable(self, writable: bool) -> None:
        """The answer is a few bytes."""

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        if self._over:
            connection.abandon()
            return
        self._connection = connection
        connection.write(b"GET /readyz HTTP/1.1\r\nhost: control\r\n\r\n")

    def upstream_head(self, head: Head) -> None:
        self._status = head.status

    def upstream_body(self, data: bytes) -> None:
        """What it says beyond its status is of no matter."""

    def upstream_chunk(self, chunk: bytes, data: bytes) -> None:
        """As little as its body."""

    def upstream_whole(self, head: Head, body: bytes) -> None:
        self.upstream_head(head)
        self.upstream_done()

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
