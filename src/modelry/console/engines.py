"""Engines: their runtimes, what uses each, installing and removing one."""

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.console.frame import Frame, Visitor, go
from modelry.console.service_context import service_path
from modelry.console.site import Site
from modelry.services import store


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    @routes.get("/engines")
    async def engines_page(request: Request, visitor: Looking) -> Response:
        principal = visitor.principal
        views = await site.engines.views()
        users = await site.engines.users()
        # A runtime that this version does not know is an engine of its own.
        grouped = groupby(views, lambda view: view.engine)

        def seen(row: store.ServiceRow) -> bool:
            return principal.operator or row.owner_id == principal.owner_id

        return frame.page(
            request,
            "engines.html",
            visitor,
            section="engines",
            engines=[(name, list(runtimes)) for name, runtimes in grouped],
            users={
                id_: [
                    (row.name, service_path(row, own=row.owner_id == principal.owner_id))
                    for row in rows
                    if seen(row)
                ]
                for id_, rows in users.items()
            },
            known=site.runtimes.known,
            installing=any(view.state == "installing" for view in views),
            gpus=len(site.machine.inventory.gpus),
        )

    @routes.post("/engines/{runtime_id}/install")
    async def install(visitor: Acting, runtime_id: str) -> Response:
        await site.engines.install(visitor.principal, runtime_id)
        return go("/engines", "engines.begun", runtime_id)

    @routes.post("/engines/{runtime_id}/remove")
    async def remove(visitor: Acting, runtime_id: str) -> Response:
        await site.engines.remove(visitor.principal, runtime_id)
        return go("/engines", "engines.removed", runtime_id)

    return routes
