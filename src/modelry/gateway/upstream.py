"""Upstreams: the addresses of replicas, endpoints elsewhere and the control plane.

One `Upstream` is one address, with the connections that are kept to it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import cache

from modelry.gateway.heads import Head, KnownHead, known_head
from modelry.gateway.upstream_connection import Exchange, UpstreamConnection, UpstreamError
from modelry.routing.addresses import is_public

# An engine spends a thread on each connection it keeps.
_IDLE_KEPT_LOCAL = 16
_IDLE_KEPT = 512
_CONNECT_TIMEOUT_S = 10.0
_FULL_PAUSE_S = 0.01
# Heads with a date in them are new each second.
_LEARNED_MOST = 100_000


class Upstream:
    """One address and its kept connections.

    `address` is `unix:<path>`, `tcp:<host>:<port>` or `tls:<host>:<port>`.
    `public_only`: it must resolve to a public address each time it is connected to.
    `learns`: heads that repeat are known, and a Content-Length among the headers
    may be that of an earlier answer.
    """

    def __init__(self, address: str, *, public_only: bool = False, learns: bool = False) -> None:
        self.address = address
        self.learns = learns
        self._public_only = public_only
        self._kept_most = _IDLE_KEPT_LOCAL if address.startswith("unix:") else _IDLE_KEPT
        self._idle: list[UpstreamConnection] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        self.known: KnownHead[Head] | None = None
        self._learned = 0

    def send(self, exchange: Exchange, *, fresh: bool = False) -> None:
        """Give `exchange` a connection; `fresh`: none that was used before."""
        if self._idle and not fresh:
            self._idle.pop().begin(exchange)
            return
        self._run(self._give(exchange))

    def probe(self, heard: Callable[[bool], None]) -> None:
        """Say whether a connection can be made now; one that could is kept."""
        self._run(self._probe(heard))

    def keep(self, connection: UpstreamConnection) -> None:
        if len(self._idle) < self._kept_most and not self._closed:
            self._idle.append(connection)
        else:
            connection.abandon()

    def forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def learn(self, answer: bytes, head: Head) -> None:
        """Know the head of an answer, unless its heads differ each time."""
        if self._learned < _LEARNED_MOST:
            self._learned += 1
            self.known = known_head(answer, head) or self.known

    def open(self) -> None:
        """Keep connections again."""
        self._closed = False

    def close(self) -> None:
        """Close what is idle, keep none; exchanges under way go on."""
        self._closed = True
        for connection in tuple(self._idle):
            connection.abandon()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _give(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            exchange.upstream_failed(UpstreamError(f"no connection: {reason}"))
            return
        connection.begin(exchange)

    async def _probe(self, heard: Callable[[bool], None]) -> None:
        try:
            connection = await self._connect()
        except OSError:
            heard(False)
            return
        connection.kept()
        self.keep(connection)
        heard(True)

    async def _connect(self) -> UpstreamConnection:
        """Raises `OSError`, of which `TimeoutError` and TLS errors are."""
        loop = asyncio.get_running_loop()
        kind, _, rest = self.address.partition(":")

        def made() -> UpstreamConnection:
            return UpstreamConnection(self)

        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            while kind == "unix":
                try:
                    _, connection = await loop.create_unix_connection(made, rest)
                    return connection
                except BlockingIOError:
                    # Its queue of connections is full: it is busy, and not gone.
                    await asyncio.sleep(_FULL_PAUSE_S)
            host, _, port = rest.rpartition(":")
            target = await self._public_address(host, int(port)) if self._public_only else host
            _, connection = await loop.create_connection(
                made,
                target,
                int(port),
                ssl=_tls() if kind == "tls" else None,
                server_hostname=host if kind == "tls" else None,
            )
            return connection

    async def _public_address(self, host: str, port: int) -> str:
        """An address of `host` that is nobody's private network. Looked up at each connection,
        so that a name cannot be pointed inside once it was checked.
        """
        loop = asyncio.get_running_loop()
        for *_, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            found = str(address[0])
            if is_public(found):
                return found
        raise OSError("it has no public address")


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
