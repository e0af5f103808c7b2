"""Bringing in a model of one's own: by naming where its weights are, or by uploading them."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError

from modelry.catalog.cards import TASKS
from modelry.catalog.endpoints import NewModel, register
from modelry.console.complaints import NONE, Complaints, complaints_of
from modelry.console.frame import Frame, Visitor, go
from modelry.console.site import Site
from modelry.errors import ModelryError

_FIELDS = ("name", "source", "tasks")
_TERMS = ("allow_pickles", "allow_remote_code", "copy")
_LONGEST = 1000


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()

    def page(
        request: Request,
        visitor: Visitor,
        typed: dict[str, str | list[str]],
        complaints: Complaints = NONE,
    ) -> Response:
        return frame.page(
            request,
            "add_model.html",
            visitor,
            status=complaints.status,
            script_words=("models_js",),
            section="models",
            typed=typed,
            complaints=complaints,
            tasks=TASKS,
            uploads=site.uploads.list(visitor.principal.owner_id),
        )

    @routes.get("/add-model")
    async def add_page(
        request: Request, visitor: Annotated[Visitor, Depends(frame.visitor)]
    ) -> Response:
        empty = dict.fromkeys(("name", "source", *_TERMS), "")
        return page(request, visitor, {**empty, "tasks": ["chat", "completion"]})

    @routes.post("/add-model")
    async def add(request: Request, visitor: Annotated[Visitor, Depends(frame.acting)]) -> Response:
        form = await request.form()
        typed: dict[str, str | list[str]] = {
            name: str(form.get(name) or "").strip()[: _LONGEST + 1]
            for name in ("name", "source", *_TERMS)
        }
        typed["tasks"] = [str(task) for task in form.getlist("tasks")][: len(TASKS)]
        given = {name: typed[name] for name in _FIELDS} | {
            name: bool(typed[name]) for name in _TERMS
        }
        try:
            body = NewModel.model_validate(given)
            model = await register(site.db, site.catalog, site.fetches, visitor.principal, body)
        except (ModelryError, ValidationError) as error:
            return page(request, visitor, typed, complaints_of(error, _FIELDS))
        return go(f"/models/{quote(model.card.name)}", "models.registered", model.card.name)

    return routes
