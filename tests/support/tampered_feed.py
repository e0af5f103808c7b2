"""A feed that is tampered with: what the control plane says comes late, twice, or not at all."""

import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from tests.support.data_plane import Plane
from tests.support.waiting import wait_for

Tamper = Callable[[bytes], Iterable[bytes]]


class Cut(Exception):
    """Raised by a `Tamper`: the connection breaks here."""


def as_it_comes(line: bytes) -> Iterable[bytes]:
    return [line]


class TamperedFeed:
    """Stands between the gateways of a plane and its control plane; use it as a context manager.

    `tamper` gets each line of the control plane's and says what goes on instead;
    it may take its time, and may raise `Cut`. What gateways say passes untouched.
    """

    def __init__(self, plane: Plane, tamper: Tamper = as_it_comes) -> None:
        self.tamper = tamper
        self.connections = 0
        self._plane = plane
        self._path = plane.paths.feed_socket
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "TamperedFeed":
        control = self._plane.control
        control.stop()
        control.socket = self._path.with_name("feed-behind.sock")
        control.start()
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._start(self._accept)
        self.followed(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.tamper = as_it_comes
        # Closing alone would leave a thread that waits in `accept` where it is.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        control = self._plane.control
        control.stop()
        control.socket = self._path
        control.start()
        # Its gateway is back before anything else happens.
        self._plane.await_key(self._plane.key())

    def cut(self) -> None:
        """Break every connection off."""
        with self._lock:
            shut(*self._open)

    def followed(self, times: int) -> None:
        """Wait until a gateway has connected so many times."""
        wait_for(lambda: self.connections >= times, "the gateway to follow the feed", pause_s=0.01)

    # ------------------------------------------------------------------------

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                gateway, _ = self._listener.accept()
            except OSError:
                return
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(str(self._plane.control.socket))
            except OSError:
                gateway.close()
                control.close()
                continue
            self.connections += 1
            self._start(self._serve, gateway, control)

    def _serve(self, gateway: socket.socket, control: socket.socket) -> None:
        with gateway, control:
            with self._lock:
                self._open |= {gateway, control}
            up = threading.Thread(target=self._up, args=(gateway, control), daemon=True)
            up.start()
            try:
                with control.makefile("rb") as lines:
                    for line in lines:
                        for each in self.tamper(line):
                            gateway.sendall(each)
            except (OSError, Cut):
                pass
            shut(gateway, control)
            up.join()
            with self._lock:
                self._open -= {gateway, control}

    def _up(self, gateway: socket.socket, control: socket.socket) -> None:
        try:
            while data := gateway.recv(65536):
                control.sendall(data)
        except OSError:
            pass
        shut(gateway, control)


def shut(*sockets: socket.socket) -> None:
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
