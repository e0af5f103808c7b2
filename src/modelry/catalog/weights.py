"""The weights store: verified files on disk, named by their content.

    weights/blobs/<sha256>       a whole, verified file
    weights/partial/<name>       what an interrupted fetch has so far
    weights/sources/<digest>     which blob, or which file in place, a source turned out to be

A blob appears by a rename, so it is whole or not there.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from modelry.catalog.cards import Variant

_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Weights:
    """Verified weights. `path` is what an engine opens."""

    path: Path
    size_bytes: int
    sha256: str


class _Resolved(msgspec.Struct):
    source: str
    path: str
    size_bytes: int
    modified_ns: int
    sha256: str


class WeightsStore:
    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._sources = folder / "sources"
        self.partial = folder / "partial"
        for place in (self._blobs, self._sources, self.partial):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Drafts of a process that died; a download that can be taken up stays.
        for draft in self.partial.glob("*.member"):
            draft.unlink()

    def find(self, variant: Variant) -> Weights | None:
        """The weights of a variant if they are here, whole and unchanged."""
        if variant.sha256 is not None:
            blob = self.blob(variant.sha256)
            size = blob.stat().st_size if blob.exists() else None
            if size is not None and size == (variant.size_bytes or size):
                return Weights(blob, size, variant.sha256)
        try:
            data = self._source_file(variant).read_bytes()
            resolved = msgspec.json.decode(data, type=_Resolved)
            stat = Path(resolved.path).stat()
        except (OSError, ValueError):
            return None
        if (stat.st_size, stat.st_mtime_ns) != (
            resolved.size_bytes,
            resolved.modified_ns,
        ):
            return None
        if variant.sha256 not in (None, resolved.sha256):
            return None
        return Weights(Path(resolved.path), resolved.size_bytes, resolved.sha256)

    def blob(self, sha256: str) -> Path:
        return self._blobs / sha256

    def add_blob(self, draft: Path, sha256: str) -> Path:
        """Take in a file whose digest has been checked; it must lie in `partial`."""
        blob = self.blob(sha256)
        draft.replace(blob)
        _sync_folder(self._blobs)
        return blob

    def remember(self, variant: Variant, weights: Weights, *, modified_ns: int) -> None:
        """Note what a source turned out to be, for `find`.

        `modified_ns`: the file's time of change when its digest was taken.
        """
        resolved = _Resolved(
            source=variant.source,
            path=str(weights.path),
            size_bytes=weights.size_bytes,
            modified_ns=modified_ns,
            sha256=weights.sha256,
        )
        file = self._source_file(variant)
        draft = file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(resolved))
        draft.replace(file)

    def _source_file(self, variant: Variant) -> Path:
        return self._sources / hashlib.sha256(variant.source.encode()).hexdigest()


def copy_hashed(
    source: IO[bytes], target: IO[bytes] | None, progress: Callable[[int], None]
) -> tuple[int, str]:
    """Copy to the end (or only read); returns size in bytes and SHA-256 in hex.

    `progress` is called with the bytes read so far, and may raise to stop.
    """
    digest = hashlib.sha256()
    size = 0
    while block := source.read(_BLOCK):
        digest.update(block)
        if target is not None:
            target.write(block)
        size += len(block)
        progress(size)
    return size, digest.hexdigest()


def sync_file(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
