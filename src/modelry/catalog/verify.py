"""Reading weights anew: whether every file still is what its digest says.

Disks lose bits, and people edit files. What is damaged in the store is moved out of the
way, so that the next fetch brings it again; files used in place are only reported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.sources import HubFiles
from modelry.catalog.weights import (
    Resolved,
    WeightsFile,
    WeightsStore,
    copy_hashed,
    is_link_to,
)

Damage: TypeAlias = Literal["damaged", "missing", "changed"]


@dataclass(frozen=True)
class Finding:
    """A file that is not what it was. `changed`: it is used in place, and was left there."""

    name: str
    damage: Damage


@dataclass(frozen=True)
class Report:
    """What a look at all files found; `size_bytes` of what is whole."""

    files: int
    size_bytes: int
    findings: tuple[Finding, ...] = ()


def verify(variant: Variant, store: WeightsStore, progress: Progress) -> Report | None:
    """None where nothing is known of such weights here. Raises `Cancelled` and `OSError`."""
    record = store.record(variant)
    if record is None:
        if variant.sha256 is None or not store.blob(variant.sha256).exists():
            return None
        size = store.blob(variant.sha256).stat().st_size
        record = Resolved(variant.source, str(store.blob(variant.sha256)), size, variant.sha256, [])
    progress.total_bytes = record.size_bytes
    if Path(record.path).parent in (store.blobs, store.trees):
        return _verify_stored(variant, record, store, progress)
    return _verify_in_place(variant, record, store, progress)


def _verify_stored(
    variant: Variant, record: Resolved, store: WeightsStore, progress: Progress
) -> Report:
    tree = Path(record.path) if record.files else None
    findings, whole, bad_blobs = [], 0, []
    for file in record.every_file:
        # A blob's own name says nothing to people.
        name = file.name if tree else _name_of(variant)
        blob = store.blob(file.sha256)
        damage = _damage(blob, file, progress)
        if damage is None and tree is not None and not is_link_to(tree / file.name, blob):
            # Not the blob's own file: it may hold the same bytes all the same.
            damage = _damage(tree / file.name, file, progress)
        elif damage is not None:
            bad_blobs.append(file.sha256)
        if damage is None:
            whole += file.size_bytes
        else:
            findings.append(Finding(name, damage))
    if tree is not None and findings:
        store.drop_tree(tree)
    for sha256 in bad_blobs:
        store.set_aside(sha256)
    return Report(len(record.every_file), whole, tuple(findings))


def _name_of(variant: Variant) -> str:
    """What people know the one file of a variant by."""
    source = variant.parsed_source
    if isinstance(source, HubFiles) and not source.path:
        return source.repo
    return variant.source.rstrip("/").rpartition("/")[2].partition("?")[0]


def _verify_in_place(
    variant: Variant, record: Resolved, store: WeightsStore, progress: Progress
) -> Report:
    findings, whole = [], 0
    for file in record.every_file:
        path = Path(record.path) / file.name if record.files else Path(record.path)
        damage = _damage(path, file, progress)
        if damage is None:
            whole += file.size_bytes
        else:
            findings.append(Finding(file.name, "changed" if damage == "damaged" else damage))
    if findings:
        # What was noted of them is no longer true: the next start looks at them anew.
        store.record_file(variant).unlink(missing_ok=True)
    return Report(len(record.every_file), whole, tuple(findings))


def _damage(path: Path, file: WeightsFile, progress: Progress) -> Damage | None:
    before = progress.done_bytes

    def told(here: int) -> None:
        progress.set(before + here, before + here - progress.done_bytes)

    try:
        with path.open("rb") as opened:
            found = copy_hashed(opened, None, told)
    except FileNotFoundError:
        return "missing"
    return None if found == (file.size_bytes, file.sha256) else "damaged"
