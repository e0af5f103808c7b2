"""An HTTP server of files on loopback that can go wrong in every way.

`server.faults` holds what happens to the next requests of a file, one each;
`always` what happens to every one. `server.requests` is what the server saw.
"""

import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one download, or (`page`) with one look at a page of what there is.

    `cut_after`: the connection ends after so many bytes of the body.
    `ranges`: False answers a range with the whole file; `wrong_range` with
    another part than asked. `gate`: wait for it after the first half;
    `slow_s`: pause so long there.
    """

    page: bool = False
    status: int = 200
    cut_after: int | None = None
    body: bytes | None = None
    ranges: bool = True
    wrong_range: bool = False
    redirect: str | None = None
    without_length: bool = False
    gate: threading.Event | None = None
    slow_s: float = 0


@dataclass(frozen=True)
class Request:
    path: str
    range: str | None
    authorization: str | None


class FileServer:
    """Serves by `handler` from its creation until `close`."""

    def __init__(self, handler: type["FileHandler"]) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self._lock = threading.Lock()
        bound = type("Bound", (handler,), {"served": self})
        self._server = _Server(("127.0.0.1", 0), bound)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self, page: bool) -> Fault:
        with self._lock:
            for fault in self.faults:
                if fault.page == page:
                    self.faults.remove(fault)
                    return fault
        if self.always is not None and self.always.page == page:
            return self.always
        return Fault(page)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Any

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what was seen."""

    def seen(self) -> str | None:
        """Note the request; returns its credentials."""
        authorization: str | None = self.headers.get("authorization")
        asked = Request(self.path, self.headers.get("range"), authorization)
        self.served.requests.append(asked)
        return authorization

    def failed(self, fault: Fault) -> bool:
        """Whether the fault was all of the answer."""
        if fault.redirect is not None:
            self.reply(302, b"", ("location", fault.redirect))
        elif fault.status >= 400:
            self.reply(fault.status, b"no")
        else:
            return False
        return True

    def file(self, data: bytes, fault: Fault) -> None:
        asked = self.headers.get("range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if asked is None or not fault.ranges:
            self.send_response(200)
            part = data
        elif start >= len(data):
            self.reply(416, b"", ("content-range", f"bytes */{len(data)}"))
            return
        else:
            start = 0 if fault.wrong_range else start
            part = data[start:]
            self.send_response(206)
            self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if fault.without_length:
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", str(len(part)))
        self.end_headers()
        if fault.gate is not None or fault.slow_s:
            self.wfile.write(part[: len(part) // 2])
            (fault.gate or threading.Event()).wait(fault.slow_s or 30)
            part = part[len(part) // 2 :]
        self.wfile.write(part[: fault.cut_after])
        if fault.cut_after is not None or fault.without_length:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_WR)

    def reply(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
