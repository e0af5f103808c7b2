"""`/services/{name}/metrics` of the management API: what charts of a service show."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db import Database
from modelry.services.lifecycle import Lifecycle
from modelry.services.store import now
from modelry.usage.series import store as series
from modelry.usage.series.points import Point, points, total
from modelry.usage.series.steps import window_of


class MetricsQuery(BaseModel):
    period: Literal["1h", "6h", "24h", "7d", "30d"] | None = Field(
        None, description="Up to now; without it, and without `from` and `to`, 24h."
    )
    start: str | None = Field(
        None,
        alias="from",
        description="A date in UTC, or a time with its zone; without it, a day before `to`.",
    )
    end: str | None = Field(
        None,
        alias="to",
        description="Up to this date's start, or up to this time; without it, up to now.",
    )


class TotalsView(BaseModel):
    """Of the whole period; null where nothing was measured."""

    requests: int = Field(description="Those that ended in this time.")
    errors: int = Field(description="Those answered with a status from 400 on.")
    cancelled: int = Field(description="Those whose caller hung up.")
    prompt_tokens: int
    completion_tokens: int
    ttft_p50_s: float | None = Field(
        description="Half of the answers had their first byte within this time of the request."
    )
    ttft_p95_s: float | None = Field(description="95 of 100 answers had.")
    tokens_per_s: float | None = Field(
        description="Completion tokens of one stream, each second after its first byte."
    )
    queue_mean_s: float | None = Field(description="Waiting for a slot, of all requests.")
    waiting: int | None = Field(description="The most requests that waited at once.")
    inflight: int | None = Field(description="The most requests that were worked on at once.")
    memory_bytes: int | None = Field(description="The most its replicas had together.")
    replicas: int | None = Field(description="The most that were ready.")


class PointView(TotalsView):
    """Of one step."""

    start: datetime = Field(alias="from", description="Of the step, in UTC.")


class MetricsView(BaseModel):
    service_id: str
    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to", description="The end of the last point's step.")
    step_s: int = Field(description="How far the points lie apart.")
    points: list[PointView]
    totals: TotalsView


def router(db: Database, authenticator: Authenticator, lifecycle: Lifecycle) -> APIRouter:
    routes = APIRouter(tags=["services"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/services/{name}/metrics")
    async def get_metrics(
        caller: Caller, name: str, query: Annotated[MetricsQuery, Query()]
    ) -> MetricsView:
        """A service's metrics over time, in at most 200 even steps."""
        window = window_of(query.period, query.start, query.end, now())
        async with db.begin() as session:
            service = await lifecycle.get(session, caller, name)
            counted = await series.counted(session, service.id, window)
            gauged = await series.gauged(session, service.id, window)
        return MetricsView(
            service_id=service.id,
            **{"from": _time(window.start), "to": _time(window.end)},
            step_s=window.step,
            points=[
                PointView(**{"from": _time(start)}, **_shown(point))
                for start, point in points(window, counted, gauged)
            ],
            totals=TotalsView(**_shown(total(counted.values(), gauged.values()))),
        )

    return routes


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _shown(point: Point) -> dict[str, int | float | None]:
    """To the tenth of a millisecond: further digits nobody measured."""
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in vars(point).items()
    }
