"""The weights store: verified files on disk, named by their content.

    weights/blobs/<sha256>       a whole, verified file
    weights/trees/<sha256>/…     a model of several files: links to blobs, under their own names
    weights/partial/<name>       what an interrupted fetch has so far
    weights/damaged/<sha256>     what was found to be something else than its name says
    weights/sources/<digest>     which blob, tree, or files in place, a source turned out to be;
                                 with `.parts`, the names in `partial` of one on its way
    weights/derived/<key>        what others made of weights, noted in `<key>.json`

A blob appears by a rename, a tree by the rename of its folder: each is whole or not there.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from modelry.catalog.cards import Variant
from modelry.catalog.held import Held, Hold
from modelry.catalog.sources import is_inside
from modelry.catalog.turns import Turns

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


class SeenFile(msgspec.Struct):
    """A file as it was when its digest was taken."""

    path: str
    size_bytes: int
    modified_ns: int


class Resolved(msgspec.Struct):
    """What a source turned out to be, as it is noted on disk."""

    source: str
    path: str
    size_bytes: int
    sha256: str
    seen: list[SeenFile]
    revision: str | None = None
    files: list[WeightsFile] = []

    @property
    def every_file(self) -> list[WeightsFile]:
        """Also where there is but one."""
        name = os.path.basename(self.seen[0].path) if self.seen else self.sha256  # noqa: PTH119
        return self.files or [WeightsFile(name, self.size_bytes, self.sha256)]


def tree_digest(files: Sequence[WeightsFile]) -> str:
    """The SHA-256 of what `sha256sum` prints of them, in the order of their names."""
    lines = [f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class WeightsStore:
    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.trees = folder / "trees"
        self.sources = folder / "sources"
        self.partial = folder / "partial"
        self.damaged = folder / "damaged"
        self.derived = folder / "derived"
        self.held = Held()
        self.turns = Turns()
        places = (self.blobs, self.trees, self.sources, self.derived, self.partial, self.damaged)
        for place in places:
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
        resolved = self.record(variant)
        if resolved is None or variant.sha256 not in (None, resolved.sha256):
            return None
        try:
            os.stat(resolved.path)  # noqa: PTH116 - a tree may be gone, and its blobs here
            for seen in resolved.seen:
                stat = os.stat(seen.path)  # noqa: PTH116 - of every file, at every look
                if (stat.st_size, stat.st_mtime_ns) != (seen.size_bytes, seen.modified_ns):
                    return None
        except OSError:
            return None
        return Weights(
            Path(resolved.path),
            resolved.size_bytes,
            resolved.sha256,
            resolved.revision,
            tuple(resolved.files),
        )

    def record(self, variant: Variant) -> Resolved | None:
        """What its source turned out to be, whether that is still here and as it was or not."""
        try:
            return msgspec.json.decode(self.record_file(variant).read_bytes(), type=Resolved)
        except (OSError, ValueError):
            return None

    def blob(self, sha256: str) -> Path:
        return self.blobs / sha256

    def add_blob(self, draft: Path, sha256: str) -> Path:
        """Take in a file whose digest has been checked; it must lie in `partial`."""
        blob = self.blob(sha256)
        with contextlib.suppress(FileNotFoundError):
            if blob.stat().st_size == draft.stat().st_size:
                # Trees link to it already.
                draft.unlink()
                return blob
        draft.replace(blob)
        _sync_folder(self.blobs)
        return blob

    def add_tree(self, files: Sequence[WeightsFile]) -> Path:
        """The folder of these files, all of which are blobs here."""
        digest = tree_digest(files)
        tree = self.trees / digest
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
        _sync_folder(self.trees)
        return tree

    def remember(
        self, variant: Variant, weights: Weights, seen: Sequence[tuple[Path, os.stat_result]]
    ) -> None:
        """Note what a source turned out to be, for `find`: until one of its files is no longer as
        it was `seen` when its digest was taken.
        """
        resolved = Resolved(
            source=variant.source,
            path=str(weights.path),
            size_bytes=weights.size_bytes,
            sha256=weights.sha256,
            seen=[SeenFile(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in seen],
            revision=weights.revision,
            files=list(weights.files),
        )
        file = self.record_file(variant)
        draft = file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(resolved))
        draft.replace(file)

    def note_parts(self, variant: Variant, names: Sequence[str]) -> None:
        """Note what partial files it is to be made of: they are kept as long as its source is."""
        self._parts_file(variant).write_bytes(msgspec.json.encode(names))

    def settle_parts(self, variant: Variant) -> None:
        """A fetch ended: drop the note where nothing is left to be taken up."""
        note = self._parts_file(variant)
        with contextlib.suppress(OSError, ValueError):
            names = msgspec.json.decode(note.read_bytes(), type=list[str])
            if not any(file for name in names for file in self.partial.glob(f"{name}*")):
                note.unlink()

    def hold(self, variant: Variant) -> Hold:
        """Around a fetch, which adds to it what it relies on before it looks whether it is here."""
        hold = Hold(self.held)
        hold.add(record_name(variant.weights_id))
        return hold

    def set_aside(self, sha256: str) -> None:
        """Move a blob out of the way that is not what its name says: the next fetch brings it."""
        blob = self.blob(sha256)
        # First the trees: one that were left would be taken for whole once its blob is back.
        for tree in self.trees.iterdir():
            if any(is_link_to(place, blob) for place in tree.rglob("*") if not place.is_dir()):
                self.drop_tree(tree)
        with contextlib.suppress(FileNotFoundError):
            blob.replace(self.damaged / sha256)
        _sync_folder(self.blobs)

    def drop_tree(self, tree: Path) -> None:
        """Its blobs stay. It is gone at once, or not at all."""
        draft = self.partial / f"{tree.name}-{os.getpid()}-{time.time_ns()}.tree"
        with contextlib.suppress(FileNotFoundError):
            tree.replace(draft)
        shutil.rmtree(draft, ignore_errors=True)

    def _parts_file(self, variant: Variant) -> Path:
        return self.record_file(variant).with_suffix(".parts")

    def record_file(self, variant: Variant) -> Path:
        """Where it is noted what became of a source."""
        return self.sources / record_name(variant.weights_id)


def record_name(weights_id: str) -> str:
    return hashlib.sha256(weights_id.encode()).hexdigest()


def is_link_to(place: Path, blob: Path) -> bool:
    """Whether a file of a tree is this blob, by either kind of link."""
    try:
        return place.samefile(blob)
    except OSError:
        # Dangling, perhaps: the blob is gone.
        return place.is_symlink() and place.readlink().name == blob.name


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
