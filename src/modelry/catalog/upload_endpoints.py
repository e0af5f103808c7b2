"""`/uploads` of the management API: weights brought in by hand, piece by piece."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.cards import Task, Variant, check_id
from modelry.catalog.catalog import DEFAULT_TASKS, Catalog, Model
from modelry.catalog.endpoints import ModelView, model_view
from modelry.catalog.fetches import Fetches
from modelry.catalog.look import Found
from modelry.catalog.offers import Offers
from modelry.catalog.sources import UploadedFiles
from modelry.catalog.uploads import Announced, Upload, Uploads, wanted_of
from modelry.catalog.weights import Weights
from modelry.db import Database, Session
from modelry.db.pages import Page, PageParams, page_of
from modelry.errors import Conflict, InvalidRequest, NotFound

_RANGE = re.compile(r"bytes (?P<first>\d{1,16})-(?P<last>\d{1,16})/(?P<total>\d{1,16}|\*)")
_SIZE_MAX = 2**50


class NewFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=500, description="Its path below the folder.")
    size_bytes: int = Field(strict=True, ge=0, le=_SIZE_MAX)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class NewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(check_id)] = Field(description="The model's.")
    tasks: tuple[Task, ...] = Field(DEFAULT_TASKS, min_length=1, max_length=7)
    files: list[NewFile] = Field(min_length=1, max_length=2000)


class Offer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    files: list[NewFile] = Field(min_length=1, max_length=2000)


class Choice(BaseModel):
    format: str
    files: list[str]


class Completion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(check_id)] | None = Field(
        None, description="Another name for the model than was announced."
    )


class UploadFileView(BaseModel):
    name: str
    size_bytes: int
    received_bytes: int
    sha256: str | None = Field(description="As it was announced.")


class UploadView(BaseModel):
    id: str
    name: str
    owner: str
    tasks: tuple[str, ...]
    format: str
    files: list[UploadFileView] = Field(description="Those that are wanted, of those offered.")
    created_at: datetime


def _view(upload: Upload) -> UploadView:
    state = upload.state
    return UploadView(
        id=state.id,
        name=state.name,
        owner=state.owner_id,
        tasks=tuple(state.tasks),
        format=state.format,
        files=[
            UploadFileView(
                name=file.name,
                size_bytes=file.size_bytes,
                received_bytes=file.received,
                sha256=announced.sha256,
            )
            for file, announced in zip(upload.files, state.files, strict=True)
        ],
        created_at=datetime.fromtimestamp(state.created_at, UTC),
    )


def router(
    db: Database,
    authenticator: Authenticator,
    catalog: Catalog,
    fetches: Fetches,
    offers: Offers,
    uploads: Uploads,
) -> APIRouter:
    routes = APIRouter(tags=["uploads"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    async def lost(session: Session, caller: Principal, name: str) -> Model | None:
        """The caller's model of that name, if it was uploaded and its files are gone."""
        try:
            model = await catalog.get(session, caller, name)
        except NotFound:
            return None
        variant: Variant = model.card.default_variant
        gone = not isinstance(fetches.state(variant), Weights)
        uploaded = isinstance(variant.parsed_source, UploadedFiles)
        return model if model.owner_id == caller.owner_id and uploaded and gone else None

    async def become(
        session: Session, caller: Principal, name: str, found: Found, tasks: tuple[Task, ...]
    ) -> Model:
        """The model of what was uploaded: a new one, or the one that had lost these files."""
        try:
            model = await catalog.get(session, caller, name)
        except NotFound:
            return await catalog.register(session, caller, name, found, tasks)
        if model.owner_id == caller.owner_id and model.card.name == name:
            if model.card.default_variant.source == str(found.source):
                fetches.forget_failure(model.card.default_variant)
                return model
            raise Conflict(
                f"there is a model {name!r} already, of other files",
                hint='complete the upload under another name: {"name": …}',
                param="name",
                code="model_name_taken",
            )
        return await catalog.register(session, caller, name, found, tasks)

    @routes.get("/uploads")
    async def list_uploads(
        caller: Caller,
        query: PageParams,
        everybody: Annotated[
            bool, Query(alias="all", description="Everybody's, for operators.")
        ] = False,
    ) -> Page[UploadView]:
        if everybody:
            caller.require_operator("the list of everybody's uploads")
        found = uploads.list(None if everybody else caller.owner_id)
        return page_of([_view(upload) for upload in found], query)

    @routes.post("/uploads", status_code=201)
    async def create_upload(caller: Caller, body: NewUpload) -> UploadView:
        wanted = await run_in_threadpool(wanted_of, _announced(body.files))
        async with db.begin() as session:
            if await lost(session, caller, body.name) is None:
                await catalog.require_free(session, caller, body.name)
        return _view(await uploads.begin(caller.owner_id, body.name, body.tasks, wanted))

    @routes.post("/uploads/choice")
    async def choose_files(_caller: Caller, body: Offer) -> Choice:
        """Which of these files a model needs, so that nobody reads the others."""
        wanted = await run_in_threadpool(wanted_of, _announced(body.files))
        return Choice(format=wanted.format, files=[file.name for file in wanted.files])

    @routes.get("/uploads/{upload_id}")
    async def get_upload(caller: Caller, upload_id: str) -> UploadView:
        return _view(uploads.get(caller, upload_id))

    @routes.put(
        "/uploads/{upload_id}/files/{name:path}",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def send_piece(
        caller: Caller,
        upload_id: str,
        name: str,
        request: Request,
        offset: Annotated[int | None, Query(ge=0, le=_SIZE_MAX)] = None,
        content_range: Annotated[str | None, Header(max_length=100)] = None,
        content_length: Annotated[int | None, Header(ge=0)] = None,
    ) -> UploadFileView:
        upload = uploads.own(caller, upload_id)
        file = upload.file(name)
        start = _start(offset, content_range, file.size_bytes, content_length)
        file = await uploads.receive(upload, name, start, content_length, incoming_blocks(request))
        (view,) = [each for each in _view(upload).files if each.name == file.name]
        return view

    @routes.post("/uploads/{upload_id}/complete", status_code=201)
    async def complete_upload(
        caller: Caller, upload_id: str, body: Completion | None = None
    ) -> ModelView:
        upload = uploads.own(caller, upload_id)
        name = (body.name if body else None) or upload.state.name
        async with db.begin() as session:
            if await lost(session, caller, name) is None:
                await catalog.require_free(session, caller, name)
        async with uploads.completed(upload) as found, db.begin() as session:
            tasks = tuple(upload.state.tasks)
            model = await become(session, caller, name, found, tasks)
        fetches.on_change()
        return model_view(model, offers.offer(model), fetches, caller)

    @routes.delete("/uploads/{upload_id}", status_code=204)
    async def delete_upload(caller: Caller, upload_id: str) -> Response:
        await uploads.discard(uploads.get(caller, upload_id))
        return Response(status_code=204)

    return routes


def _announced(files: list[NewFile]) -> list[Announced]:
    return [Announced(file.name, file.size_bytes, file.sha256) for file in files]


async def incoming_blocks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `ConnectionError` where its sender goes away."""
    try:
        async for block in request.stream():
            yield block
    except ClientDisconnect:
        raise ConnectionError from None


def _start(offset: int | None, range_: str | None, total: int, length: int | None) -> int:
    """Where a piece begins. Raises `InvalidRequest` that says how to tell."""
    if range_ is None:
        if offset is None:
            raise InvalidRequest(
                "where the piece begins is not said",
                hint="send it as ?offset=N, or as 'Content-Range: bytes first-last/total'",
                param="offset",
            )
        return offset
    match = _RANGE.fullmatch(range_.strip())
    if match is None or int(match["last"]) < int(match["first"]):
        raise InvalidRequest(
            "content-range: not a range of bytes",
            hint="it looks like 'bytes 0-1048575/7340032'",
            param="content-range",
        )
    first, size = int(match["first"]), int(match["last"]) - int(match["first"]) + 1
    if match["total"] not in ("*", str(total)) or length not in (None, size):
        raise InvalidRequest(
            f"content-range: it does not fit a file of {total} bytes, or the piece's own length",
            hint="begin a new upload if the file has changed",
            param="content-range",
        )
    if offset not in (None, first):
        raise InvalidRequest("offset and content-range do not agree", param="offset")
    return first
