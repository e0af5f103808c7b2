"""What the replicas of a service wrote: those that run, and the last words of those that failed."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import PlainTextResponse, Response

from modelry.console.frame import HEADERS, Frame, Visitor
from modelry.console.service_context import service_context
from modelry.console.site import Site
from modelry.db import Session
from modelry.errors import NotFound
from modelry.services import store
from modelry.services.listing import failed_logs
from modelry.services.states import LIVE, ReplicaState

_SHOWN = 500
"""So many lines are on the page as it comes; its script asks for more of a replica that runs."""
_DOWNLOADED = 100_000


@dataclass(frozen=True)
class _Source:
    """A replica that wrote a log. `kept`: its end, where only an event still has it."""

    id: str
    state: str
    at: datetime
    kept: list[str] | None = None

    @property
    def live(self) -> bool:
        return self.state in LIVE


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Named = Annotated[str, Query(max_length=64)]

    @routes.get("/services/{name}/logs")
    async def logs(request: Request, visitor: Looking, name: str, replica: Named = "") -> Response:
        """Of one replica: the newest, where none is named or it is not known any more."""
        context = await service_context(site, visitor.principal, name, "logs")
        async with site.db.begin() as session:
            sources = await _sources(session, context["service"].id)
        chosen = _named(sources, replica) or (sources[0] if sources else None)
        return frame.page(
            request,
            "service_logs.html",
            visitor,
            script_words=("service_logs_js",),
            sources=sources,
            chosen=chosen,
            missing=replica if replica and (chosen is None or chosen.id != replica) else None,
            lines=[] if chosen is None else lines_of(chosen, _SHOWN),
            **context,
        )

    @routes.get("/services/{name}/logs/download")
    async def download(visitor: Looking, name: str, replica: Named) -> Response:
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
            chosen = _named(await _sources(session, row.id), replica)
        if chosen is None:
            raise NotFound(f"there is no replica {replica!r}", code="replica_not_found")
        # It may be megabytes.
        lines = await asyncio.to_thread(lines_of, chosen, _DOWNLOADED)
        text = "".join(f"{line}\n" for line in lines)
        file = f"{row.name}-{chosen.id}.log"
        return PlainTextResponse(
            text, headers={**HEADERS, "content-disposition": f'attachment; filename="{file}"'}
        )

    def lines_of(source: _Source, most: int) -> list[str]:
        return site.executor.log_tail(source.id, most) or source.kept or []

    return routes


def _named(sources: list[_Source], replica: str) -> _Source | None:
    return next((each for each in sources if each.id == replica), None)


async def _sources(session: Session, service_id: str) -> list[_Source]:
    """The newest first; among those that failed, also some that only events still know."""
    rows = await store.replicas_of(session, service_id)
    failed = await failed_logs(session, service_id)
    kept = {event.replica_id: event.log_tail for event in failed}
    known = {row.id for row in rows}
    found = [
        _Source(row.id, row.state, row.created_at, kept.get(row.id))
        for row in rows
        if row.state != ReplicaState.STOPPED
    ]
    found += [
        _Source(event.replica_id, ReplicaState.FAILED, event.at, event.log_tail)
        for event in failed
        if event.replica_id is not None and event.replica_id not in known
    ]
    return sorted(found, key=lambda each: (each.live, each.at), reverse=True)
