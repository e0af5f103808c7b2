"""Uploads: weights that a user sends by hand, until they are whole and a model.

    weights/uploads/<id>/upload.json    what was announced
    weights/uploads/<id>/<number>       what has come of one of the files, in their order

A digest never stands for bytes here, though the store may have them: whoever knew the
digest of somebody's private weights would have the weights. So every byte is sent.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog.arriving import ArrivingFile, DiskFull
from modelry.catalog.cards import Task, Variant
from modelry.catalog.download import require_space
from modelry.catalog.fetches import in_thread
from modelry.catalog.formats import Format, format_of, needed
from modelry.catalog.headers import check_header
from modelry.catalog.held import Hold
from modelry.catalog.keeping import digest_of, in_folder, keep
from modelry.catalog.look import Found
from modelry.catalog.refusals import check_config, refuse_unsafe
from modelry.catalog.sources import UploadedFiles, is_inside
from modelry.catalog.weights import WeightsFile, WeightsStore, record_name
from modelry.errors import Conflict, FetchError, InvalidRequest, ModelryError, NotFound

log = logging.getLogger(__name__)

_OPEN_MOST = 8
_LIFE_S = 7 * 24 * 3600.0
_EXPIRE_EACH_S = 3600.0


class Announced(msgspec.Struct, frozen=True):
    """A file as its sender tells of it. `verified`: the digest that we found, once it is a blob."""

    name: str
    size_bytes: int
    sha256: str | None = None
    verified: str | None = None


class _State(msgspec.Struct):
    id: str
    owner_id: str
    name: str
    tasks: list[Task]
    format: Format
    created_at: float
    files: list[Announced]


@dataclass(frozen=True)
class Wanted:
    """Of the names that were offered, the files that a model is made of, and their format."""

    format: Format
    files: tuple[Announced, ...]


def wanted_of(offered: Sequence[Announced]) -> Wanted:
    """By the rules that a hub's repository is held to. Raises `InvalidRequest`."""
    check_names([file.name for file in offered])
    try:
        names = needed([file.name for file in offered])
        format = format_of(names)
        refuse_unsafe(_variant(format), names)
    except InvalidRequest as error:
        message = error.message.removeprefix("source: ")
        raise InvalidRequest(
            f"files: {message}", hint=error.hint, param="files", code=error.code
        ) from None
    except FetchError as error:
        raise InvalidRequest(
            f"files: {error.message}", hint=error.hint, param="files", code="unsafe_weights"
        ) from None
    by_name = {file.name: file for file in offered}
    return Wanted(format, tuple(by_name[name] for name in names))


def check_names(names: Sequence[str]) -> None:
    """Whether they can lie in one folder, each in its place. Raises `InvalidRequest`."""
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    seen: set[str] = set()
    for name in names:
        plain = is_inside(name) and name.isprintable() and str(PurePosixPath(name)) == name
        if not plain or any(len(part.encode()) > 200 for part in name.split("/")):
            raise InvalidRequest(
                f"files: {name!r} is no path inside a folder",
                hint="name files by their path below the model's folder, such as config.json",
                param="files",
            )
        if name in seen or name in folders:
            raise InvalidRequest(f"files: {name!r} is there twice", param="files")
        seen.add(name)


def _variant(format: Format) -> Variant:
    """One of uploaded files, nothing of which is allowed that can run a program."""
    return Variant(name="upload", format=format, source=f"upload://{'0' * 64}")


