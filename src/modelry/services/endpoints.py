"""`/services` of the management API."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db import Database, Session
from modelry.db.pages import Page, PageParams, page, page_of
from modelry.errors import NotFound
from modelry.executors.base import Executor
from modelry.services import store
from modelry.services.examples import Language, examples
from modelry.services.lifecycle import Connection, Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.services.requests import NewService, ServiceUpdate
from modelry.services.showing import shown_service
from modelry.services.spec import EndpointsSpec
from modelry.services.views import (
    EventView,
    ExampleView,
    RevisionView,
    ServiceView,
    event_view,
    revision_view,
)


def router(
    db: Database,
    authenticator: Authenticator,
    lifecycle: Lifecycle,
    reconciler: Reconciler,
    executor: Executor,
    published: Callable[[], Awaitable[None]],
    public_base: Callable[[Request], str],
) -> APIRouter:
    """`published` returns once every gateway has heard what the feed holds;
    `public_base` gives the address callers reach this installation by.
    """
    routes = APIRouter(tags=["services"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    async def view(session: Session, row: store.ServiceRow) -> ServiceView:
        return await shown_service(session, row, lifecycle, reconciler, executor)

    async def settled(row: store.ServiceRow) -> ServiceView:
        """The service once the wish is looked at and every gateway knows of it."""
        await reconciler.reconcile()
        await published()
        async with db.begin() as session:
            found = await store.find_service(session, row.owner_id, row.id)
            return await view(session, found or row)

    @routes.get("/services")
    async def list_services(caller: Caller, query: PageParams) -> Page[ServiceView]:
        mine = select(store.ServiceRow).where(store.ServiceRow.owner_id == caller.owner_id)
        async with db.begin() as session:
            rows, cursor = await page(session, mine, store.ServiceRow, query)
            views = [await view(session, row) for row in rows]
        return Page(data=views, next=cursor)

    @routes.post("/services", status_code=201)
    async def create_service(caller: Caller, body: NewService) -> ServiceView:
        wish = body.wish()
        if isinstance(wish, Connection):
            return await settled(await lifecycle.connect(caller, wish))
        return await settled(await lifecycle.create(caller, wish))

    @routes.get("/services/{name}")
    async def get_service(caller: Caller, name: str) -> ServiceView:
        async with db.begin() as session:
            return await view(session, await lifecycle.get(session, caller, name))

    @routes.patch("/services/{name}")
    async def update_service(caller: Caller, name: str, body: ServiceUpdate) -> ServiceView:
        """A new revision, which takes over once it is ready; none where nothing changes."""
        async with db.begin() as session:
            spec = await store.spec_of(session, await lifecycle.get(session, caller, name))
        if isinstance(spec, EndpointsSpec):
            change = body.endpoints_change()
            return await settled(await lifecycle.update_endpoints(caller, name, change))
        return await settled(await lifecycle.update(caller, name, body.change()))

    @routes.get("/services/{name}/revisions")
    async def list_revisions(caller: Caller, name: str, query: PageParams) -> Page[RevisionView]:
        """Oldest first. A `PATCH` with an earlier one's fields brings that back."""
        async with db.begin() as session:
            row = await lifecycle.get(session, caller, name)
            rows = await store.revisions_of(session, row.id)
        return page_of([revision_view(each) for each in rows], query)

    @routes.post("/services/{name}/start")
    async def start_service(caller: Caller, name: str) -> ServiceView:
        return await settled(await lifecycle.start(caller, name))

    @routes.post("/services/{name}/stop")
    async def stop_service(caller: Caller, name: str) -> ServiceView:
        return await settled(await lifecycle.stop(caller, name))

    @routes.delete("/services/{name}", status_code=202)
    async def delete_service(caller: Caller, name: str) -> ServiceView:
        async with db.begin() as session:
            before = await view(session, await lifecycle.get(session, caller, name))
        row = await lifecycle.delete(caller, name)
        before.status.state, before.status.message = row.state, row.message
        return before

    @routes.get("/services/{name}/events")
    async def list_events(caller: Caller, name: str, query: PageParams) -> Page[EventView]:
        async with db.begin() as session:
            row = await lifecycle.get(session, caller, name)
            of_it = select(store.EventRow).where(store.EventRow.service_id == row.id)
            rows, cursor = await page(session, of_it, store.EventRow, query)
        return Page(data=[event_view(event) for event in rows], next=cursor)

    @routes.get("/services/{name}/logs", response_class=StreamingResponse)
    async def get_logs(
        caller: Caller,
        name: str,
        follow: bool = False,
        replica: str | None = None,
        tail: Annotated[int, Query(ge=0, le=10_000)] = 200,
    ) -> StreamingResponse:
        """Plain text, a line each; with `follow` it goes on until the replica is gone."""
        async with db.begin() as session:
            row = await lifecycle.get(session, caller, name)
            replicas = await store.replicas_of(session, row.id)
        chosen = [found for found in replicas if replica in (None, found.id)]
        if replica is not None and not chosen:
            raise NotFound(f"there is no replica {replica!r}", code="replica_not_found")

        async def lines() -> AsyncIterator[bytes]:
            if not chosen:
                return
            newest = chosen[-1].id
            if follow:
                async for line in executor.follow_log(newest, tail):
                    yield line.encode() + b"\n"
            else:
                for line in executor.log_tail(newest, tail):
                    yield line.encode() + b"\n"

        return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")

    @routes.get("/services/{name}/examples")
    async def list_examples(
        caller: Caller, request: Request, name: str, language: Language | None = None
    ) -> Page[ExampleView]:
        async with db.begin() as session:
            row = await lifecycle.get(session, caller, name)
        base_url = f"{public_base(request)}/v1"
        return Page(
            data=[
                ExampleView(**vars(example))
                for example in examples(base_url, row.access_path, tuple(row.tasks))
                if language in (None, example.language)
            ]
        )

    return routes
