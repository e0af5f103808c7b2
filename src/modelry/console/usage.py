"""Usage: what was called in a time, of which service and by which key; charts and an export."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import Row, select

from modelry.access.key_names import names_of
from modelry.access.principal import Principal
from modelry.access.store import KeyRow
from modelry.console.frame import HEADERS, Frame, Visitor
from modelry.console.service_context import service_path
from modelry.console.site import Site
from modelry.console.usage_export import as_csv, as_json
from modelry.console.usage_period import PERIODS, USUAL, Period, period_of
from modelry.db import Session
from modelry.services import store as services
from modelry.usage import store

UNITS = ("images", "audio_s", "characters")
"""What tasks other than those of tokens count; shown where there is any of it."""

_GROUPS_MAX = 10_000
_SHOWN = 50
_MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


@dataclass(frozen=True)
class Line:
    """One service's or key's use. `path`: its page, if there is one for who looks; `kind`:
    `there`, `gone` or, of the keys of browsers together, `sessions`.
    """

    name: str
    id: str
    path: str | None
    kind: str
    sums: dict[str, Any]


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    def asked(
        period: Annotated[str, Query(max_length=10)] = USUAL,
        first: Annotated[str, Query(alias="from", max_length=40)] = "",
        last: Annotated[str, Query(alias="to", max_length=40)] = "",
    ) -> Period:
        return period_of(period, first, last, store.now())

    Asked = Annotated[Period, Depends(asked)]

    @routes.get("/usage")
    async def usage_page(request: Request, visitor: Looking, period: Asked) -> Response:
        owner_id = _owner(visitor.principal)
        async with site.db.begin() as session:
            rows = {
                group: await store.summed_up(
                    session,
                    period.summary(group),
                    owner_id=owner_id,
                    after=None,
                    limit=_GROUPS_MAX,
                )
                for group in ("service", "key")
            }
            by_service = await _services(session, visitor.principal, rows["service"])
            by_key = await lines_of_keys(session, visitor.principal, rows["key"])
        totals = _added(line.sums for line in by_service)
        return frame.page(
            request,
            "usage.html",
            visitor,
            script_words=("charts_js", "usage_js"),
            section="usage",
            period=period,
            periods=PERIODS,
            totals=totals,
            units=[unit for unit in UNITS if totals[unit]],
            tables=(("service", by_service), ("key", by_key)),
            shown=_SHOWN,
        )

    @routes.get("/usage/export")
    async def export(
        visitor: Looking, period: Asked, format: Literal["csv", "json"] = "csv"
    ) -> Response:
        """What the page is about, by hour or day, service and key, as a file."""
        lines = {"csv": as_csv, "json": as_json}[format](site.db, period, _owner(visitor.principal))
        name = f"modelry-usage-{period.first_day}-{period.last_day}.{format}"
        headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(lines, media_type=_MEDIA[format], headers=headers)

    return routes


def _owner(principal: Principal) -> str | None:
    """Whose usage they see; None is all of it."""
    return None if principal.operator else principal.owner_id


async def _services(session: Session, principal: Principal, rows: Sequence[Row[Any]]) -> list[Line]:
    there = {row.id: row for row in await session.scalars(select(services.ServiceRow))}
    lines = []
    for values in map(list, rows):
        access_path, service_id = values[:2]
        row = there.get(service_id)
        own = row is not None and row.owner_id == principal.owner_id
        seen = row is not None and (own or principal.operator)
        path = service_path(row, own=own) if row is not None and seen else None
        kind = "gone" if row is None else "there"
        lines.append(Line(access_path, service_id, path, kind, _sums(values[2:])))
    return _most_used_first(lines)


async def lines_of_keys(
    session: Session, principal: Principal, rows: Sequence[Row[Any]]
) -> list[Line]:
    """Those of browsers' sessions are one line: they come and go by themselves. Only one's own
    have a page.
    """
    names = await names_of(session, [row[0] for row in rows])
    own = frozenset(
        await session.scalars(select(KeyRow.id).where(KeyRow.user_id == principal.owner_id))
    )
    lines: list[Line] = []
    of_sessions: list[dict[str, Any]] = []
    for values in map(list, rows):
        key_id, sums = values[0], _sums(values[1:])
        named = names.get(key_id)
        if named is not None and named.for_session:
            of_sessions.append(sums)
        elif named is None or named.gone:
            lines.append(Line(named.name if named else key_id, key_id, None, "gone", sums))
        else:
            path = f"/keys/{key_id}" if key_id in own else None
            lines.append(Line(named.name, key_id, path, "there", sums))
    if of_sessions:
        lines.append(Line("", "", "/keys?sessions=1", "sessions", _added(of_sessions)))
    return _most_used_first(lines)


def _sums(values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(store.SUMS, values, strict=True))


def _added(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: defaultdict[str, Any] = defaultdict(int, dict.fromkeys(store.SUMS, 0))
    for sums in lines:
        for name, value in sums.items():
            total[name] += value
    return dict(total)


def _most_used_first(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.sums["requests"], line.name))