class Upload:
    """One upload under way."""

    def __init__(self, folder: Path, state: _State, store: WeightsStore) -> None:
        self.folder = folder
        self.state = state
        self.completing = asyncio.Lock()
        self.gone = False
        self._store = store
        self.files = [
            ArrivingFile(file.name, file.size_bytes, folder / str(number))
            for number, file in enumerate(state.files)
        ]
        for arriving, file in zip(self.files, state.files, strict=True):
            # It was being completed when the process ended.
            moved = file.verified is not None and not arriving.path.exists()
            if moved and store.blob(str(file.verified)).exists():
                arriving.received = file.size_bytes

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        return sum(file.size_bytes - file.received for file in self.files)

    def file(self, name: str) -> ArrivingFile:
        for file in self.files:
            if file.name == name:
                return file
        raise NotFound(
            f"{name!r} is not a file of this upload",
            hint="`GET /uploads/{id}` lists those that are wanted",
        )

    def last_byte_at(self) -> float:
        return max(place.stat().st_mtime for place in [self.folder, *self.folder.iterdir()])

    def save(self) -> None:
        draft = self.folder / "upload.new"
        draft.write_bytes(msgspec.json.encode(self.state))
        draft.replace(self.folder / "upload.json")

    def into_store(self, hold: Hold) -> Found:
        """Check every file, and make them weights, which `hold` keeps from being cleaned away
        before a model names them. Blocks for as long as the digests take.
        """
        found = []
        for number, arriving in enumerate(self.files):
            announced = self.state.files[number]
            sha256 = self._verified(arriving, announced)
            found.append(WeightsFile(announced.name, announced.size_bytes, sha256))
            self.state.files[number] = msgspec.structs.replace(announced, verified=sha256)
            hold.add(sha256)
        # Before any of them gets its name, so that a process that dies now is understood.
        self.save()
        for arriving, file in zip(self.files, found, strict=True):
            # One that is here already stays as it is: other sources are known by its time too.
            if arriving.path.exists() and not self._store.blob(file.sha256).exists():
                self._store.add_blob(arriving.path, file.sha256)
        folder = in_folder(self.state.format, found)
        source = UploadedFiles(digest_of(found, folder=folder))
        variant = Variant(name="default", format=self.state.format, source=str(source))
        hold.add(source.sha256)
        hold.add(record_name(variant.weights_id))
        weights = keep(self._store, variant, found, folder=folder)
        return Found(source, self.state.format, weights.size_bytes)

    def _verified(self, arriving: ArrivingFile, announced: Announced) -> str:
        if not arriving.path.exists() and announced.verified is not None:
            return announced.verified
        sha256 = arriving.sha256()
        wrong: ModelryError | None = None
        if announced.sha256 not in (None, sha256):
            wrong = InvalidRequest(
                f"{announced.name} is not what was announced: its SHA-256 is {sha256}, "
                f"and not {announced.sha256}",
                hint="what came of it was dropped; send the file again",
                param="files",
                code="wrong_checksum",
            )
        else:
            try:
                check_header(announced.name, arriving.path)
                check_config(_variant(self.state.format), announced.name, arriving.path)
            except FetchError as error:
                wrong = InvalidRequest(
                    error.message,
                    hint="what came of it was dropped; upload a file that is whole",
                    param="files",
                    code=error.code,
                )
        if wrong is not None:
            arriving.restart()
            raise wrong
        return sha256


