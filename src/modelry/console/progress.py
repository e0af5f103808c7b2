"""A service on its way from the button to its first answer, as its owner watches it."""

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.frame import Frame, Visitor
from modelry.console.site import Site
from modelry.console.steps import way
from modelry.services import store
from modelry.services.spec import ServiceSpec
from modelry.services.states import ServiceState

_EVENTS = 200
# One that has served for longer is not called just because somebody looks.
_FRESH = timedelta(minutes=15)
# What a first call asks for, the first that the service does.
_ASKED = ("chat", "completion")


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()

    @routes.get("/services/{name}/progress")
    async def progress_page(
        request: Request, name: str, visitor: Annotated[Visitor, Depends(frame.visitor)]
    ) -> Response:
        return frame.page(
            request,
            "progress.html",
            visitor,
            script_words=("progress_js",),
            section="services",
            **await progress_of(site, visitor, name),
        )

    return routes


async def progress_of(site: Site, visitor: Visitor, reference: str) -> dict[str, Any]:
    """What the steps' template shows of a service of the visitor's, or any by its id for
    operators. Raises `NotFound`.
    """
    principal = visitor.principal
    async with site.db.begin() as session:
        row = await site.lifecycle.get(session, principal, reference)
        spec = await store.spec_of(session, row)
        events = await store.latest_events(session, row.id, _EVENTS)
        failed = row.state == ServiceState.FAILED
        log_tail = await store.last_log_tail(session, row.id) if failed else None
    of_it = [event for event in reversed(events) if event.replica_id is None]
    model = spec if isinstance(spec, ServiceSpec) else None
    converts = model is not None and model.gguf_converter is not None
    walked = way(of_it, converts=converts)
    own = row.owner_id == principal.owner_id
    task = next((task for task in _ASKED if task in row.tasks), None)
    # Calls of endpoints elsewhere may cost money.
    asks = (
        own
        and model is not None
        and row.state == ServiceState.RUNNING
        and walked.served_at is not None
        and store.now() - walked.served_at < _FRESH
    )
    return {
        "service": row,
        "model_name": spec.model_name,
        "path": f"/services/{quote(row.name if own else row.id)}",
        "own": own,
        "way": walked,
        "progress": site.reconciler.progress.get(row.id),
        "log_tail": log_tail,
        "task": task if model is not None else None,
        "asks": asks and task is not None,
    }
