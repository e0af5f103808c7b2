"""Access tokens, and one's own password, through the management API of a real control plane: by
access token and by a browser's session.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from modelry.access.sessions import COOKIE, csrf_token
from tests.integration.test_api import error_of
from tests.support.instance import ADMIN_TOKEN, Instance
from tests.support.users import add_user

PASSWORD = "preset-password"
NEW = "another-password"


def sign_in(api: Instance, password: str = PASSWORD) -> str | None:
    """The cookie of a new session; None where the password is wrong."""
    answer = httpx2.post(f"{api.url}/login", data={"name": "admin", "password": password})
    return answer.cookies.get(COOKIE)


def by_session(
    api: Instance, cookie: str, method: str, path: str, csrf: str | None = None, **options: Any
) -> httpx2.Response:
    headers = {"cookie": f"{COOKIE}={cookie}"}
    if csrf is not None:
        headers["x-csrf-token"] = csrf
    return api.api(method, path, token=None, headers=headers, **options)


def listed(api: Instance, id_: str) -> dict[str, Any]:
    rows = api.api("GET", "/tokens").json()["data"]
    return next(row for row in rows if row["id"] == id_)


@contextmanager
def changed_password(api: Instance) -> Iterator[dict[str, str]]:
    """What to send for another password; at the end it is the one before again."""
    yield {"current_password": PASSWORD, "password": NEW}
    back = {"current_password": NEW, "password": PASSWORD}
    assert api.api("PATCH", "/me", json=back).status_code == 200
    assert sign_in(api) is not None


# -- access tokens -------------------------------------------------------------


def test_a_token_is_shown_once_and_masked_ever_after(api: Instance) -> None:
    response = api.api("POST", "/tokens", json={"name": "ci"})
    assert response.status_code == 201
    made = response.json()
    assert made["token"].startswith("pat-")
    assert len(made["token"]) > 40
    assert (made["origin"], made["expires_at"], made["last_used_at"]) == ("user", None, None)
    assert listed(api, made["id"]) == made | {"token": f"pat-…{made['token'][-4:]}"}


def test_a_token_calls_until_it_is_deleted_also_by_itself(api: Instance) -> None:
    made = api.api("POST", "/tokens", json={"name": "ci"}).json()
    assert api.api("GET", "/me", token=made["token"]).json() == api.api("GET", "/me").json()
    used = datetime.fromisoformat(listed(api, made["id"])["last_used_at"])
    assert abs(datetime.now(UTC) - used) < timedelta(seconds=60)
    deleted = api.api("DELETE", f"/tokens/{made['id']}", token=made["token"])
    assert (deleted.status_code, deleted.content) == (204, b"")
    refused = api.api("GET", "/me", token=made["token"])
    assert error_of(refused)["code"] == "invalid_access_token"
    assert api.api("DELETE", f"/tokens/{made['id']}").status_code == 404


def test_the_tokens_of_the_start_are_told_from_others(api: Instance) -> None:
    rows = {row["origin"]: row for row in api.api("GET", "/tokens").json()["data"]}
    assert rows["start"]["token"] == f"pat-…{ADMIN_TOKEN[-4:]}"
    refused = api.api("DELETE", f"/tokens/{rows['local']['id']}")
    assert refused.status_code == 409
    assert error_of(refused)["code"] == "local_token"
    assert listed(api, rows["local"]["id"])


@pytest.mark.parametrize("name", ["", "a" * 101, "a\nb", "\u0000", "\u009b31m", 7, None, "\ud800"])
def test_a_name_that_is_none_is_refused(api: Instance, name: object) -> None:
    for path in ("/tokens", "/keys"):
        # Escaped, as half of a surrogate pair can only be sent.
        body = json.dumps({"name": name}).encode()
        headers = {"content-type": "application/json"}
        response = api.api("POST", path, content=body, headers=headers)
        assert response.status_code == 422
        assert error_of(response)["param"] == "name"


@pytest.mark.parametrize(
    "at",
    ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00", "soon", 7.5e300, "9999-12-31T23:59:59-14:00"],
)
def test_an_expiry_that_is_past_or_no_time_is_refused(api: Instance, at: object) -> None:
    for path in ("/tokens", "/keys"):
        response = api.api("POST", path, json={"name": "late", "expires_at": at})
        assert response.status_code == 422
        assert error_of(response)["param"] == "expires_at"


def test_an_expiry_to_come_is_kept(api: Instance) -> None:
    body = {"name": "late <b>'\"", "expires_at": "2999-01-01T00:00:00+02:00"}
    made = api.api("POST", "/tokens", json=body).json()
    assert made["name"] == body["name"]
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(body["expires_at"])
    assert api.api("GET", "/me", token=made["token"]).status_code == 200


def test_everybody_has_their_own(api: Instance) -> None:
    other = add_user(api, "u-0a0a0a0a0a0a", "with-tokens")
    mine = api.api("POST", "/tokens", json={"name": "mine"}).json()
    theirs = api.api("POST", "/tokens", token=other, json={"name": "theirs"}).json()
    names = [row["name"] for row in api.api("GET", "/tokens", token=other).json()["data"]]
    assert names == ["tests", "theirs"]
    assert api.api("DELETE", f"/tokens/{mine['id']}", token=other).status_code == 404
    assert api.api("DELETE", f"/tokens/{theirs['id']}").status_code == 404
    me = api.api("GET", "/me", token=theirs["token"]).json()
    assert (me["name"], me["operator"]) == ("with-tokens", False)


# -- the session's token -------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/tokens", {"name": "planted"}),
        ("DELETE", "/tokens/tok_nothing", None),
        ("PATCH", "/me", {"current_password": PASSWORD, "password": NEW}),
    ],
)
def test_a_foreign_page_changes_nothing(
    api: Instance, method: str, path: str, body: dict[str, str] | None
) -> None:
    cookie, other = sign_in(api), sign_in(api)
    assert cookie is not None
    assert other is not None
    for csrf in (None, "", "0" * 64, csrf_token(other)):
        refused = by_session(api, cookie, method, path, csrf, json=body)
        assert refused.status_code == 403
        assert error_of(refused)["code"] == "csrf"
    assert "planted" not in [row["name"] for row in api.api("GET", "/tokens").json()["data"]]
    assert sign_in(api) is not None


def test_a_session_makes_and_deletes_tokens(api: Instance) -> None:
    cookie = sign_in(api)
    assert cookie is not None
    csrf = csrf_token(cookie)
    made = by_session(api, cookie, "POST", "/tokens", csrf, json={"name": "of a page"}).json()
    assert api.api("GET", "/me", token=made["token"]).status_code == 200
    assert by_session(api, cookie, "GET", "/tokens").status_code == 200
    path = f"/tokens/{made['id']}"
    assert by_session(api, cookie, "DELETE", path, csrf).status_code == 204


# -- one's own password --------------------------------------------------------


def test_a_session_changes_the_password_and_is_the_one_that_stays(api: Instance) -> None:
    cookie, other = sign_in(api), sign_in(api)
    assert cookie is not None
    assert other is not None
    with changed_password(api) as change:
        done = by_session(api, cookie, "PATCH", "/me", csrf_token(cookie), json=change)
        assert done.status_code == 200
        assert done.json() == api.api("GET", "/me").json()
        assert by_session(api, cookie, "GET", "/me").status_code == 200
        assert by_session(api, other, "GET", "/me").status_code == 401
        assert sign_in(api) is None
        assert sign_in(api, NEW) is not None


def test_a_token_changes_the_password_and_every_browser_is_signed_out(api: Instance) -> None:
    cookie = sign_in(api)
    assert cookie is not None
    with changed_password(api) as change:
        # A cookie that comes with a token is not what the call is made with.
        headers = {"cookie": f"{COOKIE}={cookie}"}
        assert api.api("PATCH", "/me", headers=headers, json=change).status_code == 200
        assert by_session(api, cookie, "GET", "/me").status_code == 401


def test_a_wrong_current_password_is_a_403_that_names_it(api: Instance) -> None:
    body = {"current_password": "not the password", "password": NEW}
    refused = api.api("PATCH", "/me", json=body)
    assert refused.status_code == 403
    error = error_of(refused)
    assert (error["code"], error["param"]) == ("wrong_password", "current_password")
    assert sign_in(api) is not None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"password": "short77"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": None}, "password"),
        ({"password": ["a-long-password"]}, "password"),
        ({"current_password": "x" * 1025}, "current_password"),
        ({"current_password": None}, "current_password"),
        ({"name": "root"}, "name"),
        ({"operator": True}, "operator"),
    ],
)
def test_a_change_that_is_none_is_refused_by_its_field_and_without_its_words(
    api: Instance, body: dict[str, Any], param: str
) -> None:
    whole = {"current_password": PASSWORD, "password": NEW} | body
    refused = api.api("PATCH", "/me", json=whole)
    assert refused.status_code == 422
    assert error_of(refused)["param"] == param
    assert not [word for word in map(str, whole.values()) if len(word) > 6 and word in refused.text]


@pytest.mark.parametrize("left_out", ["password", "current_password"])
def test_a_change_takes_both_passwords(api: Instance, left_out: str) -> None:
    body = {"current_password": PASSWORD, "password": NEW}
    del body[left_out]
    refused = api.api("PATCH", "/me", json=body)
    assert refused.status_code == 422
    assert error_of(refused)["param"] == left_out
