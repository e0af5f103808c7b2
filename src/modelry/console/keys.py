"""API keys: which there are, making one, changing and revoking one."""

from fnmatch import fnmatchcase
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from modelry.access import store as access
from modelry.access.endpoints import KeyView, key_view
from modelry.access.key_list import find_keys
from modelry.access.principal import Principal
from modelry.console.coloured import coloured
from modelry.console.expiry import TERMS
from modelry.console.frame import Frame, PageNumber, Visitor, go
from modelry.console.key_form import LIMITS, KeyForm, form_of, typed
from modelry.console.service_context import CALLABLE
from modelry.console.site import Site
from modelry.db import Session
from modelry.errors import NotFound
from modelry.services import store as services
from modelry.services.examples import KEY_VARIABLE, examples

_A_PAGE = 50


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]
    Acting = Annotated[Visitor, Depends(frame.acting)]

    @routes.get("/keys")
    async def keys_page(
        request: Request,
        visitor: Looking,
        q: Annotated[str, Query(max_length=200)] = "",
        page: PageNumber = 1,
        sessions: bool = False,
    ) -> Response:
        text = q.strip().replace("\0", "")
        owner_id = visitor.principal.owner_id
        async with site.db.begin() as session:
            rows, count = await find_keys(
                session,
                owner_id,
                of_sessions=sessions,
                text=text,
                start=(page - 1) * _A_PAGE,
                limit=_A_PAGE,
            )
            _, others = await find_keys(
                session, owner_id, of_sessions=not sessions, text="", start=0, limit=0
            )
        return frame.page(
            request,
            "keys.html",
            visitor,
            section="keys",
            keys=[key_view(row) for row in rows],
            now=access.now(),
            limits=LIMITS,
            q=text,
            sessions=sessions,
            others=others,
            page=page,
            first=(page - 1) * _A_PAGE + 1,
            count=count,
            more=page * _A_PAGE < count,
        )

    async def show_form(
        request: Request, visitor: Visitor, form: KeyForm, key: KeyView | None
    ) -> Response:
        async with site.db.begin() as session:
            mine = await services.services_of(session, visitor.principal.owner_id)
        return frame.page(
            request,
            "key.html",
            visitor,
            status=422 if form.complaints else 200,
            section="keys",
            form=form,
            key=key,
            mine=[row.access_path for row in mine],
            limits=LIMITS,
            terms=TERMS,
            today=access.now().date().isoformat(),
        )

    @routes.get("/keys/new")
    async def new_key_page(
        request: Request, visitor: Looking, service: Annotated[str | None, Query()] = None
    ) -> Response:
        """`service`: the access path of the one that is chosen at first."""
        form = KeyForm() if service is None else KeyForm(everything=False, services=[service])
        return await show_form(request, visitor, form, None)

    @routes.post("/keys")
    async def create_key(request: Request, visitor: Acting) -> Response:
        form = typed(await request.form())
        asked = form.new(access.now())
        if asked is None:
            return await show_form(request, visitor, form, None)
        row, key = await site.keys.create(
            visitor.principal,
            asked.name,
            services=asked.services,
            expires_at=asked.expires_at,
            limits=None if asked.limits is None else asked.limits.model_dump(),
            strict=asked.strict,
        )
        await site.published()
        program = await _program(site, visitor.principal, row, f"{site.public_base(request)}/v1")
        return frame.page(
            request,
            "key_made.html",
            visitor,
            status=201,
            section="keys",
            made=key_view(row, key),
            variable=KEY_VARIABLE,
            program=program,
            coloured=coloured,
        )

    @routes.get("/keys/{key_id}")
    async def key_page(request: Request, visitor: Looking, key_id: str) -> Response:
        async with site.db.begin() as session:
            key = await _own(session, visitor.principal, key_id)
            mine = await services.services_of(session, visitor.principal.owner_id)
        form = form_of(key, [row.access_path for row in mine])
        return await show_form(request, visitor, form, key)

    @routes.post("/keys/{key_id}")
    async def update_key(request: Request, visitor: Acting, key_id: str) -> Response:
        form = typed(await request.form())
        async with site.db.begin() as session:
            key = await _own(session, visitor.principal, key_id)
        asked = form.update(access.now())
        if asked is None:
            return await show_form(request, visitor, form, key)
        await site.keys.update(visitor.principal, key_id, asked.changes())
        await site.published()
        return go("/keys", "keys.changed", asked.name)

    @routes.post("/keys/{key_id}/revoke")
    async def revoke_key(visitor: Acting, key_id: str) -> Response:
        async with site.db.begin() as session:
            key = await _own(session, visitor.principal, key_id)
        await site.keys.revoke(visitor.principal, key_id)
        await site.published()
        return go("/keys", "keys.revoked", key.name)

    return routes


async def _own(session: Session, principal: Principal, key_id: str) -> KeyView:
    row = await access.key_of(session, principal.owner_id, key_id)
    if row is None:
        raise NotFound(f"there is no key {key_id}", code="key_not_found")
    return key_view(row)


async def _program(site: Site, principal: Principal, row: access.KeyRow, base: str) -> str:
    """A first call that the new key may make: of a service that answers, if there is one."""
    async with site.db.begin() as session:
        mine = await services.services_of(session, principal.owner_id)
    allowed = [
        each
        for each in mine
        if row.services is None or any(fnmatchcase(each.access_path, one) for one in row.services)
    ]
    allowed.sort(key=lambda each: each.state not in CALLABLE)
    for each in allowed:
        for example in examples(base, each.access_path, tuple(each.tasks)):
            return example.code
    return f'curl {base}/models -H "Authorization: Bearer ${KEY_VARIABLE}"'
