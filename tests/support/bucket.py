"""An object store in memory that takes a real one's place in fsspec, and can go wrong.

Its files are read through the same calls as those of S3's own package.
"""

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# `fsspec.registry` is a mapping of the same name.
registry: Any = import_module("fsspec.registry")
spec: Any = import_module("fsspec.spec")
_versions = itertools.count(1)


class Bucket:
    """`cut_after`: the next file that is opened breaks off after so many bytes, once.
    `seekable`: whether files can be taken up in the middle. `trouble`: raised by every call.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.cut_after: int | None = None
        self.seekable = True
        self.trouble: Exception | None = None
        self.opened: list[str] = []
        self.read_from: list[int] = []

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = (data, f"v{next(_versions)}")

    def info(self, path: str) -> dict[str, Any]:
        data, version = self.files[path]
        return {"name": path, "type": "file", "size": len(data), "ETag": version}


class _File(io.BytesIO):
    def __init__(self, bucket: Bucket, data: bytes) -> None:
        super().__init__(data)
        self._bucket = bucket
        self._cut, bucket.cut_after = bucket.cut_after, None
        self._begun = False

    def seek(self, offset: int, whence: int = 0) -> int:
        if not self._bucket.seekable:
            raise ValueError("this cannot seek")
        return super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        if not self._begun:
            self._bucket.read_from.append(self.tell())
            self._begun = True
        if self._cut is None:
            return super().read(size)
        if self._cut == 0:
            raise ConnectionResetError("it broke off")
        block = super().read(self._cut)
        self._cut = 0
        return block


@contextmanager
def serving(scheme: str) -> Iterator[Bucket]:
    """Everything of that scheme is in this bucket until the block ends."""
    bucket = Bucket()

    class _Store(spec.AbstractFileSystem):  # type: ignore[misc]
        protocol = scheme
        cachable = False

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            if bucket.trouble is not None:
                raise bucket.trouble
            if path in bucket.files:
                return bucket.info(path)
            if any(name.startswith(f"{path}/") for name in bucket.files):
                return {"name": path, "type": "directory", "size": 0}
            raise FileNotFoundError(path)

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            below = [name for name in bucket.files if name.startswith(f"{path}/")]
            flat = [bucket.info(name) for name in below if "/" not in name[len(path) + 1 :]]
            folder = {"name": f"{path}/sub", "type": "directory", "size": 0}
            return [*flat, folder]

        def open(self, path: str, *_: Any, **__: Any) -> _File:
            bucket.opened.append(path)
            return _File(bucket, bucket.files[path][0])

    # The registry of what was loaded is looked at before the list of what could be.
    known = registry._registry.get(scheme)
    registry._registry[scheme] = _Store
    try:
        yield bucket
    finally:
        del registry._registry[scheme]
        if known is not None:
            registry._registry[scheme] = known
