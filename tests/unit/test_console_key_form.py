"""The form of an API key: what it asks for, and which field a refusal belongs to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.datastructures import FormData

from modelry.access.endpoints import KeyLimits, KeyView
from modelry.console.key_form import KeyForm, form_of, typed

# An expiry is held against the clock of whoever checks it.
NOW = datetime.now(UTC)
OWN = "u-0123456789ab/demo"
KEY = KeyView(
    id="key_1",
    name="bot",
    key="sk-…abcd",
    services=[OWN, "public/*"],
    expires_at=NOW + timedelta(days=3),
    limits=KeyLimits(requests_per_minute=60),
    strict=True,
    created_at=NOW,
    last_used_at=None,
    for_session=False,
)


def test_an_empty_form_but_for_a_name_asks_for_a_key_without_bounds() -> None:
    asked = KeyForm(name="bot").new(NOW)
    assert asked is not None
    assert (asked.services, asked.expires_at, asked.strict) == (None, None, False)
    assert asked.limits is not None
    assert set(asked.limits.model_dump().values()) == {None}


def test_all_that_is_typed_is_asked_for() -> None:
    form = typed(
        FormData(
            [
                ("name", " bot "),
                ("scope", "chosen"),
                ("services", OWN),
                ("patterns", "public/*\n  u-0123456789ab/x-*"),
                ("expiry", "30"),
                ("tokens_per_month", "5,000,000"),
                ("strict", "on"),
            ]
        )
    )
    asked = form.new(NOW)
    assert asked is not None
    assert asked.name == "bot"
    assert asked.services == [OWN, "public/*", "u-0123456789ab/x-*"]
    assert asked.expires_at == NOW + timedelta(days=30)
    assert asked.limits == KeyLimits(tokens_per_month=5_000_000)
    assert asked.strict


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"expiry": "date", "expires_on": ""}, "expires_at"),
        ({"expiry": "date", "expires_on": "2020-01-01"}, "expires_at"),
        ({"expiry": "date", "expires_on": "<script>"}, "expires_at"),
        ({"expiry": "date", "expires_on": "9999-12-31"}, "expires_at"),
        ({"everything": False}, "services"),
        ({"everything": False, "patterns": "no path"}, "services"),
        ({"limits": {"concurrency": "0"}}, "concurrency"),
        ({"limits": {"concurrency": "-1"}}, "concurrency"),
        ({"limits": {"concurrency": "1.5"}}, "concurrency"),
        ({"limits": {"concurrency": "9" * 30}}, "concurrency"),
        ({"limits": {"concurrency": "=1+1"}}, "concurrency"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(change: dict[str, Any], field: str) -> None:
    form = replace(KeyForm(name="bot"), **change)
    assert form.new(NOW) is None
    assert list(form.complaints) == [field]


def test_a_day_is_the_last_of_a_key() -> None:
    day = (NOW + timedelta(days=2)).date()
    asked = KeyForm(name="bot", expiry="date", expires_on=day.isoformat()).new(NOW)
    assert asked is not None
    assert asked.expires_at == datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(1)


def test_a_key_s_own_form_changes_nothing() -> None:
    asked = form_of(KEY, [OWN]).update(NOW)
    assert asked is not None
    changes = asked.changes()
    assert "expires_at" not in changes
    assert changes["services"] == KEY.services
    assert changes["limits"] == KEY.limits.model_dump() if KEY.limits else None
    assert (changes["name"], changes["strict"]) == ("bot", True)


@pytest.mark.parametrize("expiry", ["", "1", "-7", "keep\0", "99999999999"])
def test_an_expiry_that_no_form_offers_is_never(expiry: str) -> None:
    assert typed(FormData([("expiry", expiry)])).expiry == "never"
