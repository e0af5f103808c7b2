"""An HTTP server on the control plane's socket, to see what the gateway relays to it."""

import socket
import socketserver
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class Seen:
    """One request as it came in."""

    def __init__(self, method: str, target: str, headers: list[tuple[str, str]]) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = b""

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class ControlStandIn:
    """Answers by path; see `_Handler.answer`. `go` lets `/stream` send its next line."""

    def __init__(self, address: Path) -> None:
        self.seen: list[Seen] = []
        self.go = threading.Semaphore(0)
        self.hung_up = threading.Event()
        self.ready = 200
        address.unlink(missing_ok=True)
        stand_in = self

        class Handler(_Handler):
            control = stand_in

        self._server = _Server(str(address), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        for _ in range(100):
            self.go.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: str, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that are kept, as the end of a process does."""
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that hung up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control: ControlStandIn

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what was seen."""

    def handle_any(self) -> None:
        seen = Seen(self.command, self.path, list(self.headers.items()))
        seen.body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.control.seen.append(seen)
        self.answer(seen)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any  # noqa: N815

    def answer(self, seen: Seen) -> None:
        path = seen.target.partition("?")[0]
        if path == "/readyz":
            self.whole(self.control.ready, b"{}")
        elif path == "/stream":
            self.stream()
        elif path == "/empty":
            self.send_response(204)
            self.end_headers()
        elif path == "/until-the-end":
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"no length")
            self.close_connection = True
        elif path == "/away":
            self.whole(
                307,
                b"",
                ("location", "/elsewhere"),
                ("set-cookie", "a=1; Path=/"),
                ("set-cookie", "b=2"),
                ("x-request-id", "not-the-gateways"),
                ("keep-alive", "timeout=5"),
                ("proxy-authenticate", "Basic"),
            )
        elif path.startswith("/status/"):
            self.whole(int(path.removeprefix("/status/")), b'{"status": true}')
        else:
            self.whole(200, b"echo:" + seen.body, ("content-type", "text/html"))

    def whole(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status, "So")
        for name, value in (*headers, ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for number in range(50):
                self.control.go.acquire()
                self.wfile.write(b"7\r\nline %d\n\r\n" % (number % 10))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.control.hung_up.set()
            raise
