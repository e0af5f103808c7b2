"""The first page of an installation that has no service yet: one button, and a conversation."""

import contextlib
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from sqlalchemy import select

from modelry.access.principal import Principal
from modelry.console.frame import Frame, Visitor, go
from modelry.console.progress import progress_of
from modelry.console.site import Site
from modelry.errors import Conflict, NotFound
from modelry.services import store
from modelry.services.drafts import Wish

MODEL = "smollm2-135m-instruct"
"""The embedded one that chats."""
NAME = "demo"


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/")
    async def home(visitor: Looking) -> Response:
        of_theirs = select(store.ServiceRow.seq).where(
            store.ServiceRow.owner_id == visitor.principal.owner_id
        )
        async with site.db.begin() as session:
            any_of_them = await session.scalar(of_theirs.limit(1))
        return go("/welcome" if any_of_them is None else "/services")

    async def size_bytes(principal: Principal) -> int | None:
        """Of its weights; None where an operator has taken the model away."""
        async with site.db.begin() as session:
            try:
                model = await site.catalog.get(session, principal, MODEL)
            except NotFound:
                return None
        return model.card.default_variant.size_bytes

    @routes.get("/welcome")
    async def welcome_page(request: Request, visitor: Looking) -> Response:
        try:
            begun = await progress_of(site, visitor, NAME)
        except NotFound:
            begun = {}
        return frame.page(
            request,
            "welcome.html",
            visitor,
            script_words=("progress_js",),
            section=None,
            begun=bool(begun),
            size_bytes=await size_bytes(visitor.principal),
            **begun,
        )

    @routes.post("/welcome")
    async def begin(visitor: Annotated[Visitor, Depends(frame.acting)]) -> Response:
        """Once: who presses twice, or comes back, finds the service that there is."""
        async with site.db.begin() as session:
            there = await store.find_service(session, visitor.principal.owner_id, NAME)
        if there is None:
            # Of two presses at once the other may have made it since.
            with contextlib.suppress(Conflict):
                await site.lifecycle.create(visitor.principal, Wish(name=NAME, model=MODEL))
            await site.reconciler.reconcile()
            await site.published()
        return go("/welcome")

    return routes
