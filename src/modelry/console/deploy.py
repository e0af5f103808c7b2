"""Making a service: of a model, with what it takes of this machine beside it, or on endpoints
elsewhere.

The address of the form says what is typed in it, as far as it decides what is told of it: the
page asks for itself as one types, so that the server alone knows names, engines and memory.
"""

from collections.abc import Sequence
from typing import Annotated, get_args
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError

from modelry.access.principal import Principal
from modelry.catalog.cards import TASKS, TOKENLESS
from modelry.catalog.catalog import Model
from modelry.catalog.formats import Quantisation
from modelry.catalog.offers import context_of
from modelry.console import shelf
from modelry.console.complaints import NONE, Complaints, complaints_of
from modelry.console.deploy_fit import adapters_of, converts, engines_for, fitting
from modelry.console.deploy_form import (
    ENDPOINT_FIELDS,
    ENDPOINTS_MOST,
    FIELDS,
    IDLE_CHOICES,
    NEVER,
    PLACES,
    Typed,
    of_endpoints,
    of_model,
    typed,
)
from modelry.console.frame import Frame, Visitor, go
from modelry.console.names import said_of, suggested, taken_names
from modelry.console.site import Site
from modelry.errors import ModelryError, NotFound
from modelry.services.lifecycle import Connection
from modelry.services.requests import NewService
from modelry.services.store import ServiceRow

_EMPTY_ENDPOINT = dict.fromkeys(ENDPOINT_FIELDS, "")


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    async def made(principal: Principal, body: NewService) -> ServiceRow:
        """The service, once every gateway knows of it."""
        wish = body.wish()
        if isinstance(wish, Connection):
            row = await site.lifecycle.connect(principal, wish)
        else:
            row = await site.lifecycle.create(principal, wish)
        await site.reconciler.reconcile()
        await site.published()
        return row

    async def model_form(
        request: Request, visitor: Visitor, form: Typed, complaints: Complaints = NONE
    ) -> Response:
        """The form for the model that is named in it, or the choice of one."""
        principal = visitor.principal
        async with site.db.begin() as session:
            taken = await taken_names(session, principal.owner_id)
            models = await site.catalog.list(session, principal)
            try:
                chosen = await site.catalog.get(session, principal, form["model"])
            except NotFound as error:
                chosen = None
                if form["model"]:
                    complaints = complaints_of(error, FIELDS)
        if chosen is None:
            return frame.page(
                request,
                "deploy_choice.html",
                visitor,
                status=complaints.status,
                section="services",
                models=_choices(models, principal),
                complaints=complaints,
                form=form,
            )
        seen = fitting(site, principal, chosen, form)
        name = form["name"] or suggested(chosen.card.name, taken)
        return frame.page(
            request,
            "deploy.html",
            visitor,
            status=complaints.status,
            section="services",
            complaints=complaints,
            form=form,
            model=chosen,
            icon_of_task=shelf.TASK_ICONS[chosen.card.tasks[0]],
            reference=chosen.reference(principal.owner_id),
            name=name,
            said=said_of(form["name"], taken),
            free=suggested(name, taken),
            seen=seen,
            usual_context=context_of(chosen, None),
            takes_context=not TOKENLESS.issuperset(chosen.card.tasks),
            engines=engines_for(site.machine, chosen),
            converts=converts(site.machine, chosen),
            quantisations=get_args(Quantisation),
            gpus=len(site.machine.inventory.gpus),
            adapters=adapters_of(models, principal),
            idle_choices=IDLE_CHOICES,
            never=NEVER,
        )

    async def endpoint_form(
        request: Request, visitor: Visitor, form: Typed, complaints: Complaints = NONE
    ) -> Response:
        async with site.db.begin() as session:
            taken = await taken_names(session, visitor.principal.owner_id)
        return frame.page(
            request,
            "deploy_endpoint.html",
            visitor,
            status=complaints.status,
            section="services",
            complaints=complaints,
            form=form,
            name=form["name"],
            said=said_of(form["name"], taken),
            free=suggested(form["name"] or "endpoint", taken),
            rows=[{**_EMPTY_ENDPOINT, **row} for row in form.endpoints] or [_EMPTY_ENDPOINT],
            most=ENDPOINTS_MOST,
            tasks=TASKS,
            chosen=form.tasks or ("chat",),
        )

    @routes.get("/deploy")
    async def deploy_page(request: Request, visitor: Looking) -> Response:
        return await model_form(request, visitor, typed(request.query_params))

    @routes.post("/deploy")
    async def deploy(request: Request, visitor: Acting) -> Response:
        form = typed(await request.form())
        try:
            row = await made(visitor.principal, of_model(form))
        except (ModelryError, ValidationError) as error:
            return await model_form(request, visitor, form, complaints_of(error, FIELDS, PLACES))
        return go(f"/services/{quote(row.name)}/progress")

    @routes.get("/deploy/endpoint")
    async def endpoint_page(request: Request, visitor: Looking) -> Response:
        return await endpoint_form(request, visitor, typed(request.query_params))

    @routes.post("/deploy/endpoint")
    async def connect(request: Request, visitor: Acting) -> Response:
        form = typed(await request.form())
        try:
            row = await made(visitor.principal, of_endpoints(form))
        except (ModelryError, ValidationError) as error:
            fields = ["name", "tasks", "slots"] + [
                f"endpoint.{number}.{name}"
                for number in range(max(1, len(form.endpoints)))
                for name in ENDPOINT_FIELDS
            ]
            places = {"endpoint": "endpoint.0.url"}
            return await endpoint_form(request, visitor, form, complaints_of(error, fields, places))
        return go(f"/services/{quote(row.name)}", "deploy.connected", row.name)

    return routes


def _choices(models: Sequence[Model], principal: Principal) -> dict[str, list[tuple[str, str]]]:
    """References and names, by who provides them; one's own and shared ones under none."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for model in sorted(models, key=lambda each: each.card.provider.lower()):
        if model.card.default_variant.format != "lora":
            entry = (model.reference(principal.owner_id), model.card.name)
            found.setdefault("" if model.owner_id else model.card.provider, []).append(entry)
    return {provider: entries for provider, entries in found.items() if entries}
