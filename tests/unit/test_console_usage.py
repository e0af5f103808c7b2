"""Periods of the usage page, and its export."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelry.access.principal import Principal
from modelry.access.store import KeyRow, UserRow
from modelry.console.usage import Line, lines_of_keys
from modelry.console.usage_export import COLUMNS, as_csv, as_json, defused
from modelry.console.usage_period import PERIODS, Period, period_of
from modelry.db import Database
from modelry.errors import InvalidRequest
from modelry.usage.store import SUMS, add_to_hours, summed_up

NOW = datetime(2026, 2, 10, 12, 34, 56, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "steps", "step"), [("24h", 24, "hour"), ("7d", 168, "hour"), ("30d", 30, "day")]
)
def test_a_period_has_full_steps_up_to_this_one(name: str, steps: int, step: str) -> None:
    period = period_of(name, "", "", NOW)
    length = HOUR if step == "hour" else 24 * HOUR
    assert period.step == step
    assert (period.end - period.start) / length == steps
    assert period.end - length <= NOW < period.end
    assert period.start.minute == period.end.second == 0


def test_a_custom_period_includes_its_last_day() -> None:
    period = period_of("custom", "2026-01-01", "2026-01-31", NOW)
    assert (period.start.isoformat(), period.end.isoformat()) == (
        "2026-01-01T00:00:00+00:00",
        "2026-02-01T00:00:00+00:00",
    )
    assert (period.first_day, period.last_day) == ("2026-01-01", "2026-01-31")
    assert period.query == "period=custom&from=2026-01-01&to=2026-01-31"


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("", ""),
        ("2026-01-02", "2026-01-01"),
        ("2026-02-30", "2026-03-01"),
        ("1969-01-01", "1970-01-01"),
        ("2026-01-01", "9999-12-31"),
        ("1990-01-01", "2026-01-01"),
        ("<script>", "2026-01-01"),
    ],
)
def test_days_that_are_no_period_are_refused(first: str, last: str) -> None:
    with pytest.raises(InvalidRequest):
        period_of("custom", first, last, NOW)


def test_a_name_that_is_none_is_the_usual_period() -> None:
    assert period_of("1000y", "", "", NOW).name in PERIODS


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(cell: str) -> None:
    assert defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["support bot", "u-0123456789ab/demo", "", -1, 2.5])
def test_other_cells_stay(cell: str | float) -> None:
    assert defused(cell) == cell


def exported(folder: Path, keys: list[str]) -> tuple[str, str]:
    """As CSV and as JSON: an hour in which each key called once."""
    hour = datetime(2026, 2, 10, 11, tzinfo=UTC)
    rows = [
        dict.fromkeys(SUMS, 0)
        | {
            "hour": hour,
            "service_id": "svc_1",
            "access_path": "u-0123456789ab/demo",
            "key_id": key,
            "user_id": "u-0123456789ab",
            "requests": 1,
            "audio_s": 0.1 + 0.2,
        }
        for key in keys
    ]
    period = Period("24h", hour, hour + HOUR)

    async def text(lines: AsyncIterator[str]) -> str:
        return "".join([each async for each in lines])

    async def run() -> tuple[str, str]:
        db = Database(None, folder / "modelry.db")
        await db.migrate()
        async with db.begin() as session:
            for start in range(0, len(rows), 500):
                await add_to_hours(session, rows[start : start + 500])
        both = await text(as_csv(db, period, None)), await text(as_json(db, period, None))
        await db.close()
        return both

    return asyncio.run(run())


def test_an_export_has_every_row_once_however_many(tmp_path: Path) -> None:
    keys = [f"key_{number:05}" for number in range(2001)]
    as_text, objects = exported(tmp_path, keys)
    lines = list(csv.reader(io.StringIO(as_text)))
    assert tuple(lines[0]) == COLUMNS
    assert [line[COLUMNS.index("key")] for line in lines[1:]] == keys
    found = json.loads(objects)
    assert [each["key"] for each in found] == keys
    assert found[0]["audio_s"] == 0.3
    assert found[0]["from"] == "2026-02-10T11:00:00+00:00"


def test_an_export_of_nothing_is_whole(tmp_path: Path) -> None:
    as_text, objects = exported(tmp_path, [])
    assert as_text.strip() == ",".join(COLUMNS)
    assert json.loads(objects) == []


def test_only_one_s_own_keys_have_a_page(tmp_path: Path) -> None:
    """An operator sees what others' keys were used for, too."""
    operator, other = "u-0123456789ab", "u-ba9876543210"
    hour = datetime(2026, 2, 10, 11, tzinfo=UTC)
    used = {"key_mine": operator, "key_theirs": other, "key_gone": other}

    async def run() -> list[Line]:
        db = Database(None, tmp_path / "modelry.db")
        await db.migrate()
        async with db.begin() as session:
            session.add_all(UserRow(id=id_, name=id_, operator=False) for id_ in (operator, other))
            await session.flush()
            session.add_all(
                KeyRow(id=key, user_id=user, name=key, hash=key, tail="….")
                for key, user in used.items()
                if key != "key_gone"
            )
            rows = [
                dict.fromkeys(SUMS, 0)
                | {"hour": hour, "service_id": "svc_1", "access_path": "public/demo"}
                | {"key_id": key, "user_id": user, "requests": 1}
                for key, user in used.items()
            ]
            await add_to_hours(session, rows)
        async with db.begin() as session:
            summary = Period("24h", hour, hour + HOUR).summary("key")
            found = await summed_up(session, summary, owner_id=None, after=None, limit=9)
            lines = await lines_of_keys(session, Principal(operator, "admin", True), found)
        await db.close()
        return lines

    seen = {line.id: (line.path, line.kind) for line in asyncio.run(run())}
    assert seen == {
        "key_mine": ("/keys/key_mine", "there"),
        "key_theirs": (None, "there"),
        "key_gone": (None, "gone"),
    }
