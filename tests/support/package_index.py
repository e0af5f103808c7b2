"""A Python package index on loopback, PEP 503 and PEP 691, that can go wrong in every way.

    index = PackageIndex(); index.add("pkg", "1.0", {"pkg/model.gguf": b"…"})

Its faults, and what it saw, are the `FileServer`'s.
"""

import hashlib
import io
import json
import random
import zipfile
from dataclasses import dataclass

from tests.support.file_server import Fault as Fault
from tests.support.file_server import FileHandler, FileServer
from tests.support.file_server import Request as Request


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


class PackageIndex(FileServer):
    """`login`: user:password that it asks for."""

    def __init__(self, *, as_json: bool = True, login: str | None = None) -> None:
        self.as_json = as_json
        self.login = login
        self.wheels: dict[str, dict[str, Wheel]] = {}
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/simple/"

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


class _Handler(FileHandler):
    served: PackageIndex

    def handle_any(self) -> None:
        index = self.served
        authorization = self.seen()
        if index.login is not None and authorization is None:
            self.reply(401, b"", ("www-authenticate", 'Basic realm="index"'))
            return
        kind, *rest = self.parts()
        fault = index.next_fault(page=kind == "simple")
        if self.failed(fault):
            return
        if kind == "simple":
            self.page(index.wheels.get(rest[0] if rest else ""), fault)
        else:
            wheel = index.wheels.get(rest[0], {}).get(rest[-1])
            if wheel is None:
                self.reply(404, b"")
            else:
                self.file(fault.body if fault.body is not None else wheel.data, fault)

    do_GET = handle_any  # noqa: N815

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
