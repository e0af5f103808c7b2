"""A Python package index on loopback, PEP 503 and PEP 691, that can go wrong in every way.

    index = PackageIndex(); index.add("pkg", "1.0", {"pkg/model.gguf": b"…"})

`index.faults` holds what happens to the next requests of a file, one each;
`always` what happens to every one. `index.requests` is what the server saw.
"""

import hashlib
import io
import json
import random
import socket
import threading
import zipfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one download, or (`page`) with one look at the index.

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


@dataclass
class Wheel:
    data: bytes
    sha256: str | None


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def pack(
    package: str,
    version: str,
    files: dict[str, bytes],
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A wheel as an archive."""
    name = f"{package.replace('-', '_')}-{version}"
    files = {
        **files,
        f"{name}.dist-info/METADATA": f"Name: {package}\nVersion: {version}\n".encode(),
        f"{name}.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        f"{name}.dist-info/RECORD": b"",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return packed.getvalue()


class PackageIndex:
    """Serves from its creation until `close`. `login`: user:password that it asks for."""

    def __init__(self, *, as_json: bool = True, login: str | None = None) -> None:
        self.as_json = as_json
        self.login = login
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.wheels: dict[str, dict[str, Wheel]] = {}
        self._lock = threading.Lock()
        index = self

        class Handler(_Handler):
            served = index

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/simple/"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(
        self,
        package: str,
        version: str,
        files: dict[str, bytes] | None = None,
        *,
        data: bytes | None = None,
        sha256: str | None = "",
        compression: int = zipfile.ZIP_STORED,
    ) -> bytes:
        """Offer a wheel and return it. `sha256` None: the page does not state it."""
        wheel = data if data is not None else pack(package, version, files or {}, compression)
        stated = hashlib.sha256(wheel).hexdigest() if sha256 == "" else sha256
        name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        self.wheels.setdefault(package, {})[name] = Wheel(wheel, stated)
        return wheel

    def downloads(self) -> list[Request]:
        """The requests of files."""
        return [request for request in self.requests if request.path.startswith("/files/")]

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: PackageIndex

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at what was seen."""

    def do_GET(self) -> None:
        index = self.served
        authorization = self.headers.get("authorization")
        index.requests.append(Request(self.path, self.headers.get("range"), authorization))
        if index.login is not None and authorization is None:
            self.reply(401, b"", ("www-authenticate", 'Basic realm="index"'))
            return
        kind, *rest = self.parts()
        fault = index.next_fault(page=kind == "simple")
        if fault.redirect is not None:
            self.reply(302, b"", ("location", fault.redirect))
        elif fault.status >= 400:
            self.reply(fault.status, b"no")
        elif kind == "simple":
            self.page(index.wheels.get(rest[0] if rest else ""), fault)
        else:
            wheel = index.wheels.get(rest[0], {}).get(rest[-1])
            if wheel is None:
                self.reply(404, b"")
            else:
                self.file(fault.body if fault.body is not None else wheel.data, fault)

    def parts(self) -> list[str]:
        return [part for part in self.path.split("/") if part]

    def page(self, wheels: dict[str, Wheel] | None, fault: Fault) -> None:
        if fault.body is not None:
            self.reply(200, fault.body, ("content-type", "text/html"))
            return
        if wheels is None:
            self.reply(404, b"")
            return
        package = self.parts()[1]
        if self.served.as_json:
            files = [
                {
                    "filename": name,
                    "url": f"/files/{package}/{name}",
                    "hashes": {} if wheel.sha256 is None else {"sha256": wheel.sha256},
                }
                for name, wheel in wheels.items()
            ]
            page = {"meta": {"api-version": "1.0"}, "name": package, "files": files}
            kind = "application/vnd.pypi.simple.v1+json"
            self.reply(200, json.dumps(page).encode(), ("content-type", kind))
            return
        links = "".join(
            f'<a href="/files/{package}/{name}'
            f'{"" if wheel.sha256 is None else f"#sha256={wheel.sha256}"}">{name}</a>\n'
            for name, wheel in wheels.items()
        )
        html = f"<!DOCTYPE html><html><body>{links}</body></html>"
        self.reply(200, html.encode(), ("content-type", "text/html"))

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
