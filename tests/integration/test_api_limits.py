"""Limits of keys, and keys that change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelry.routing.messages import Limits
from tests.integration.test_api import error_of
from tests.support.feed import grant
from tests.support.instance import Instance

Json = dict[str, Any]

FIELDS = ("requests_per_minute", "tokens_per_minute", "concurrency", "tokens_per_month")


def make(api: Instance, **fields: Any) -> Json:
    response = api.api("POST", "/keys", json={"name": "limited", **fields})
    assert response.status_code == 201, response.text
    made: Json = response.json()
    return made


def change(api: Instance, key: Json, **fields: Any) -> Json:
    response = api.api("PATCH", f"/keys/{key['id']}", json=fields)
    assert response.status_code == 200, response.text
    changed: Json = response.json()
    return changed


def listed(api: Instance, key: Json) -> Json:
    rows: list[Json] = api.api("GET", "/keys?limit=1000").json()["data"]
    return next(row for row in rows if row["id"] == key["id"])


def test_limits_are_shown_and_told_to_gateways(api: Instance) -> None:
    limits = dict(zip(FIELDS, (60, 1000, 4, 10**6), strict=True))
    key = make(api, limits=limits)
    assert key["limits"] == listed(api, key)["limits"] == limits
    assert grant(api, key["id"]).limits == Limits(**limits)


def test_a_limit_that_is_not_given_is_none(api: Instance) -> None:
    key = make(api, limits={"concurrency": 1})
    assert key["limits"] == dict.fromkeys(FIELDS, None) | {"concurrency": 1}
    assert grant(api, key["id"]).limits == Limits(concurrency=1)


@pytest.mark.parametrize("limits", [None, {}, {"concurrency": None}])
def test_no_limits_are_none_at_all(api: Instance, limits: Json | None) -> None:
    key = make(api, limits=limits)
    assert key["limits"] is None
    assert grant(api, key["id"]).limits is None


@pytest.mark.parametrize("verb", ["POST", "PATCH"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, [], 10**15 + 1, 10**30])
def test_a_limit_is_a_whole_number_from_one_on(
    api: Instance, verb: str, field: str, value: object
) -> None:
    path = "/keys" if verb == "POST" else f"/keys/{make(api)['id']}"
    response = api.api(verb, path, json={"name": "never", "limits": {field: value}})
    assert response.status_code == 422
    assert error_of(response)["param"] == f"limits.{field}"


@pytest.mark.parametrize("limits", [{"requests_per_hour": 1}, 7, [], "none"])
def test_what_is_no_limit_is_refused(api: Instance, limits: object) -> None:
    response = api.api("POST", "/keys", json={"name": "never", "limits": limits})
    assert response.status_code == 422
    assert str(error_of(response)["param"]).startswith("limits")


def test_a_change_leaves_alone_what_it_does_not_name(api: Instance) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    limits = {"requests_per_minute": 60, "concurrency": 4}
    key = make(api, services=["public/*"], expires_at=until, limits=limits)
    before = listed(api, key)
    assert change(api, key) == before
    assert change(api, key, name="renamed") == before | {"name": "renamed"}
    assert change(api, key, services=["*"])["services"] == ["*"]
    changed = change(api, key, limits={"concurrency": None, "tokens_per_month": 5})
    assert changed["limits"] == dict.fromkeys(FIELDS, None) | {
        "requests_per_minute": 60,
        "tokens_per_month": 5,
    }
    assert changed["expires_at"] == before["expires_at"]
    assert listed(api, key) == changed
    granted = grant(api, key["id"])
    assert granted.limits == Limits(requests_per_minute=60, tokens_per_month=5)
    assert granted.services == ("*",)


def test_null_clears(api: Instance) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    key = make(api, services=["public/*"], expires_at=until, limits={"concurrency": 4})
    cleared = change(api, key, services=None, expires_at=None, limits=None)
    assert (cleared["services"], cleared["expires_at"], cleared["limits"]) == (None, None, None)
    granted = grant(api, key["id"])
    assert (granted.services, granted.expires_at, granted.limits) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("services", []),
        ("services", ["test"]),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("surprise", 1),
        ("key", "sk-mine"),
    ],
)
def test_a_change_is_checked_like_a_new_key(api: Instance, field: str, value: object) -> None:
    key = make(api)
    before = listed(api, key)
    response = api.api("PATCH", f"/keys/{key['id']}", json={field: value})
    assert response.status_code == 422
    assert str(error_of(response)["param"]).startswith(field)
    assert listed(api, key) == before


def test_a_change_is_in_force_once_it_is_answered(api: Instance) -> None:
    import openai

    key = make(api)
    me = api.api("GET", "/me").json()["id"]
    with api.openai(key["key"]) as client:
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=f"{me}/none", prompt="x")
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        change(api, key, expires_at=soon)
        assert grant(api, key["id"]).expires_at == datetime.fromisoformat(soon).timestamp()
    changed = change(api, key, expires_at=None)
    assert key["key"] not in str(changed)


def test_a_key_that_is_gone_cannot_be_changed(api: Instance) -> None:
    key = make(api)
    assert api.api("DELETE", f"/keys/{key['id']}").status_code == 204
    response = api.api("PATCH", f"/keys/{key['id']}", json={"name": "x"})
    assert response.status_code == 404
    assert error_of(response)["code"] == "key_not_found"


def test_no_two_keys_ever_have_the_same_number(api: Instance) -> None:
    """Gateways count by it: a new key must not inherit what a deleted one has used."""
    numbers = []
    for _ in range(3):
        key = make(api)
        numbers.append(grant(api, key["id"]).number)
        assert api.api("DELETE", f"/keys/{key['id']}").status_code == 204
    assert len(set(numbers)) == 3
    assert min(numbers) > 0
