"""The list of services: searched, filtered and paged in the database."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from modelry.catalog.cards import TASKS
from modelry.console.frame import Frame, PageNumber, Visitor
from modelry.console.service_context import CALLABLE, STARTABLE, STOPPABLE
from modelry.console.site import Site
from modelry.services.listing import Filter, Listed, counts_by_state, listed
from modelry.services.spec import EndpointsSpec
from modelry.services.states import ServiceState
from modelry.usage.series.store import Rate, rates

PAGE_SIZE = 50
_NONE = Rate(requests_per_minute=0, completion_tokens_per_s=0)


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()

    @routes.get("/services")
    async def services(
        request: Request,
        visitor: Annotated[Visitor, Depends(frame.visitor)],
        q: Annotated[str, Query(max_length=200)] = "",
        state: Annotated[str, Query(max_length=32)] = "",
        task: Annotated[str, Query(max_length=32)] = "",
        page: PageNumber = 1,
    ) -> Response:
        """A filter that names no state or task there is counts as none: links grow old."""
        wanted = Filter(
            visitor.principal.owner_id,
            text=q.replace("\0", "").strip(),
            state=state if state in tuple(ServiceState) else None,
            task=task if task in TASKS else None,
        )
        async with site.db.begin() as session:
            counts = await counts_by_state(session, wanted)
            total = sum(counts.values())
            shown = total if wanted.state is None else counts.get(wanted.state, 0)
            pages = max(1, -(-shown // PAGE_SIZE))
            # Whose page is gone, for services were deleted meanwhile, gets the last.
            page = min(page, pages)
            rows = await listed(session, wanted, (page - 1) * PAGE_SIZE, PAGE_SIZE)
            lately = await rates(session, datetime.now(UTC))
        query = _Query(wanted)
        return frame.page(
            request,
            "services.html",
            visitor,
            script_words=("services_js",),
            section="services",
            rows=[_row(site, each, lately.get(each.row.id, _NONE)) for each in rows],
            wanted=wanted,
            query=query,
            here_again=query(page=page),
            states=[
                (each, counts.get(each, 0))
                for each in ServiceState
                if each in counts or each == wanted.state
            ],
            tasks=TASKS,
            total=total,
            shown=shown,
            page=page,
            pages=pages,
            first=(page - 1) * PAGE_SIZE + 1,
        )

    return routes


class _Query:
    """Links to this list with something of its filter changed; None leaves out."""

    def __init__(self, wanted: Filter) -> None:
        self._fields = {"q": wanted.text, "state": wanted.state, "task": wanted.task}

    def __call__(self, **changed: object) -> str:
        fields: Mapping[str, object] = {**self._fields, **changed}
        if fields.get("page") == 1:
            fields = {**fields, "page": None}
        text = urlencode({name: value for name, value in fields.items() if value not in (None, "")})
        return f"/services?{text}" if text else "/services"


def _row(site: Site, each: Listed, rate: Rate) -> dict[str, Any]:
    row, spec, state = each.row, each.spec, ServiceState(each.row.state)
    progress = site.reconciler.progress.get(row.id)
    return {
        "row": row,
        "model": spec.model_name,
        "elsewhere": len(spec.endpoints) if isinstance(spec, EndpointsSpec) else 0,
        "host": None if isinstance(spec, EndpointsSpec) else spec.host,
        "rate": rate,
        "ready": each.ready,
        "wanted": 0 if isinstance(spec, EndpointsSpec) else spec.replicas.min,
        "share": None
        if progress is None or not progress.total_bytes
        else int(100 * progress.done_bytes / progress.total_bytes),
        "callable": state in CALLABLE,
        "startable": state in STARTABLE,
        "stoppable": state in STOPPABLE,
    }
