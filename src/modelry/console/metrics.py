"""A service's metrics over time, as a tab of its pages; the charts ask the management API."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from modelry.catalog.cards import TOKENLESS
from modelry.console.frame import Frame, Visitor
from modelry.console.service_context import service_context
from modelry.console.site import Site

Period = Literal["1h", "6h", "24h", "7d", "30d"]
PERIODS: tuple[Period, ...] = ("1h", "6h", "24h", "7d", "30d")


def router(site: Site, frame: Frame) -> APIRouter:
    routes = frame.router()
    Looking = Annotated[Visitor, Depends(frame.visitor)]

    @routes.get("/services/{name}/metrics")
    async def metrics_page(
        request: Request, visitor: Looking, name: str, period: Period = "24h"
    ) -> Response:
        context = await service_context(site, visitor.principal, name, "metrics")
        return frame.page(
            request,
            "service_metrics.html",
            visitor,
            script_words=("charts_js", "metrics_js"),
            **context,
            period=period,
            periods=PERIODS,
            tokens=not TOKENLESS.issuperset(context["service"].tasks),
        )

    return routes
