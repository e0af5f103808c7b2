"""A web server on loopback whose answers are bytes that a test chose, by path."""

import socket
import socketserver
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.waiting import wait_for


def answer(
    body: bytes, content_type: str = "image/png", *headers: str, status: str = "200 OK"
) -> bytes:
    """An HTTP answer with its length."""
    length = f"content-length: {len(body)}"
    lines = [f"HTTP/1.1 {status}", length, "connection: close", *headers]
    if content_type:
        lines.append(f"content-type: {content_type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(b"elsewhere", "text/plain", f"location: {location}", status=status)


class PictureServer:
    """`requests`: their heads, in order. A path of `hangs` gets what it has to say, and then
    nothing more while its caller stays; `waiting` and `gone` count those. With `pem` it speaks TLS.
    """

    def __init__(self, pem: Path | None = None, port: int = 0) -> None:
        self.answers: dict[str, bytes] = {}
        self.hangs: set[str] = set()
        self.requests: list[str] = []
        self.waiting = 0
        self.most = 0
        self.gone = 0
        self.lock = threading.Lock()
        tls = None
        if pem is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pem)
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer.serve(self.request, tls)

        self._server = _Server(("127.0.0.1", port), Handler)
        self.scheme = "https" if pem else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def put(self, path: str, raw: bytes, *, hangs: bool = False) -> str:
        """What a path answers, to the byte; returns its address."""
        self.answers[path] = raw
        if hangs:
            self.hangs.add(path)
        return self.url(path)

    def await_waiting(self, count: int) -> None:
        wait_for(lambda: self.waiting == count, f"{count} to wait for the server")

    def serve(self, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            self.requests.append(head.decode())
            path = head.split(b" ")[1].decode()
            connection.sendall(self.answers.get(path, answer(b"no", status="404 Not Found")))
            if path in self.hangs:
                self._hang(connection)
        except OSError:
            """Callers that hang up are part of the tests."""
        finally:
            connection.close()

    def _hang(self, connection: socket.socket) -> None:
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        try:
            connection.settimeout(30)
            connection.recv(1)
        finally:
            with self.lock:
                self.waiting -= 1
                self.gone += 1

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "PictureServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...
