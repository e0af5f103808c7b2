"""Files in object stores: S3 and its like, Google Cloud Storage, Azure's.

Each is reached through its package for fsspec, which finds credentials and endpoints where
that store's own tools do. None of these packages is installed with Modelry: they are heavy,
and most installations need none.
"""

import errno
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from modelry.catalog.download import Brings, Cancelled, Expects, Tells, checked, require_space
from modelry.catalog.formats import Allowed, needed
from modelry.catalog.remote import Listing, RemoteFile
from modelry.catalog.sources import BucketFiles, is_inside
from modelry.catalog.weights import sync_file
from modelry.errors import FetchError

Result = TypeVar("Result")

_BLOCK = 4 * 1024 * 1024
_STORES = {"s3": ("S3", "s3"), "gs": ("Google Cloud Storage", "gcs"), "az": ("Azure", "azure")}
"""By scheme: what people call it, and Modelry's extra that brings its package."""
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "LastModified", "mtime")
"""What may tell one version of an object from another."""
_SAID_MAX = 300


def list_bucket(source: BucketFiles, allowed: Allowed) -> Listing:
    """What of a model there is at a path. Raises `FetchError` or `InvalidRequest`."""
    files = _open(source)
    info = _asked(source, lambda: files.info(source.path))
    if info["type"] == "file":
        return Listing((_remote(source, PurePosixPath(source.path).name, info),))
    found = _asked(source, lambda: files.ls(source.path, detail=True))
    by_name = {
        name: each
        for each in found
        if each["type"] == "file" and is_inside(name := PurePosixPath(each["name"]).name)
    }
    if not by_name:
        raise FetchError(f"there are no files at {source}", hint="check the model's source")
    return Listing(tuple(_remote(source, name, by_name[name]) for name in needed(by_name, allowed)))


@contextmanager
def from_bucket(source: BucketFiles) -> Iterator[Brings]:
    """Brings files that were listed of it."""
    yield partial(_bring, source, _open(source))


def _bring(
    source: BucketFiles, files: Any, file: RemoteFile, target: Path, told: Tells, expect: Expects
) -> str:
    part = target.with_name(target.name + ".part")
    total = file.size_bytes or 0
    expect(total)
    have = part.stat().st_size if part.exists() else 0
    resumed = have
    if have > total:
        part.unlink()
        have = 0
    if have != total:
        require_space(part.parent, total - have)
        opened = _asked(source, lambda: files.open(file.url, "rb", block_size=_BLOCK))
        with opened:
            have = _sought(opened, have)
            try:
                with part.open("ab" if have else "wb") as out:
                    part.chmod(0o600)
                    while block := _asked(source, lambda: opened.read(_BLOCK)):
                        out.write(block)
                        have += len(block)
                        told(have, len(block))
                    sync_file(out)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    # What came so far only stands in the way.
                    part.unlink(missing_ok=True)
                raise
    elif not part.exists():
        part.touch(0o600)
    if have != total:
        part.unlink(missing_ok=True)
        raise FetchError(f"{file.name} is not as large as {source} said", retryable=True)
    sha256 = checked(file, part, lambda: told(have, 0), retryable=resumed > 0)
    part.replace(target)
    return sha256


def _sought(opened: Any, have: int) -> int:
    """From which byte on it is read: not every file can be taken up in the middle."""
    if not have:
        return 0
    try:
        opened.seek(have)
    except (OSError, ValueError, NotImplementedError):
        return 0
    return have


def _remote(source: BucketFiles, name: str, info: Any) -> RemoteFile:
    """Parts of another version of the object are not taken up: their identity is another."""
    version = next((str(info[each]) for each in _VERSIONS if info.get(each)), "")
    key = str(info["name"])
    return RemoteFile(name, key, size_bytes=int(info["size"]), version=f"{source.scheme} {version}")


def _open(source: BucketFiles) -> Any:
    """Raises `FetchError` that says which package is missing."""
    store, extra = _STORES[source.scheme]
    fsspec: Any = importlib.import_module("fsspec")
    try:
        return _asked(
            source,
            lambda: fsspec.filesystem(
                source.scheme, skip_instance_cache=True, use_listings_cache=False
            ),
        )
    except ImportError:
        raise FetchError(
            f"Modelry cannot reach {store} here: its package is not installed",
            hint=f"install modelry[{extra}], and start Modelry again",
        ) from None


def _asked(source: BucketFiles, ask: Callable[[], Result]) -> Result:
    """Each store's package has errors of its own, of every kind."""
    store, _ = _STORES[source.scheme]
    try:
        return ask()
    except (ImportError, Cancelled):
        raise
    except FileNotFoundError:
        raise FetchError(f"there is nothing at {source}", hint="check the model's source") from None
    except PermissionError:
        raise FetchError(
            f"{store} does not let us have {source}",
            hint=f"check the credentials for {store} that the control plane was started with",
        ) from None
    except Exception as error:
        said = " ".join(str(error).split())[:_SAID_MAX] or type(error).__name__
        raise FetchError(
            f"{store} cannot be read: {said}",
            retryable=True,
            hint=f"check the network, and the credentials and endpoint for {store} in the "
            "environment that Modelry was started in",
        ) from None
