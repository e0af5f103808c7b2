"""The listening side of the gateway: accepts callers, sweeps the idle, drains at the end."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from modelry.gateway.access_log import AccessLog
from modelry.gateway.connection import ClientConnection, Handler
from modelry.gateway.cors import Cors
from modelry.gateway.memory import Memory

_SWEEP_S = 1.0
_BACKLOG = 2048
_HURRY_AFTER_S = 1.0


class Server:
    """The listening side. One per process."""

    def __init__(
        self,
        handler: Handler,
        *,
        request_id: Callable[[], bytes],
        memory: Memory,
        cors: Cors | None = None,
        tls: ssl.SSLContext | None = None,
        log: AccessLog | None = None,
    ) -> None:
        self.handler = handler
        self.request_id = request_id
        self.memory = memory
        self.cors = cors
        self.log = log
        self._tls = tls
        self.connections: set[ClientConnection] = set()
        self.draining = False
        self._drained = asyncio.Event()
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def serve(self, listeners: Sequence[socket.socket]) -> None:
        """Accept callers on sockets that listen already; others may hold them too."""
        loop = asyncio.get_running_loop()
        self._listeners = [
            # Which has it listen anew, with a queue of this length.
            await loop.create_server(self._connection, sock=each, backlog=_BACKLOG, ssl=self._tls)
            for each in listeners
        ]
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    def _connection(self) -> ClientConnection:
        return ClientConnection(self)

    async def drain(self, timeout_s: float) -> None:
        """Stop listening, let running requests finish, then close what is left."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
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
