"""The gateway as a whole: its table, its feed, its listener, and how it ends."""

import asyncio
import errno
import logging
import secrets

from modelry.gateway.connection import ClientConnection, Job
from modelry.gateway.feed import FeedClient
from modelry.gateway.inference import Inference
from modelry.gateway.management import Management
from modelry.gateway.replies import error
from modelry.gateway.request import Request
from modelry.gateway.server import Server
from modelry.gateway.table import Table
from modelry.gateway.upstream import Upstream
from modelry.settings import Settings

log = logging.getLogger(__name__)

_PORT_WAIT_S = 1.5
_MANAGEMENT_BODY_BYTES = 2 * 1024 * 1024


class Front:
    """Sends each request where its path belongs."""

    def __init__(self, inference: Inference, management: Management, max_body_bytes: int) -> None:
        self._inference = inference
        self._management = management
        self._max_body_bytes = max_body_bytes

    def body_limit(self, request: Request) -> int:
        # The control plane authenticates its callers itself, so anybody can
        # make us hold such a body.
        if request.is_inference:
            return self._max_body_bytes
        return min(self._max_body_bytes, _MANAGEMENT_BODY_BYTES)

    def check_head(self, request: Request) -> None:
        if request.is_inference:
            self._inference.check_head(request)

    def start(self, request: Request, client: ClientConnection) -> Job | None:
        path = request.path
        if request.method == b"CONNECT":
            raise error(501, "not_implemented", "This is no proxy.")
        if request.is_inference:
            return self._inference.start(request, client)
        if path == b"/healthz":
            self._management.healthy(client)
            return None
        return self._management.start(request, client)


class Gateway:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        paths = settings.paths
        self._table = Table()
        self._feed = FeedClient(self._table, paths.feed_socket, paths.feed_snapshot)
        inference = Inference(self._table, start_wait_s=settings.start_wait_s)
        management = Management(Upstream(f"unix:{paths.control_socket}"))
        self._server = Server(
            Front(inference, management, settings.max_body_bytes),
            request_id=lambda: "req_" + secrets.token_hex(12),
        )
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Begin to serve; returns the port. Raises `OSError` where it cannot be had."""
        self._feed.load()
        port = await self._listen()
        self._following = asyncio.create_task(self._feed.run())
        log.info("serving on %s:%s", self._settings.host, port)
        return port

    async def _listen(self) -> int:
        """Listen; a gateway that is just ending on the same port gets a moment to go."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PORT_WAIT_S
        while True:
            try:
                return await self._server.listen(self._settings.host, self._settings.port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                    raise
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Drain: no new requests; running ones finish within `drain_timeout_s`."""
        await self._server.drain(self._settings.drain_timeout_s)
        if self._following is not None:
            self._following.cancel()
        self._feed.save()
