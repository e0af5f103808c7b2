"""Whole answers: each connection sends its next request as soon as it has its answer."""

import select
import socket
import time

from bench.gateway.wire import HOST, TEXT, Unexpected

_GIVE_UP_S = 60.0


class _Connection:
    __slots__ = ("answer", "asked_at", "rest", "socket", "turn")

    def __init__(self, port: int, turn: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.turn = turn
        self.asked_at = 0.0
        self.answer = b""
        self.rest: memoryview | None = None


class Calls:
    """`latencies`, in seconds, of the answers since `forget`."""

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._requests = requests
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        # One buffer: to allocate one for each read would cost more than the read.
        self._buffer = bytearray(256 * 1024)
        self._view = memoryview(self._buffer)
        self.latencies: list[float] = []
        for number in range(connections):
            connection = _Connection(port, number)
            self._connections[connection.socket.fileno()] = connection
            self._poll.register(connection.socket, select.EPOLLIN)
            self._ask(connection)

    def forget(self) -> None:
        self.latencies = []

    def run_for(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._turn(again=True)

    def finish(self) -> None:
        """Take the answers that are still to come, and hang up."""
        self.forget()
        while len(self.latencies) < len(self._connections):
            self._turn(again=False)
        for connection in self._connections.values():
            connection.socket.close()

    def _turn(self, *, again: bool) -> None:
        ready = self._poll.poll(_GIVE_UP_S, 256)
        if not ready:
            raise Unexpected(f"no answer for {_GIVE_UP_S:.0f} s")
        for fd, events in ready:
            connection = self._connections[fd]
            if events & select.EPOLLOUT:
                self._send(connection)
            if events & ~select.EPOLLOUT:
                count = connection.socket.recv_into(self._buffer)
                if not count:
                    raise Unexpected("the connection was closed within an answer")
                data = self._view[:count].tobytes()
                if connection.answer:
                    data = connection.answer + data
                if not _whole(data):
                    connection.answer = data
                    continue
                self.latencies.append(time.perf_counter() - connection.asked_at)
                connection.answer = b""
                if again:
                    self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        request = self._requests[connection.turn % len(self._requests)]
        connection.turn += len(self._connections)
        connection.asked_at = time.perf_counter()
        sent = connection.socket.send(request)
        if sent < len(request):
            connection.rest = memoryview(request)[sent:]
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _send(self, connection: _Connection) -> None:
        """Go on with a request that did not fit the socket's buffer."""
        assert connection.rest is not None
        connection.rest = connection.rest[connection.socket.send(connection.rest) :]
        if not connection.rest:
            connection.rest = None
            self._poll.modify(connection.socket, select.EPOLLIN)


def _whole(data: bytes) -> bool:
    """Whether `data` is the whole answer. Raises `Unexpected` on any other than the engine's."""
    if not data.startswith(b"HTTP/1.1 200 "):
        raise Unexpected(data[:500].decode(errors="replace"))
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        close = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : close if close >= 0 else None])
        if len(data) < end + 4 + length:
            return False
        complete = len(data) == end + 4 + length
    elif b"\r\ntransfer-encoding: chunked" in head:
        if not data.endswith(b"0\r\n\r\n"):
            return False
        complete = True
    else:
        complete = False
    if not complete or TEXT not in data:
        raise Unexpected(data[:1000].decode(errors="replace"))
    return True
