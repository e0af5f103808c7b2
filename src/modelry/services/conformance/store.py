"""The latest report of each service, as it is stored."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, select, update
from sqlalchemy.orm import Mapped, mapped_column

from modelry.db import Base, Session
from modelry.services.conformance.report import State


class ReportRow(Base):
    """`revision`, `engine` and `modelry` are what `checks` were made of, None before the first.
    `asked`: somebody waits for a new one.
    """

    __tablename__ = "conformance_reports"

    service_id: Mapped[str] = mapped_column(
        ForeignKey("services.id", ondelete="CASCADE"), primary_key=True
    )
    revision: Mapped[int | None]
    engine: Mapped[str | None] = mapped_column(String(128))
    modelry: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    asked: Mapped[bool] = mapped_column(default=False)
    summary: Mapped[str] = mapped_column(Text, default="")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    checks: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)


async def report_of(session: Session, service_id: str) -> ReportRow | None:
    return await session.get(ReportRow, service_id)


async def ensure_report(session: Session, service_id: str) -> ReportRow:
    row = await report_of(session, service_id)
    if row is None:
        row = ReportRow(service_id=service_id, state=State.PENDING, checks=[])
        session.add(row)
    return row


async def asked_for(session: Session) -> set[str]:
    """The services of which a new report is wanted."""
    return set(await session.scalars(select(ReportRow.service_id).where(ReportRow.asked)))


async def forget_broken_off(session: Session) -> None:
    """Reports that an earlier process was about to make: nobody makes them now."""
    of_it = update(ReportRow).where(ReportRow.state == State.RUNNING)
    await session.execute(of_it.values(state=State.PENDING))