class Uploads:
    """All uploads under way; those that a process before this one had begun go on."""

    def __init__(self, folder: Path, store: WeightsStore) -> None:
        self._folder = folder
        self._store = store
        self._open: dict[str, Upload] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for place in sorted(folder.iterdir()):
            try:
                data = (place / "upload.json").read_bytes()
                state = msgspec.json.decode(data, type=_State)
            except (OSError, ValueError):
                # Its beginning, or its end, was cut short.
                shutil.rmtree(place, ignore_errors=True)
                continue
            self._open[state.id] = Upload(place, state, store)

    def list(self, owner_id: str | None) -> list[Upload]:
        """Of one user, or everybody's; oldest first."""
        found = [each for each in self._open.values() if owner_id in (None, each.state.owner_id)]
        return sorted(found, key=lambda upload: (upload.state.created_at, upload.state.id))

    def get(self, principal: Principal, id_: str) -> Upload:
        """An upload that the caller may see. Raises `NotFound`."""
        upload = self._open.get(id_)
        if upload is None or not (
            principal.operator or upload.state.owner_id == principal.owner_id
        ):
            raise NotFound(
                f"there is no upload {id_!r}",
                hint="it may be complete, or have expired: `GET /uploads` lists yours",
                code="upload_not_found",
            )
        return upload

    def own(self, principal: Principal, id_: str) -> Upload:
        """An upload that the caller may add to: it becomes a model of its owner."""
        upload = self.get(principal, id_)
        if upload.state.owner_id != principal.owner_id:
            principal = Principal(principal.owner_id, principal.name, operator=False)
            return self.get(principal, id_)
        return upload

    async def begin(
        self, owner_id: str, name: str, tasks: Sequence[Task], wanted: Wanted
    ) -> Upload:
        """Raises `Conflict` where the user has too many, `DiskFull` where it would not fit."""
        if len(self.list(owner_id)) >= _OPEN_MOST:
            raise Conflict(
                f"you have {_OPEN_MOST} uploads under way, the most there may be",
                hint="complete one, or drop it with `DELETE /uploads/{id}`",
                code="too_many_uploads",
            )
        size = sum(file.size_bytes for file in wanted.files)
        try:
            # What the others will still send is as good as taken.
            require_space(self._folder, size, *(each.missing_bytes for each in self.list(None)))
        except FetchError as error:
            raise DiskFull(error.message, hint=error.hint, param="files") from None
        id_ = new_id("upl")
        state = _State(
            id=id_,
            owner_id=owner_id,
            name=name,
            tasks=list(tasks),
            format=wanted.format,
            created_at=time.time(),
            files=list(wanted.files),
        )
        folder = self._folder / id_
        folder.mkdir(mode=0o700)
        upload = self._open[id_] = Upload(folder, state, self._store)
        upload.save()
        for number, file in enumerate(wanted.files):
            if file.size_bytes == 0:
                (folder / str(number)).touch(mode=0o600)
        return upload

    async def receive(
        self,
        upload: Upload,
        name: str,
        offset: int,
        length: int | None,
        blocks: AsyncIterator[bytes],
    ) -> ArrivingFile:
        file = upload.file(name)
        await file.take(offset, length, blocks)
        return file

    @contextlib.asynccontextmanager
    async def completed(self, upload: Upload) -> AsyncIterator[Found]:
        """What the upload turned out to be, in the store; once the block has ended well, the upload
        is over. Raises `Conflict` where bytes are missing, `InvalidRequest` where some are wrong.
        """
        async with upload.completing:
            if upload.gone:
                raise NotFound("this upload is over", code="upload_not_found")
            missing = [file for file in upload.files if not file.whole]
            if missing:
                raise Conflict(
                    f"{missing[0].name}: {missing[0].received} of {missing[0].size_bytes} bytes "
                    "have come",
                    hint="send the rest, then complete the upload",
                    code="upload_incomplete",
                )
            with Hold(self._store.held) as hold:
                yield await in_thread("complete an upload", lambda: upload.into_store(hold))
            await self._drop(upload)

    async def discard(self, upload: Upload) -> None:
        if upload.completing.locked():
            raise Conflict("this upload is being completed", code="upload_busy")
        async with upload.completing:
            if not upload.gone:
                await self._drop(upload)

    async def run(self) -> None:
        """Drop what was abandoned, for as long as the process lives."""
        while True:
            await self.expire(time.time())
            await asyncio.sleep(_EXPIRE_EACH_S)

    async def expire(self, now: float) -> None:
        """Drop the uploads that got no byte for a week."""
        for upload in self.list(None):
            with contextlib.suppress(OSError, Conflict):
                if now - upload.last_byte_at() > _LIFE_S:
                    log.info("upload %s was abandoned", upload.state.id)
                    await self.discard(upload)

    async def _drop(self, upload: Upload) -> None:
        upload.gone = True
        self._open.pop(upload.state.id, None)
        for file in upload.files:
            await file.close()
        await asyncio.to_thread(_remove, upload.folder)


def _remove(folder: Path) -> None:
    # First of all that which makes it an upload: the rest is swept at the next start.
    (folder / "upload.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
