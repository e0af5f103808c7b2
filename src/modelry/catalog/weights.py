"""The weights store: verified files on disk, named by their content.

    weights/blobs/<sha256>       a whole, verified file
    weights/trees/<sha256>/…     a model of several files: links to blobs, under their own names
    weights/partial/<name>       what an interrupted fetch has so far
    weights/sources/<digest>     which blob, tree, or files in place, a source turned out to be
    weights/derived/<key>        what a conversion made of weights, and `<key>.json` of which

A blob appears by a rename, a tree by the rename of its folder: each is whole or not there.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from modelry.catalog.cards import Variant
from modelry.catalog.sources import is_inside

_BLOCK = 1024 * 1024


class WeightsFile(msgspec.Struct, frozen=True):
    """One of the files: its name among them."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Weights:
    """Verified weights. `path` is what an engine opens: a file, or the folder of several.

    `sha256` is the file's, or that of the list of files, as `tree_digest` makes it.
    `revision`: the commit of a hub's repository that they are from.
    """

    path: Path
    size_bytes: int
    sha256: str
    revision: str | None = None
    files: tuple[WeightsFile, ...] = ()


class _InPlace(msgspec.Struct):
    """A file as it was when its digest was taken."""

    path: str
    size_bytes: int
    modified_ns: int


class _Resolved(msgspec.Struct):
    source: str
    path: str
    size_bytes: int
    sha256: str
    seen: list[_InPlace]
    revision: str | None = None
    files: list[WeightsFile] = []


def tree_digest(files: Sequence[WeightsFile]) -> str:
    """The SHA-256 of what `sha256sum` prints of them, in the order of their names."""
    lines = [f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class WeightsStore:
    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._trees = folder / "trees"
        self._sources = folder / "sources"
        self.derived = folder / "derived"
        self.partial = folder / "partial"
        for place in (self._blobs, self._trees, self._sources, self.derived, self.partial):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Drafts of a process that died; a download that can be taken up stays.
        for draft in self.partial.glob("*.member"):
            draft.unlink()
        for pattern in ("*.tree", "*.conversion"):
            for folder in self.partial.glob(pattern):
                shutil.rmtree(folder)

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
            for seen in resolved.seen:
                stat = os.stat(seen.path)  # noqa: PTH116 - of every file, at every look
                if (stat.st_size, stat.st_mtime_ns) != (seen.size_bytes, seen.modified_ns):
                    return None
        except (OSError, ValueError):
            return None
        if variant.sha256 not in (None, resolved.sha256):
            return None
        return Weights(
            Path(resolved.path),
            resolved.size_bytes,
            resolved.sha256,
            resolved.revision,
            tuple(resolved.files),
        )

    def blob(self, sha256: str) -> Path:
        return self._blobs / sha256

    def add_blob(self, draft: Path, sha256: str) -> Path:
        """Take in a file whose digest has been checked; it must lie in `partial`."""
        blob = self.blob(sha256)
        draft.replace(blob)
        _sync_folder(self._blobs)
        return blob

    def add_tree(self, files: Sequence[WeightsFile]) -> Path:
        """The folder of these files, all of which are blobs here."""
        digest = tree_digest(files)
        tree = self._trees / digest
        if tree.is_dir():
            return tree
        draft = self.partial / f"{digest}-{os.getpid()}.tree"
        shutil.rmtree(draft, ignore_errors=True)
        for file in files:
            if not is_inside(file.name):
                raise ValueError(f"{file.name!r} would not lie in the tree")
            place = draft / file.name
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _link(self.blob(file.sha256), place)
        with contextlib.suppress(OSError):
            # Somebody else may have been quicker.
            draft.replace(tree)
        shutil.rmtree(draft, ignore_errors=True)
        _sync_folder(self._trees)
        return tree

    def remember(
        self, variant: Variant, weights: Weights, seen: Sequence[tuple[Path, os.stat_result]]
    ) -> None:
        """Note what a source turned out to be, for `find`: until one of its files is no longer as
        it was `seen` when its digest was taken.
        """
        resolved = _Resolved(
            source=variant.source,
            path=str(weights.path),
            size_bytes=weights.size_bytes,
            sha256=weights.sha256,
            seen=[_InPlace(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in seen],
            revision=weights.revision,
            files=list(weights.files),
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


def _link(blob: Path, place: Path) -> None:
    try:
        place.hardlink_to(blob)
    except OSError:
        # A file system without such links.
        place.symlink_to(os.path.relpath(blob, place.parent))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
