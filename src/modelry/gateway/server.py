"""The listening side of the gateway: accepts callers, sweeps the idle, drains at the end."""

import asyncio
import time
from collections.abc import Callable

from modelry.gateway.connection import ClientConnection, Handler

_SWEEP_S = 5.0
_HURRY_AFTER_S = 1.0


class Server:
    """The listening side. One per process."""

    def __init__(self, handler: Handler, *, request_id: Callable[[], str]) -> None:
        self.handler = handler
        self.request_id = request_id
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self._drained = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listen on `host`:`port` (0: any free one) and return the port. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=2048
        )
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)
        chosen: int = self._listener.sockets[0].getsockname()[1]
        return chosen

    async def drain(self, timeout_s: float) -> None:
        """Stop listening, let running requests finish, then close what is left."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.drain()
        self.check_drained()
        asyncio.get_running_loop().call_later(_HURRY_AFTER_S, self._hurry)
        try:
            await asyncio.wait_for(self._drained.wait(), timeout_s)
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.drop()

    def _hurry(self) -> None:
        for connection in tuple(self.connections):
            connection.hurry()

    def check_drained(self) -> None:
        if self.draining and not self.connections:
            self._drained.set()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.sweep(now)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
