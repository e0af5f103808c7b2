"""Streams: each connection asks for its next stream as soon as one has ended.

They begin evenly over one stream's length, so that from then on as many begin as end at
any moment. Of each frame the arrival counts; of each delta, also its index and its gap to
the one before.
"""

import re
import select
import socket
import time
from array import array

from bench.gateway.wire import DELTA_DIGITS, DELTA_GAP_S, DELTA_MARK, DELTAS, HOST, Unexpected

_GIVE_UP_S = 60.0
# Small, because every read allocates so much.
_READ = 8192

_BUCKETS_PER_S = 10_000
_LAST_BUCKET = 60 * _BUCKETS_PER_S

_DELTA = re.compile(rb'"content":\s*"d(\d{%d})' % DELTA_DIGITS)


class Gaps:
    """A histogram of seconds, 0.1 ms a bucket; what it tells is in milliseconds."""

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * (_LAST_BUCKET + 1)))
        self._count = 0

    def add(self, seconds: float) -> None:
        self._counts[min(int(seconds * _BUCKETS_PER_S), _LAST_BUCKET)] += 1
        self._count += 1

    def percentile(self, percent: float) -> float:
        left = self._count * percent / 100
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return self._ms(bucket)
        raise Unexpected("no delta came within the span")

    @property
    def longest_ms(self) -> float:
        return self._ms(max(bucket for bucket, count in enumerate(self._counts) if count))

    def over(self, ms: float) -> int:
        return sum(
            count for bucket, count in enumerate(self._counts) if count and self._ms(bucket) > ms
        )

    @staticmethod
    def _ms(bucket: int) -> float:
        return bucket * 1000 / _BUCKETS_PER_S


class Streams:
    """`gaps` and `frames` since `forget`; `ended` and `lost` since the beginning."""

    ramp_s = (DELTAS + 1) * DELTA_GAP_S

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._port = port
        self._requests = requests
        self._wanted = connections
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._running = True
        self._begun = time.perf_counter()
        self.ended = 0
        self.lost = 0
        self.forget()

    def forget(self) -> None:
        self.frames = 0
        self.gaps = Gaps()

    def run_for(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            due = (now - self._begun) / self.ramp_s * self._wanted
            while len(self._open) < min(due, self._wanted):
                self._connect()
            self._turn(0.001 if len(self._open) < self._wanted else until - now)

    def finish(self) -> None:
        """Take the streams to their ends. What does not come any more is lost."""
        self._running = False
        until = time.perf_counter() + _GIVE_UP_S
        while self._open and time.perf_counter() < until:
            self._turn(1.0)
        for connection in self._open.values():
            self.lost += connection.missing

    def _connect(self) -> None:
        number = len(self._open)
        connection = _Connection(self, self._port, self._requests[number % len(self._requests)])
        self._open[connection.fd] = connection
        self._poll.register(connection.fd, select.EPOLLIN)
        connection.ask()

    def _turn(self, timeout: float) -> None:
        for fd, _ in self._poll.poll(timeout, 1024):
            connection = self._open[fd]
            data = connection.read(_READ)
            now = time.perf_counter()
            # Inlined, because at 1,024 streams this loop is what fills the core.
            if (
                len(data) == connection.usual_length
                and connection.between_chunks
                and data.startswith(connection.before_index)
                and data.endswith(connection.after_index)
            ):
                connection.delta(int(data[connection.index_at]), now)
                continue
            connection.received(data, now)
            if connection.over:
                self._ended(connection)

    def _ended(self, connection: "_Connection") -> None:
        self.ended += 1
        self.lost += connection.missing
        if self._running:
            connection.ask()
        else:
            del self._open[connection.fd]
            connection.close()


class _Connection:
    """One stream after the other. `over`: the answer's last byte came.

    Deltas are alike but for their index: once one has come as a chunk of its own, the next
    that is as long, and the same before and after the index, need not be decoded.
    """

    def __init__(self, streams: Streams, port: int, request: bytes) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams = streams
        self._request = request
        self.fd = self._socket.fileno()
        self.read = self._socket.recv
        self.close = self._socket.close
        self.usual_length = 0
        self.before_index = b""
        self.after_index = b""
        self.index_at = slice(0)

    def ask(self) -> None:
        self._head = True
        self._chunks = b""
        self._events = b""
        self._next = 0
        self._last_at = 0.0
        self._done = False
        self.between_chunks = False
        self.missing = DELTAS
        self.over = False
        self._socket.sendall(self._request)

    def received(self, data: bytes, now: float) -> None:
        if not data:
            raise Unexpected(f"the connection was closed after delta {self._next - 1}")
        alone = self.between_chunks
        self._decode(data, now)
        self.between_chunks = not (self._head or self._chunks or self._events)
        if alone and self.between_chunks and data.count(b"\n\n") == 1:
            self._remember(data)
        if self.over and not self._done:
            raise Unexpected(f"a stream ended without [DONE], after delta {self._next - 1}")

    def delta(self, index: int, now: float) -> None:
        if index < self._next:
            raise Unexpected(f"delta {index} came when {self._next} was due")
        streams = self._streams
        streams.frames += 1
        if self._last_at:
            streams.gaps.add(now - self._last_at)
        self.missing -= 1
        self._next = index + 1
        self._last_at = now

    def _remember(self, data: bytes) -> None:
        at = data.find(DELTA_MARK)
        if at >= 0:
            begin = at + len(DELTA_MARK)
            self.index_at = slice(begin, begin + DELTA_DIGITS)
            self.before_index = data[:begin]
            self.after_index = data[begin + DELTA_DIGITS :]
            self.usual_length = len(data)

    def _decode(self, data: bytes, now: float) -> None:
        data = self._chunks + data
        if self._head:
            if not data.startswith(b"HTTP/1.1 200 "):
                raise Unexpected(data[:500].decode(errors="replace"))
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._chunks = data
                return
            if b"transfer-encoding: chunked" not in head.lower():
                raise Unexpected(f"a stream that is not chunked: {head!r}")
            self._head = False
            data = rest
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            begin = line + 2
            end = begin + int(data[at:line], 16)
            if len(data) < end + 2:
                break
            self.over = self.over or end == begin
            self._events += data[begin:end]
            at = end + 2
        self._chunks = data[at:]
        *events, self._events = self._events.split(b"\n\n")
        for event in events:
            if found_index := _DELTA.search(event):
                self.delta(int(found_index[1]), now)
            elif event.startswith(b"data: "):
                self._streams.frames += 1
                self._done = self._done or event == b"data: [DONE]"
