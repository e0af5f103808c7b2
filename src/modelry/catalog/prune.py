"""Removing from the weights store what nobody names any more.

What is kept follows from roots: the ids of weights that models name, and digests that
others hold on to. Each step leaves a store that is whole: records go before what they
name, trees before their blobs, and what dies in between leaves only something for the
next clean-up. What is being fetched is not touched.
"""

import contextlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from modelry.catalog.cards import Variant
from modelry.catalog.held import Held
from modelry.catalog.weights import Resolved, WeightsStore, record_name

_BLOCK = 512
"""Of `st_blocks`, whatever the file system's own is."""
_PART = re.compile(r"[0-9a-f]{64}(\.whl)?(\.part)?")


@dataclass(frozen=True)
class Roots:
    """What must stay: weights by `Variant.weights_id`, and blobs and trees by digest."""

    weights_ids: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    def __or__(self, other: "Roots") -> "Roots":
        return Roots(self.weights_ids | other.weights_ids, self.digests | other.digests)


@dataclass(frozen=True)
class Pruned:
    """What went, or would go. `freed_bytes`: on disk, so a file that has another name counts
    only with its last one.
    """

    files: int = 0
    freed_bytes: int = 0


@dataclass
class _Kept:
    records: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)


def prune(store: WeightsStore, roots: Roots, *, dry_run: bool) -> Pruned:
    """One at a time. Raises `OSError`."""
    with store.held.cleaning():
        kept = _kept(store, roots)
        clean = _Clean(store.held, dry_run)
        for record in sorted(store.sources.iterdir()):
            if record.stem not in kept.records:
                clean.remove(record.stem, record, record.unlink)
        _prune_derived(store, kept, clean)
        for tree in sorted(store.trees.iterdir()):
            if tree.name not in kept.digests:
                clean.remove(tree.name, tree, partial(store.drop_tree, tree))
        for blob in sorted(store.blobs.iterdir()):
            if blob.name not in kept.digests:
                clean.remove(blob.name, blob, blob.unlink)
        for part in sorted(store.partial.iterdir()):
            # Others are drafts: of a fetch under way, or they go with the next start.
            if _PART.fullmatch(part.name) and part_name(part.name) not in kept.partial:
                clean.remove(part_name(part.name), part, part.unlink)
        for damaged in sorted(store.damaged.iterdir()):
            clean.remove(damaged.name, damaged, damaged.unlink)
        return clean.pruned()


def part_name(name: str) -> str:
    """The name that a fetch holds a partial file by, in each of its forms."""
    return name.removesuffix(".part").removesuffix(".whl")


def _kept(store: WeightsStore, roots: Roots) -> _Kept:
    kept = _Kept({record_name(each) for each in roots.weights_ids}, set(roots.digests))
    for name in kept.records:
        with contextlib.suppress(OSError, ValueError):
            kept.partial.update(json.loads((store.sources / f"{name}.parts").read_bytes()))
        with contextlib.suppress(OSError, ValueError):
            record = msgspec.json.decode((store.sources / name).read_bytes(), type=Resolved)
            kept.digests.add(record.sha256)
            kept.digests.update(file.sha256 for file in record.files)
    blobs = {_inode(each): each.name for each in store.blobs.iterdir()}
    for digest in list(kept.digests):
        for place in _files(store.trees / digest):
            if place.is_symlink():
                kept.digests.add(place.readlink().name)
            elif (blob := blobs.get(_inode(place))) is not None:
                kept.digests.add(blob)
    return kept


def _prune_derived(store: WeightsStore, kept: _Kept, clean: "_Clean") -> None:
    """`derived/<key>` is what was made from the weights whose digest `<key>.json` states.

    An entry without such a note may be about to get it, and stays.
    """
    for note in sorted(store.derived.glob("*.json")):
        try:
            of = json.loads(note.read_bytes())["of"]
        except (ValueError, KeyError, TypeError):
            continue
        if of in kept.digests:
            continue
        entry = note.with_suffix("")
        if entry.is_dir():
            clean.remove(note.stem, entry, partial(store.drop_tree, entry))
        elif entry.exists():
            clean.remove(note.stem, entry, entry.unlink)
        # Last: without its note nobody would know of the entry.
        clean.remove(note.stem, note, note.unlink)


class _Clean:
    """Removes, or only counts, and knows what that frees."""

    def __init__(self, held: Held, dry_run: bool) -> None:
        self._held = held
        self._dry_run = dry_run
        self._files = 0
        # Device and inode → names that go, names it has, bytes.
        self._going: dict[tuple[int, int], tuple[int, int, int]] = {}

    def remove(self, name: str, place: Path, remove: Callable[[], None]) -> None:
        sizes = [found for file in _files(place) if (found := _lstat(file)) is not None]
        if self._dry_run and self._held.is_held(name):
            return
        if self._dry_run or self._held.remove(name, remove):
            self._files += len(sizes)
            for found in sizes:
                inode = (found.st_dev, found.st_ino)
                going, links, _ = self._going.get(inode, (0, found.st_nlink, 0))
                self._going[inode] = (going + 1, links, found.st_blocks * _BLOCK)

    def pruned(self) -> Pruned:
        freed = sum(size for going, links, size in self._going.values() if going >= links)
        return Pruned(self._files, freed)


# -- what is on the disk ---------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """`taken_bytes` are those of each variant asked for, in their order; what several share
    counts for each of them, and once in `total_bytes`. What is used in place takes nothing.
    """

    total_bytes: int
    free_bytes: int
    partial_bytes: int
    unused_bytes: int
    taken_bytes: tuple[int, ...]


def disk(store: WeightsStore, variants: Sequence[Variant], roots: Roots) -> Disk:
    folder = store.partial.parent
    return Disk(
        total_bytes=taken(folder),
        free_bytes=shutil.disk_usage(folder).free,
        partial_bytes=taken(store.partial),
        unused_bytes=prune(store, roots, dry_run=True).freed_bytes,
        taken_bytes=tuple(_taken_by(store, variant) for variant in variants),
    )


def _taken_by(store: WeightsStore, variant: Variant) -> int:
    weights = store.find(variant)
    if weights is None or not weights.path.is_relative_to(store.partial.parent):
        return 0
    return taken(weights.path, *(store.blob(file.sha256) for file in weights.files))


def taken(*places: Path) -> int:
    """Bytes on disk of files, and of those below folders; each once, however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for place in places:
        for file in _files(place):
            found = _lstat(file)
            if found is not None:
                seen[found.st_dev, found.st_ino] = found.st_blocks * _BLOCK
    return sum(seen.values())


def _files(place: Path) -> Iterator[Path]:
    """The files at or below a place; links are not followed."""
    found = _lstat(place)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        yield place
    elif found is not None:
        for folder, _, names in os.walk(place):
            for name in names:
                yield Path(folder, name)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _inode(path: Path) -> tuple[int, int] | None:
    found = _lstat(path)
    return None if found is None else (found.st_dev, found.st_ino)
