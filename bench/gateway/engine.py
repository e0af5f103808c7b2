"""The mock engine's process: it answers chats without thinking, and streams on a clock.

    python -m bench.gateway.engine [--unix PATH]

prints its TCP port and serves until it is killed. It is one epoll loop on plain sockets:
at 1,024 streams it writes 51,200 frames a second on half a core, and a layer between it
and the socket would be what is measured. One wheel of 1 ms paces all streams.

It knows callers that send one request at a time, with a Content-Length.
"""

import argparse
import errno
import gc
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

from bench.gateway.wire import DELTA_GAP_S, HOST, Script, completion, model_list, reply

_TICK_S = 0.001
_SLOTS = round(DELTA_GAP_S / _TICK_S)
# A body is looked at only here: what decides stands before or behind the messages.
_WINDOW = 2048

_MODEL = re.compile(rb'"model":\s*"([^"\\]*)"')
_STREAM = re.compile(rb'"stream":\s*true')
_USAGE = re.compile(rb'"include_usage":\s*true')


@lru_cache(maxsize=256)
def answer(window: bytes) -> bytes | Script:
    """What a body gets whose beginning and end are `window`."""
    found = _MODEL.search(window)
    if found is None:
        return reply("400 Bad Request", b'{"error":{"message":"no model"}}')
    if _STREAM.search(window):
        return script(found[1].decode(), _USAGE.search(window) is not None)
    return completion(found[1].decode())


@lru_cache(maxsize=256)
def script(model: str, usage: bool) -> Script:
    return Script(model, usage)


class Connection:
    __slots__ = ("_body_at", "_kept", "_socket", "_total", "_wheel")

    def __init__(self, accepted: socket.socket, wheel: "Wheel") -> None:
        self._socket = accepted
        self._wheel = wheel
        self._kept = bytearray()
        self._body_at = 0
        self._total = 0

    def received(self, data: memoryview) -> None:
        kept = self._kept
        kept += data
        if not self._total:
            end = kept.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body_at = end + 4
            self._total = self._body_at + content_length(bytes(kept[:end]).lower())
        if len(kept) < self._total:
            return
        target = bytes(kept[: kept.find(b" HTTP/")])
        begin = self._body_at
        window = bytes(kept[begin : begin + _WINDOW])
        if len(kept) > begin + _WINDOW:
            window += kept[-_WINDOW:]
        if len(kept) > _WINDOW * 8:
            self._kept = bytearray()
        else:
            kept.clear()
        self._total = 0
        self._respond(target, window)

    def _respond(self, target: bytes, window: bytes) -> None:
        if target == b"POST /v1/chat/completions":
            what = answer(window)
        elif target == b"GET /v1/models":
            what = model_list()
        elif target == b"GET /health":
            what = reply("200 OK", b"{}")
        else:
            what = reply("404 Not Found", b'{"error":{"message":"no such path"}}')
        if isinstance(what, bytes):
            self._socket.send(what)
        else:
            parts = iter(what.parts)
            self._socket.send(next(parts))
            self._wheel.add((self._socket.send, parts))


def content_length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        if b"\r\ntransfer-encoding:" in head:
            raise RuntimeError("a request without Content-Length")
        return 0
    end = head.find(b"\r\n", at + 2)
    return int(head[at + 17 : end if end >= 0 else None])


# Bare, because a method and an attribute for each frame were a tenth of its cost.
Stream: TypeAlias = tuple[Callable[[bytes], int], Iterator[bytes]]


class Wheel:
    """`_SLOTS` slots, a tick apart: a stream stays in the slot in which it began."""

    def __init__(self) -> None:
        self._slots: list[list[Stream]] = [[] for _ in range(_SLOTS)]
        self._begun = time.perf_counter()
        self._turned = 0
        self.streams = 0

    def add(self, stream: Stream) -> None:
        if not self.streams:
            self._turned = int((time.perf_counter() - self._begun) / _TICK_S)
        self.streams += 1
        self._slots[self._turned % _SLOTS].append(stream)

    def turn(self) -> None:
        """Write what is due by now."""
        if not self.streams:
            return
        now = int((time.perf_counter() - self._begun) / _TICK_S)
        while self._turned < now:
            self._turned += 1
            self._write(self._slots[self._turned % _SLOTS])

    def _write(self, slot: list[Stream]) -> None:
        over: list[Stream] = []
        for stream in slot:
            send, parts = stream
            try:
                # A whole stream fits a socket's buffer: BlockingIOError here ends the bench.
                send(next(parts))
            except (StopIteration, ConnectionError):
                over.append(stream)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
                over.append(stream)
        for stream in over:
            slot.remove(stream)
        self.streams -= len(over)


def serve(listeners: list[socket.socket]) -> None:
    poll = select.epoll()
    wheel = Wheel()
    listening = {each.fileno(): each for each in listeners}
    for fd in listening:
        poll.register(fd, select.EPOLLIN)
    sockets: dict[int, tuple[socket.socket, Connection]] = {}
    buffer = bytearray(512 * 1024)
    view = memoryview(buffer)
    while True:
        for fd, _ in poll.poll(_TICK_S if wheel.streams else None, 256):
            known = sockets.get(fd)
            if known is None:
                accepted, _ = listening[fd].accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
                if accepted.family != socket.AF_UNIX:
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sockets[accepted.fileno()] = accepted, Connection(accepted, wheel)
                poll.register(accepted, select.EPOLLIN)
                continue
            try:
                count = known[0].recv_into(buffer)
                if count:
                    known[1].received(view[:count])
            except ConnectionError:
                count = 0
            if not count:
                del sockets[fd]
                known[0].close()
        wheel.turn()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--unix", metavar="PATH")
    path = options.parse_args().unix
    listeners = [socket.create_server((HOST, 0), backlog=4096)]
    if path is not None:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen(4096)
        listeners.append(unix)
    gc.disable()
    print(listeners[0].getsockname()[1], flush=True)
    serve(listeners)


if __name__ == "__main__":
    main()
