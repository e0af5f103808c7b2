"""Changing a service: what it runs with, what it stands on; and the end of it."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError

from modelry.access.principal import Principal
from modelry.catalog.cards import TASKS, TOKENLESS
from modelry.catalog.catalog import Model
from modelry.catalog.formats import Quantisation
from modelry.catalog.offers import context_of
from modelry.console import service_change
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
    typed,
)
from modelry.console.frame import Frame, Visitor, go
from modelry.console.service_context import service_context
from modelry.console.site import Site
from modelry.errors import ModelryError
from modelry.services import store
from modelry.services.spec import ServiceSpec
from modelry.services.views import EndpointsView, ServiceView


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    async def model_of(spec: ServiceSpec) -> Model | None:
        async with site.db.begin() as session:
            return (await site.catalog.by_ids(session, [spec.model])).get(spec.model)

    async def adapters(principal: Principal) -> list[str]:
        async with site.db.begin() as session:
            return adapters_of(await site.catalog.list(session, principal), principal)

    def page(
        request: Request,
        visitor: Visitor,
        context: Mapping[str, Any],
        form: Typed,
        complaints: Complaints,
        **values: Any,
    ) -> Response:
        return frame.page(
            request,
            "service_settings.html",
            visitor,
            status=complaints.status,
            form=form,
            complaints=complaints,
            **values,
            **context,
        )

    async def settings_page(
        request: Request,
        visitor: Visitor,
        context: Mapping[str, Any],
        form: Typed | None = None,
        complaints: Complaints = NONE,
    ) -> Response:
        """`form`: what is typed; None is what the service has."""
        service: ServiceView = context["service"]
        spec = service.spec
        if isinstance(spec, EndpointsView):
            form = form or service_change.present_endpoints(spec, service.tasks)
            kind, values = "endpoints", {"most": ENDPOINTS_MOST, "tasks": TASKS}
            return page(request, visitor, context, form, complaints, kind=kind, **values)
        model = None if spec.host is not None else await model_of(spec)
        if model is None:
            kind = "lost" if spec.host is None else "hosted"
            return page(request, visitor, context, Typed({}), complaints, kind=kind)
        engines = engines_for(site.machine, model)
        if form is None:
            form = service_change.present(spec, engines)
            if request.query_params:
                given = typed(request.query_params)
                form = service_change.overlaid(form, given, service_change.TOLD)
        return page(
            request,
            visitor,
            context,
            form,
            complaints,
            kind="replicas",
            changing=True,
            model=model,
            seen=fitting(site, visitor.principal, model, form),
            usual_context=context_of(model, None),
            takes_context=not TOKENLESS.issuperset(model.card.tasks),
            engines=engines,
            converts=converts(site.machine, model),
            quantisations=get_args(Quantisation),
            gpus=len(site.machine.inventory.gpus),
            adapters=await adapters(visitor.principal),
            idle_choices=IDLE_CHOICES,
            never=NEVER,
        )

    async def settled(context: Mapping[str, Any], row: store.ServiceRow) -> Response:
        """To the service's page, which says whether anything was changed."""
        await site.reconciler.reconcile()
        await site.published()
        service: ServiceView = context["service"]
        changed = row.revision != service.revision or row.tasks != service.tasks
        notice = "service_settings.changed" if changed else "service_settings.unchanged"
        return go(context["service_path"], notice, row.name)

    @routes.get("/services/{name}/settings")
    async def settings(request: Request, visitor: Looking, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "settings")
        return await settings_page(request, visitor, context)

    @routes.post("/services/{name}/settings")
    async def change(request: Request, visitor: Acting, name: str) -> Response:
        context = await service_context(site, visitor.principal, name, "settings")
        service: ServiceView = context["service"]
        if isinstance(service.spec, EndpointsView):
            return await change_endpoints(request, visitor, context, service.spec)
        model = await model_of(service.spec)
        engines = [] if model is None else engines_for(site.machine, model)
        before = service_change.present(service.spec, engines)
        form = service_change.overlaid(before, typed(await request.form()), _TYPED)
        try:
            wish = service_change.of_replicas(before, form).change()
            row = await site.lifecycle.update(visitor.principal, service.id, wish)
        except (ModelryError, ValidationError) as error:
            complaints = complaints_of(error, FIELDS, PLACES)
            return await settings_page(request, visitor, context, form, complaints)
        return await settled(context, row)

    async def change_endpoints(
        request: Request, visitor: Visitor, context: Mapping[str, Any], spec: EndpointsView
    ) -> Response:
        service: ServiceView = context["service"]
        before = service_change.present_endpoints(spec, service.tasks)
        form = service_change.typed_endpoints(await request.form(), before)
        try:
            wish = service_change.of_endpoints(before, form).endpoints_change()
            row = await site.lifecycle.update_endpoints(visitor.principal, service.id, wish)
        except (ModelryError, ValidationError) as error:
            fields = ["tasks", "slots"] + [
                f"endpoint.{number}.{name}"
                for number in range(max(1, len(form.endpoints)))
                for name in ENDPOINT_FIELDS
            ]
            complaints = complaints_of(error, fields, {"endpoint": "endpoint.0.url"})
            return await settings_page(request, visitor, context, form, complaints)
        return await settled(context, row)

    return routes


_TYPED = tuple(name for name in FIELDS if name not in ("name", "model"))
