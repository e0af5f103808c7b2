"""The playground: services are tried in the browser, one from its page or several side by side.

A page has one task. What is asked goes from the browser to the inference API, as any program's
calls do; the page only says which services there are, and hands out the key to call each with.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from modelry.access.keys import SESSION_KEY_LIFE
from modelry.catalog.cards import TASKS
from modelry.console.frame import HEADERS, Frame, Visitor
from modelry.console.service_context import CALLABLE, service_context
from modelry.console.site import Site
from modelry.services import store
from modelry.services.examples import KEY_VARIABLE

SIDE_BY_SIDE = 4
_SCRIPT_WORDS = ("playground_js",)


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    async def own_services(visitor: Visitor) -> list[store.ServiceRow]:
        """Those that answer calls as they are now."""
        async with site.db.begin() as session:
            rows = await store.services_of(session, visitor.principal.owner_id)
        return [row for row in rows if row.state in CALLABLE]

    def page_of(
        request: Request, visitor: Visitor, task: str, services: Sequence[store.ServiceRow]
    ) -> dict[str, Any]:
        """What the page's scripts start from."""
        return {
            "owner": visitor.principal.owner_id,
            "task": task,
            "base": f"{site.public_base(request)}/v1",
            "key_variable": KEY_VARIABLE,
            "most": SIDE_BY_SIDE,
            "services": [
                {
                    "name": row.name,
                    "model": row.access_path,
                    "key": f"/services/{quote(row.name)}/playground",
                }
                for row in services
            ],
        }

    @routes.get("/playground")
    async def side_by_side(
        request: Request, visitor: Looking, models: str = "", task: str = ""
    ) -> Response:
        """`models`: the names of services, with commas between; those that cannot be called now
        are passed over.
        """
        rows = await own_services(visitor)
        names = models.split(",")[:SIDE_BY_SIDE]
        wished = [row for name in names for row in rows if row.name == name]
        tasks = _in_order(row.tasks for row in rows)
        shown = next(
            (each for each in (task, *_in_order(row.tasks for row in wished), *tasks)
             if each in tasks),
            None,
        )  # fmt: skip
        able = [row for row in rows if shown in row.tasks]
        chosen = [row.name for row in wished if shown in row.tasks] or [
            row.name for row in able[:1]
        ]
        return frame.page(
            request,
            "playground.html",
            visitor,
            script_words=_SCRIPT_WORDS,
            section="playground",
            task=shown,
            tasks=[
                (each, "/playground?" + urlencode({"task": each, "models": ",".join(names)}))
                for each in tasks
            ],
            alone=False,
            playground=page_of(request, visitor, shown or "", able)
            | {"chosen": chosen, "alone": False, "passed_over": _passed_over(names, chosen)},
        )

    @routes.get("/services/{name}/playground")
    async def of_service(request: Request, visitor: Looking, name: str, task: str = "") -> Response:
        """A tab of the service's page, for its owner."""
        context = await service_context(site, visitor.principal, name, "playground")
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
        shown = task if task in row.tasks else row.tasks[0]
        return frame.page(
            request,
            "service_playground.html",
            visitor,
            script_words=_SCRIPT_WORDS,
            **context,
            task=shown,
            tasks=[(each, f"?task={each}") for each in row.tasks],
            alone=True,
            playground=page_of(request, visitor, shown, [row])
            | {"chosen": [row.name], "alone": True, "passed_over": []},
        )

    @routes.post("/services/{name}/playground")
    async def key(visitor: Acting, name: str) -> Response:
        """The key with which this browser calls the service from its pages."""
        async with site.db.begin() as session:
            row = await site.lifecycle.get(session, visitor.principal, name)
        _, secret = await site.keys.ensure_for_session(
            visitor.principal, visitor.cookie, row.access_path
        )
        await site.published()
        return JSONResponse(
            {"key": secret, "expires_in_s": SESSION_KEY_LIFE.total_seconds()}, headers=HEADERS
        )

    return routes


def _in_order(tasks: Iterable[Iterable[str]]) -> list[str]:
    """All of them once, in the order that they are named in everywhere."""
    found = {task for each in tasks for task in each}
    return [task for task in TASKS if task in found]


def _passed_over(names: Iterable[str], chosen: Sequence[str]) -> list[str]:
    return [name for name in names if name and name not in chosen]
