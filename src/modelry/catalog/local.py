"""Weights from files of this machine: used where they lie, or copied into the store."""

import os
import time
from functools import partial
from pathlib import Path

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress, require_space
from modelry.catalog.formats import NOTHING, Allowed, needed
from modelry.catalog.headers import check_header
from modelry.catalog.held import Hold
from modelry.catalog.pins import check
from modelry.catalog.refusals import check_config, refuse_unsafe
from modelry.catalog.weights import (
    Weights,
    WeightsFile,
    WeightsStore,
    copy_hashed,
    sync_file,
    tree_digest,
)
from modelry.errors import FetchError, InvalidRequest

_EMBEDDED = Path(__file__).parent / "embedded"


def embedded(name: str) -> Path:
    """The folder of weights that ships with Modelry under this name, which need not be there."""
    return _EMBEDDED / name


def in_place(
    variant: Variant, path: Path, store: WeightsStore, hold: Hold, progress: Progress
) -> Weights:
    """Look at every file, and note it. Raises `FetchError`, `OSError` or `Cancelled`."""
    root, before = _found(variant, path, progress)
    files = [_read(variant, root, name, stat, progress) for name, stat in before.items()]
    size = sum(file.size_bytes for file in files)
    if path.is_dir():
        weights = Weights(path, size, tree_digest(files), files=tuple(files))
    else:
        weights = Weights(path, size, files[0].sha256)
    check(variant, weights.size_bytes, weights.sha256, kept="it was left as it is")
    store.remember(variant, weights, [(root / name, stat) for name, stat in before.items()])
    return weights


def copy_in(
    variant: Variant, path: Path, store: WeightsStore, hold: Hold, progress: Progress
) -> Weights:
    """As `in_place`, into the store: afterwards the files themselves may go."""
    root, before = _found(variant, path, progress)
    require_space(store.partial, progress.total_bytes)
    files = []
    for name, stat in before.items():
        draft = store.partial / f"copy-{os.getpid()}-{time.time_ns()}.member"
        try:
            file = _read(variant, root, name, stat, progress, draft)
            hold.add(file.sha256)
            store.add_blob(draft, file.sha256)
        finally:
            draft.unlink(missing_ok=True)
        files.append(file)
    size = sum(file.size_bytes for file in files)
    if path.is_dir():
        digest = tree_digest(files)
        check(variant, size, digest, kept="it is not used")
        hold.add(digest)
        weights = Weights(store.add_tree(files), size, digest, files=tuple(files))
    else:
        check(variant, size, files[0].sha256, kept="it is not used")
        weights = Weights(store.blob(files[0].sha256), size, files[0].sha256)
    blobs = [store.blob(file.sha256) for file in files]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights


def below(folder: Path, allowed: Allowed = NOTHING) -> list[str]:
    """What a model in a folder is made of. Links that lead out of it are not followed, but for
    those of the cache of Hugging Face's library, whose snapshots are links to `../../blobs`.

    Raises `InvalidRequest` where nothing is left of it.
    """
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    names: list[str] = []
    astray: list[str] = []
    for place in sorted(folder.rglob("*")):
        name, file = place.relative_to(folder).as_posix(), place.resolve()
        if not place.is_file():
            continue
        inside = file.is_relative_to(root) or (blobs is not None and file.parent == blobs)
        (names if inside else astray).append(name)
    try:
        return needed(names, allowed)
    except InvalidRequest as error:
        if not astray:
            raise
        raise InvalidRequest(
            f"{error.message} ({astray[0]} is a link that leads out of the folder)",
            hint="put the file itself there",
            param=error.param,
            code=error.code,
        ) from None


def require_file(path: Path) -> None:
    """Raises `InvalidRequest` where it is neither a plain file nor a folder."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InvalidRequest(f"source: {path} is no file", param="source")


def _found(
    variant: Variant, path: Path, progress: Progress
) -> tuple[Path, dict[str, os.stat_result]]:
    """The folder its files are in, and what each is like before it is read."""
    if not path.exists():
        raise FetchError(f"there is no file {path}", hint="check the model's source")
    require_file(path)
    names = below(path, variant.allowed) if path.is_dir() else [path.name]
    root = path if path.is_dir() else path.parent
    refuse_unsafe(variant, names)
    before = {name: (root / name).stat() for name in names}
    progress.total_bytes = sum(stat.st_size for stat in before.values())
    return root, before


def _read(
    variant: Variant,
    root: Path,
    name: str,
    before: os.stat_result,
    progress: Progress,
    draft: Path | None = None,
) -> WeightsFile:
    """Read a file to its end, into `draft` where there is one."""
    path = draft or root / name
    told = partial(_add, progress, progress.done_bytes)
    with (root / name).open("rb") as file:
        if draft is None:
            size, sha256 = copy_hashed(file, None, told)
        else:
            with draft.open("xb") as out:
                draft.chmod(0o600)
                size, sha256 = copy_hashed(file, out, told)
                sync_file(out)
    check_header(name, path)
    check_config(variant, name, path)
    after = (root / name).stat()
    if (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
        raise FetchError(
            f"{root / name} was being written to", hint="start again once it is complete"
        )
    return WeightsFile(name, size, sha256)


def _add(progress: Progress, before: int, here: int) -> None:
    progress.set(before + here, before + here - progress.done_bytes)
