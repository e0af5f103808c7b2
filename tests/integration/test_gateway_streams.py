"""Bodies that the gateway passes on to the control plane while they arrive."""

import hashlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.data_plane import Plane
from tests.support.hurried_gateway import TELLS_OFTEN, hurried
from tests.support.waiting import wait_for
from tests.support.wire import get

LARGE = 24 * 1024 * 1024
ALL = bytes(range(256)) * (LARGE // 256)
TARGET = "/api/v1/uploads/upl_1/files/a.gguf"


class RawControl:
    """The control plane's socket, and what the gateway sends to it, byte by byte."""

    def __init__(self, plane: Plane) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = plane.paths.control_socket
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._listener.listen(8)
        self._listener.settimeout(10)
        self.connection = socket.socket()
        self.body = b""
        self.length = 0

    def accept(self) -> str:
        """The head of the next request, on a connection of its own."""
        self.connection.close()
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(10)
        return self.head()

    def head(self) -> str:
        data = self.body
        while b"\r\n\r\n" not in data:
            data += self.connection.recv(1024)
        head, _, self.body = data.partition(b"\r\n\r\n")
        text = head.decode().lower()
        self.length = int(text.partition("content-length: ")[2].partition("\r\n")[0])
        return text

    def read_on(self) -> bytes:
        """The whole body of the request whose head was read."""
        body, self.body = self.body[: self.length], self.body[self.length :]
        parts, size = [body], len(body)
        while size < self.length:
            parts.append(self.connection.recv(min(1024 * 1024, self.length - size)))
            assert parts[-1], "the gateway hung up"
            size += len(parts[-1])
        return b"".join(parts)

    def answer(self, status: int = 200, body: bytes = b"{}") -> None:
        head = f"HTTP/1.1 {status} So\r\ncontent-length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)

    def close(self) -> None:
        self.connection.close()
        self._listener.close()
        self._path.unlink()


@pytest.fixture
def control(plane: Plane) -> Iterator[RawControl]:
    raw = RawControl(plane)
    yield raw
    raw.close()


def head(length: int = LARGE, *more: str) -> bytes:
    lines = (f"PUT {TARGET} HTTP/1.1", "host: gateway", "authorization: Bearer pat-x", *more)
    return ("\r\n".join((*lines, f"content-length: {length}")) + "\r\n\r\n").encode()


def send_what_is_taken(wire: socket.socket, data: bytes) -> int:
    """How much is taken before nothing goes on for half a second."""
    wire.settimeout(0.5)
    sent = 0
    try:
        while sent < len(data):
            sent += wire.send(data[sent : sent + 65536])
    except TimeoutError:
        pass
    wire.settimeout(15)
    return sent


def test_a_large_body_waits_for_a_control_plane_that_takes_none_of_it(
    plane: Plane, control: RawControl
) -> None:
    with plane.wire() as wire:
        wire.send(head())
        assert control.accept().startswith(f"put {TARGET} http/1.1")
        sent = send_what_is_taken(wire.socket, ALL)
        # What sockets hold, and a few reads of the gateway.
        assert sent < 14 * 1024 * 1024
        sending = threading.Thread(target=wire.send, args=(ALL[sent:],))
        sending.start()
        digest = hashlib.sha256(control.read_on()).hexdigest()
        sending.join()
        control.answer()
        assert wire.answer().status == 200
    assert digest == hashlib.sha256(ALL).hexdigest()


def test_a_connection_is_used_again_after_a_large_body(plane: Plane, control: RawControl) -> None:
    data = ALL[: 3 * 1024 * 1024]
    with plane.wire() as wire:
        for number in range(3):
            wire.send(head(len(data)))
            control.accept()
            # The next request comes along with the end of this one's body.
            wire.send(data[:-5])
            wire.send(data[-5:] + get(f"/after/{number}", None))
            assert control.read_on() == data
            control.answer(201)
            assert wire.answer().status == 201
            assert control.head().startswith(f"get /after/{number} ")
            control.answer(202)
            assert wire.answer().status == 202


def test_a_large_body_comes_after_other_requests(plane: Plane, control: RawControl) -> None:
    data = ALL[:700_000]
    with plane.wire() as wire:
        wire.send(get("/before", None) + head(len(data)) + data)
        control.accept()
        control.answer()
        assert wire.answer().status == 200
        control.accept()
        assert control.read_on() == data
        control.answer(201)
        assert wire.answer().status == 201


def test_an_answer_before_the_end_of_the_body_arrives(plane: Plane, control: RawControl) -> None:
    with plane.wire() as wire:
        wire.send(head() + ALL[:100_000])
        control.accept()
        control.answer(401, b'{"error": 1}')
        answer = wire.answer()
        assert (answer.status, answer.body) == (401, b'{"error": 1}')
        assert answer.headers["connection"] == "close"
        wire.send(ALL[:1_000_000])
        assert wire.ended()
    # The connection to the control plane waits for the rest still: nobody else may get it.
    assert wait_for(lambda: _ended(control.connection), "the gateway to hang up")


def test_who_hangs_up_within_a_body_is_hung_up_on(plane: Plane, control: RawControl) -> None:
    with plane.wire() as wire:
        wire.send(head() + ALL[:100_000])
        control.accept()
    assert wait_for(lambda: _ended(control.connection), "the gateway to hang up")


def test_a_control_plane_that_ends_within_a_body_is_told_of(
    plane: Plane, control: RawControl
) -> None:
    with plane.wire() as wire:
        wire.send(head() + ALL[:100_000])
        control.accept()
        control.connection.close()
        answer = wire.answer()
        assert answer.status == 503
        assert answer.headers["connection"] == "close"


def test_without_a_control_plane_a_large_body_is_refused(plane: Plane) -> None:
    with plane.wire() as wire:
        wire.send(head() + ALL[:100_000])
        assert wire.answer().status == 503
        assert wire.ended()


@pytest.mark.parametrize(
    "line",
    [
        "POST /api/v1/models",
        "POST /api/v1/uploads",
        "POST /api/v1/uploads/upl_1/complete",
        "PUT /api/v1/bundles",
        "POST /api/v1/bundles/more",
        "PUT /elsewhere",
    ],
)
def test_other_large_bodies_are_refused_as_ever(
    plane: Plane, control: RawControl, line: str
) -> None:
    with plane.wire() as wire:
        wire.send(head().replace(f"PUT {TARGET}".encode(), line.encode()))
        assert wire.answer().status == 413


def test_a_body_of_unknown_length_is_no_way_around_the_limit(
    plane: Plane, control: RawControl
) -> None:
    with plane.wire() as wire:
        wire.send(head().replace(b"content-length: %d" % LARGE, b"transfer-encoding: chunked"))
        wire.send(b"%x\r\n" % LARGE)
        send_what_is_taken(wire.socket, ALL[: 4 * 1024 * 1024])
        assert wire.answer().status == 413


def test_a_sender_that_stalls_is_hung_up_on() -> None:
    plane = Plane(hurried({**TELLS_OFTEN, "modelry.gateway.connection._BODY_STALL_S": 0.5}))
    control = RawControl(plane)
    try:
        with plane.wire() as wire:
            wire.send(head() + ALL[:100_000])
            control.accept()
            assert wire.ended()
        assert wait_for(lambda: _ended(control.connection), "the gateway to hang up")
    finally:
        control.close()
        plane.close()


def _ended(connection: socket.socket) -> bool:
    try:
        while data := connection.recv(65536):
            assert data
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_a_gateway_that_ends_does_not_wait_for_a_body(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    control = RawControl(plane)
    try:
        with plane.wire() as wire:
            wire.send(head() + ALL[:100_000])
            control.accept()
            plane.gateway.process.send_signal(signal.SIGTERM)
            assert wire.answer().status == 503
        assert wait_for(lambda: _ended(control.connection), "the gateway to hang up")
    finally:
        control.close()
