"""Reading a bundle as it arrives: member by member, each checked before it gets its name.

Whoever made the tar chose every byte of it. A member's name and size must be those
that the manifest leads to, so nothing in the tar says where anything is put: no name
of it ever reaches the file system. What is not a plain file is refused.
"""

import asyncio
import contextlib
import hashlib
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO

from modelry.access.credentials import new_id
from modelry.catalog.arriving import CutOff, DiskFull
from modelry.catalog.bundles import (
    BLOCK,
    END,
    MANIFEST,
    MANIFEST_MAX,
    BundledFile,
    BundledModel,
    BundledProjector,
    Manifest,
    member_of,
    padding,
    parse_manifest,
)
from modelry.catalog.cards import Variant
from modelry.catalog.download import require_space
from modelry.catalog.headers import check_header
from modelry.catalog.keeping import keep
from modelry.catalog.refusals import check_config, refuse_unsafe
from modelry.catalog.uploads import check_names
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, sync_file
from modelry.errors import FetchError, InvalidRequest

_PIECE = 1024 * 1024
_STALL_S = 60.0
_AGAIN = "copy the bundle again, or export it again"


class BadBundle(InvalidRequest):
    """It is not what `modelry bundle export` writes, or not any more."""

    code = "bad_bundle"


class IncomingBundle:
    """A bundle on its way in. First `manifest`, then `blobs` to the end."""

    def __init__(self, store: WeightsStore, blocks: AsyncIterator[bytes]) -> None:
        self._store = store
        self._blocks = blocks
        self._held = bytearray()

    async def manifest(self) -> Manifest:
        """What it holds, and all of it that can be checked before the files come."""
        size = await self._member(MANIFEST)
        if size > MANIFEST_MAX:
            raise BadBundle(f"its manifest has {size} bytes, too many", hint=_AGAIN)
        manifest = parse_manifest(bytes(await self._take(size)))
        await self._skip(padding(size))
        for model in manifest.models:
            _check_files(model)
        missing = sum(file.size_bytes for file in manifest.blobs() if not self._is_here(file))
        try:
            require_space(self._store.partial, missing)
        except FetchError as error:
            raise DiskFull(error.message, hint=error.hint) from None
        return manifest

    async def blobs(self, manifest: Manifest) -> AsyncIterator[BundledModel]:
        """Take in the files; each model is given once all of its files are here."""
        waiting = list(manifest.models)
        here: set[str] = set()
        files = manifest.blobs()
        for file in files:
            await self._blob(file)
            here.add(file.sha256)
            if file is files[-1] and bytes(await self._take(len(END))) != END:
                raise BadBundle("it holds more than its manifest names", hint=_AGAIN)
            while waiting and here.issuperset(each.sha256 for each in waiting[0].every_file):
                yield waiting.pop(0)

    # ------------------------------------------------------------------------

    def _is_here(self, file: BundledFile) -> bool:
        blob = self._store.blob(file.sha256)
        return blob.exists() and blob.stat().st_size == file.size_bytes

    async def _blob(self, file: BundledFile) -> None:
        size = await self._member(member_of(file))
        if size != file.size_bytes:
            raise BadBundle(
                f"{file.name} has {size} bytes in it, and {file.size_bytes} in its manifest",
                hint=_AGAIN,
            )
        if self._is_here(file):
            await self._skip(size + padding(size))
            return
        # Swept at the next start if this process dies.
        draft = self._store.partial / f"{new_id('bundle')}.member"
        try:
            sha256 = await self._write(draft, size)
            if sha256 != file.sha256:
                raise BadBundle(
                    f"{file.name} is damaged: its SHA-256 is {sha256}, and not {file.sha256}",
                    hint=_AGAIN,
                )
            self._store.add_blob(draft, sha256)
        finally:
            draft.unlink(missing_ok=True)
        await self._skip(padding(size))

    async def _write(self, draft: Path, size: int) -> str:
        digest = hashlib.sha256()
        with draft.open("wb") as file:
            draft.chmod(0o600)
            left = size
            while left:
                data = bytes(await self._take(min(_PIECE, left)))
                left -= len(data)
                await asyncio.to_thread(_append, file, digest, data)
            await asyncio.to_thread(sync_file, file)
        return digest.hexdigest()

    async def _member(self, name: str) -> int:
        """The size of the next member, which must be a plain file of that name."""
        try:
            info = tarfile.TarInfo.frombuf(bytes(await self._take(BLOCK)), "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeError, ValueError):
            raise BadBundle("it is no bundle, or damaged", hint=_AGAIN) from None
        if info.type != tarfile.REGTYPE or info.name != name or info.size < 0:
            raise BadBundle(f"{info.name!r} is in it where {name} should be", hint=_AGAIN)
        return info.size

    async def _skip(self, size: int) -> None:
        while size:
            size -= len(await self._take(min(_PIECE, size)))

    async def _take(self, size: int) -> bytearray:
        """The next `size` bytes. Raises `CutOff`."""
        while len(self._held) < size:
            try:
                async with asyncio.timeout(_STALL_S):
                    block = await anext(self._blocks, None)
            except (TimeoutError, ConnectionError):
                raise CutOff(
                    "the bundle stopped coming; models that were whole are here",
                    hint="import it again: what is here already is passed over",
                ) from None
            if block is None:
                raise BadBundle("it ends too early", hint=_AGAIN)
            self._held += block
        taken = self._held[:size]
        del self._held[:size]
        return taken


def take_in(
    store: WeightsStore, variant: Variant, model: BundledModel | BundledProjector
) -> Weights:
    """Make a model's files, all of which are here, the weights of a variant; blocks. Raises
    `BadBundle` where one is not what its name says.
    """
    for file in model.files:
        with _as_bad_bundle():
            check_header(file.name, store.blob(file.sha256))
            check_config(variant, file.name, store.blob(file.sha256))
    files = [WeightsFile(file.name, file.size_bytes, file.sha256) for file in model.files]
    return keep(store, variant, files, folder=model.folder, revision=model.revision)


def _check_files(model: BundledModel) -> None:
    names: Sequence[str] = [file.name for file in model.files]
    check_names(names)
    if model.projector is not None:
        check_names([file.name for file in model.projector.files])
    # Only what a fetch would have brought was exported.
    with _as_bad_bundle():
        variant = Variant(name="bundle", format=model.format, source=f"upload://{'0' * 64}")
        refuse_unsafe(variant, list(names))


@contextlib.contextmanager
def _as_bad_bundle() -> Iterator[None]:
    try:
        yield
    except FetchError as error:
        raise BadBundle(error.message, hint=error.hint) from None


def _append(file: IO[bytes], digest: "hashlib._Hash", data: bytes) -> None:
    digest.update(data)
    file.write(data)
