"""The catalogue's pages: what models there are, and one of them."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from modelry.access.principal import Principal
from modelry.catalog.cards import TASKS
from modelry.catalog.catalog import Model
from modelry.catalog.endpoints import model_view
from modelry.catalog.upkeep import Upkeep
from modelry.console import shelf
from modelry.console.coloured import coloured
from modelry.console.frame import Frame, Visitor, go
from modelry.console.names import taken_names
from modelry.console.service_context import CALLABLE
from modelry.console.shelf import Search, Shown
from modelry.console.site import Site
from modelry.db import Session
from modelry.errors import Conflict
from modelry.services import store
from modelry.services.examples import LANGUAGES, Example, examples
from modelry.services.spec import ServiceSpec, access_path
from modelry.services.uses import uses_of


@dataclass(frozen=True)
class _Own:
    """A service of the visitor's that runs the model."""

    name: str
    state: str

    @property
    def path(self) -> str:
        return f"/services/{quote(self.name)}"


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    def upkeep() -> Upkeep:
        return Upkeep(site.db, site.catalog, site.fetches, uses_of, site.reconciler.nudge)

    def shown(model: Model, principal: Principal, taken: frozenset[str]) -> Shown:
        view = model_view(model, site.offers.offer(model), site.fetches, principal)
        return shelf.shown(view, taken)

    @routes.get("/models")
    async def models_page(
        request: Request, visitor: Looking, search: Annotated[Search, Query()]
    ) -> Response:
        principal = visitor.principal
        async with site.db.begin() as session:
            models = await site.catalog.list(session, principal)
            taken = await taken_names(session, principal.owner_id)
        every = shelf.in_order([shown(model, principal, taken) for model in models])
        found = [each for each in every if search.finds(each)]
        return frame.page(
            request,
            "models.html",
            visitor,
            section="models",
            search=search,
            found=found,
            count=len(every),
            providers=sorted({each.provider for each in every if each.provider}),
            tasks=[each for each in TASKS if any(each in one.model.tasks for one in every)],
            task_icons=shelf.TASK_ICONS,
            tags=[each for each in shelf.TAGS if any(each in one.model.tags for one in every)],
            sizes=list(shelf.SIZES),
            owns=any(each.model.owner is not None for each in every),
            uploads=site.uploads.list(principal.owner_id),
            moving=any(each.moving for each in found),
            parameters=shelf.parameters,
            context=shelf.context,
        )

    @routes.get("/models/{reference}")
    async def model_page(request: Request, visitor: Looking, reference: str) -> Response:
        principal = visitor.principal
        async with site.db.begin() as session:
            model = await site.catalog.get(session, principal, reference)
            taken = await taken_names(session, principal.owner_id)
            services = await _services_of(session, principal, model)
        found = shown(model, principal, taken)
        running = [each for each in services if each.state in CALLABLE]
        base, path = (
            f"{site.public_base(request)}/v1",
            access_path(principal.owner_id, running[0].name if running else found.suggested),
        )
        return frame.page(
            request,
            "model.html",
            visitor,
            section="models",
            script_words=("models_js",),
            shown=found,
            model=found.model,
            services=services,
            running=running,
            own=found.model.owner == principal.owner_id,
            path=path,
            programs=_by_language(examples(base, path, found.model.tasks)),
            coloured=coloured,
            homepage=_web_address(found.model.homepage),
            parameters=shelf.parameters,
            context=shelf.context,
        )

    @routes.get("/models/{owner_id:owner}/{name}")
    async def shared_model_page(
        request: Request, visitor: Looking, owner_id: str, name: str
    ) -> Response:
        return await model_page(request, visitor, f"{owner_id}/{name}")

    async def back(principal: Principal, model: Model, notice: str) -> Response:
        reference = quote(model.reference(principal.owner_id))
        return go(f"/models/{reference}", notice, model.card.name)

    @routes.post("/models/{model_id}/fetch")
    async def fetch(
        visitor: Acting, model_id: str, variant: Annotated[str, Form(max_length=64)]
    ) -> Response:
        model = await upkeep().fetch(visitor.principal, model_id, variant)
        return await back(visitor.principal, model, "models.fetch_begun")

    @routes.post("/models/{model_id}/fetch/cancel")
    async def cancel(
        visitor: Acting, model_id: str, variant: Annotated[str, Form(max_length=64)]
    ) -> Response:
        model = await upkeep().cancel(visitor.principal, model_id, variant)
        return await back(visitor.principal, model, "models.fetch_cancelled")

    @routes.post("/models/{model_id}/delete")
    async def delete(
        visitor: Acting, model_id: str, written: Annotated[str, Form(max_length=64)] = ""
    ) -> Response:
        async with site.db.begin() as session:
            model = await site.catalog.get(session, visitor.principal, model_id)
        if written != model.card.name:
            raise Conflict(f"{model.card.name} is deleted only where its name is written")
        await upkeep().delete(visitor.principal, model_id)
        return go("/models", "models.deleted", model.card.name)

    @routes.post("/uploads/{id_}/drop")
    async def drop(visitor: Acting, id_: str) -> Response:
        upload = site.uploads.own(visitor.principal, id_)
        await site.uploads.discard(upload)
        return go("/models", "models.upload_dropped", upload.state.name)

    return routes


async def _services_of(session: Session, principal: Principal, model: Model) -> list[_Own]:
    """Of the visitor's, those that run it, also as an adapter; the callable ones first."""
    specs = await store.current_specs(session)
    found = [
        _Own(row.name, row.state)
        for row in await store.services_of(session, principal.owner_id)
        if isinstance(spec := specs[row.id], ServiceSpec)
        and model.card.id in (spec.adapter or spec.model, spec.adapter)
    ]
    return sorted(found, key=lambda each: each.state not in CALLABLE)


def _by_language(programs: list[Example]) -> dict[str, list[Example]]:
    return {
        language: [each for each in programs if each.language == language] for language in LANGUAGES
    }


def _web_address(homepage: str | None) -> str | None:
    """Whoever writes a card must not write what a link runs."""
    return homepage if (homepage or "").startswith(("https://", "http://")) else None
