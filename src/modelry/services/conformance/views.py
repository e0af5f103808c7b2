"""Reports as the management API and the console show them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from modelry.services.conformance.probing import Conformance
from modelry.services.conformance.report import Result, State
from modelry.services.conformance.store import ReportRow
from modelry.services.spec import EndpointsSpec, Spec
from modelry.services.store import ServiceRow


class CheckView(BaseModel):
    name: str = Field(description="Of docs/guides/conformance.md; it stays.")
    task: str
    result: Result
    detail: str
    duration_s: float


class ReportView(BaseModel):
    service_id: str
    revision: int | None = Field(description="Of the service, as it was probed; null before that.")
    engine: str | None
    modelry: str | None
    state: State = Field(description="`failed`: the probe broke off; `summary` says why.")
    started_at: datetime | None
    finished_at: datetime | None
    checks: list[CheckView] = Field(description="Of a pending report, those of the last one.")
    summary: str


def report_view(
    service: ServiceRow, spec: Spec, row: ReportRow | None, conformance: Conformance
) -> ReportView:
    if row is None:
        return ReportView(
            service_id=service.id,
            revision=None,
            engine=None,
            modelry=None,
            state=State.PENDING,
            started_at=None,
            finished_at=None,
            checks=[],
            summary=_waits(spec, conformance, asked=False),
        )
    checks: list[dict[str, Any]] = row.checks
    told = row.summary
    if row.state == State.RUNNING:
        checks = [each.stored() for each in conformance.found_so_far(service.id)]
        told = f"under way: {len(checks)} checks so far"
    elif row.state == State.PENDING:
        told = _waits(spec, conformance, asked=row.asked)
    return ReportView(
        service_id=service.id,
        revision=row.revision,
        engine=row.engine,
        modelry=row.modelry,
        state=State(row.state),
        started_at=row.started_at,
        finished_at=row.finished_at,
        checks=[CheckView.model_validate(each) for each in checks],
        summary=told,
    )


def _waits(spec: Spec, conformance: Conformance, *, asked: bool) -> str:
    if asked:
        return "asked for; it is made as soon as the service runs"
    if isinstance(spec, EndpointsSpec):
        return "made on request alone: calls elsewhere may cost money"
    if not conformance.on_deploy:
        return "made on request alone, as MODELRY_CONFORMANCE says"
    return "made once the service has run for a moment without a call"
