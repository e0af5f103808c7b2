"""`/bundles` of the management API: models with their weights as one file, out and in."""

import errno
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.arriving import DiskFull
from modelry.catalog.bundle_import import BadBundle, IncomingBundle, take_in
from modelry.catalog.bundles import BundledModel, Packed, bundle_of
from modelry.catalog.cards import ModelCard, Variant, check_id
from modelry.catalog.catalog import OWN_VARIANT, Catalog, Model
from modelry.catalog.endpoints import ModelView, model_view
from modelry.catalog.fetches import Fetches, in_thread
from modelry.catalog.held import Hold
from modelry.catalog.keeping import digest_of
from modelry.catalog.look import Found
from modelry.catalog.offers import Offers
from modelry.catalog.sources import LocalFile, Source, UploadedFiles, parse_source
from modelry.catalog.upload_endpoints import incoming_blocks
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, record_name
from modelry.db import Database, Session
from modelry.errors import Conflict, InvalidRequest, NotFound


class Imported(BaseModel):
    data: list[ModelView]


def router(
    db: Database,
    authenticator: Authenticator,
    catalog: Catalog,
    fetches: Fetches,
    offers: Offers,
    weights: WeightsStore,
) -> APIRouter:
    routes = APIRouter(tags=["bundles"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get(
        "/bundles",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-tar": {}}}},
    )
    async def export_bundle(
        caller: Caller, model: Annotated[list[str], Query(min_length=1, max_length=200)]
    ) -> StreamingResponse:
        chosen = {}
        async with db.begin() as session:
            for reference in model:
                found = await catalog.get(session, caller, reference)
                if found.owner_id is None:
                    caller.require_operator("a bundle of the catalogue's models")
                elif found.owner_id != caller.owner_id:
                    # Whom it is shared with may use it; where it is from is its owner's to tell.
                    caller.require_operator("a bundle of somebody else's model")
                chosen[found.card.id] = packed(found.card, reference)
        bundle = bundle_of(list(chosen.values()))
        return StreamingResponse(
            bundle.parts(),
            media_type="application/x-tar",
            headers={
                "content-length": str(bundle.length),
                "content-disposition": 'attachment; filename="models.tar"',
            },
        )

    def packed(card: ModelCard, reference: str) -> Packed:
        variant = card.default_variant
        projector = variant.projector_variant
        states = [fetches.state(each) for each in (variant, projector) if each is not None]
        here = [state for state in states if isinstance(state, Weights)]
        if len(here) < len(states):
            raise Conflict(
                f"the weights of {reference} are not here",
                hint=f"fetch them first: modelry models fetch {reference}",
                param="model",
                code="weights_absent",
            )
        return Packed(card, variant, *here)

    @routes.post(
        "/bundles",
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/x-tar": {"schema": {"type": "string"}}},
            }
        },
    )
    async def import_bundle(caller: Caller, request: Request) -> Imported:
        caller.require_operator("importing a bundle")
        incoming = IncomingBundle(weights, incoming_blocks(request))
        try:
            manifest = await incoming.manifest()
            _require_one_each(manifest.models)
            async with db.begin() as session:
                targets = {
                    model.name: await target(session, caller, model) for model in manifest.models
                }
            with Hold(weights.held) as hold:
                # Until the models name them.
                for each in manifest.models:
                    hold.add(_digest(each))
                    hold.add(record_name(targets[each.name].weights_id))
                for file in manifest.blobs():
                    hold.add(file.sha256)
                views = [
                    await take(caller, model, targets[model.name])
                    async for model in incoming.blobs(manifest)
                ]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull("the disk is full", hint="free some space, then again") from None
            raise
        fetches.on_change()
        return Imported(data=views)

    async def target(session: Session, caller: Principal, bundled: BundledModel) -> Variant:
        """Which variant the weights are for. Raises where there is no place for them here."""
        source = _source_here(bundled)
        try:
            check_id(bundled.name)
            known = await catalog.get(session, caller, bundled.name)
        except ValueError as error:
            raise BadBundle(f"model {bundled.name!r}: its name {error}") from None
        except NotFound:
            variant = _new_variant(bundled, source)
        else:
            variant = _same_source(known, source, bundled)
        state = fetches.state(variant)
        digest = _digest(bundled)
        pinned = state.sha256 if isinstance(state, Weights) else variant.sha256
        if pinned not in (None, digest):
            raise Conflict(
                f"the weights of {bundled.name} in the bundle are others than those known here",
                hint=f"here it is SHA-256 {pinned}, in the bundle {digest}",
                code="other_weights",
            )
        return variant

    async def take(caller: Principal, bundled: BundledModel, variant: Variant) -> ModelView:
        """The model, with its weights here."""
        if not isinstance(fetches.state(variant), Weights):
            await in_thread("import a model", lambda: take_in(weights, variant, bundled))
            fetches.forget_failure(variant)
        projector, brought = variant.projector_variant, bundled.projector
        # Where the model has another here, or none, the one that was brought is for nobody.
        if projector is not None and brought is not None and projector.source == brought.source:
            if not isinstance(fetches.state(projector), Weights):
                await in_thread("import a projector", lambda: take_in(weights, projector, brought))
            fetches.forget_failure(projector)
        async with db.begin() as session:
            try:
                model = await catalog.get(session, caller, bundled.name)
            except NotFound:
                size = sum(file.size_bytes for file in bundled.files)
                found = Found(_source_here(bundled), bundled.format, size)
                tasks = tuple(bundled.tasks)
                model = await catalog.register(session, caller, bundled.name, found, tasks)
        return model_view(model, offers.offer(model), fetches, caller)

    return routes


def _source_here(bundled: BundledModel) -> Source:
    """What was a path, or an upload, elsewhere is known here by its digest."""
    try:
        source = parse_source(bundled.source)
    except InvalidRequest as error:
        raise BadBundle(f"model {bundled.name}: {error.message}") from None
    if isinstance(source, LocalFile | UploadedFiles):
        return UploadedFiles(_digest(bundled))
    return source


def _require_one_each(models: list[BundledModel]) -> None:
    """Two models of one source are of the same weights."""
    digests: dict[str, str] = {}
    for each in models:
        source = str(_source_here(each))
        if digests.setdefault(source, _digest(each)) != _digest(each):
            raise BadBundle(f"two of its models are from {source}, with other weights each")


def _digest(bundled: BundledModel) -> str:
    files = [WeightsFile(file.name, file.size_bytes, file.sha256) for file in bundled.files]
    return digest_of(files, folder=bundled.folder)


def _new_variant(bundled: BundledModel, source: Source) -> Variant:
    return Variant(name=OWN_VARIANT, format=bundled.format, source=str(source))


def _same_source(known: Model, source: Source, bundled: BundledModel) -> Variant:
    for variant in known.card.variants:
        if variant.source == str(source):
            return variant
    raise Conflict(
        f"there is a model {bundled.name!r} here already, from "
        f"{known.card.default_variant.source}, and the bundle's is from {source}",
        hint="the one here has to go, or the bundle's to be exported under another name",
        code="model_name_taken",
    )
