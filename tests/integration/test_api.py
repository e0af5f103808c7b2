"""What every call of the management API has in common: who may call, errors, lists."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx2
import pytest

from tests.support.instance import Instance

# Calls that need no access token. Whoever adds one says so here.
PUBLIC: set[tuple[str, str]] = set()


def operations(api: Instance) -> Iterator[tuple[str, str]]:
    paths = api.api("GET", "/openapi.json", token=None).json()["paths"]
    for path, methods in paths.items():
        for method in methods:
            yield method.upper(), path


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The error, once its shape is seen to be the contract's."""
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "hint", "param"}
    assert isinstance(error["code"], str)
    assert error["message"]
    return error


@pytest.mark.parametrize("token", [None, "x", "pat-" + "x" * 40, "sk-" + "x" * 40])
def test_no_call_is_open_to_strangers(api: Instance, token: str | None) -> None:
    found = set(operations(api))
    assert len(found) > 10
    assert found >= PUBLIC
    for method, path in sorted(found - PUBLIC):
        # Some paths take nothing but an owner id there.
        place = path.removeprefix("/api/v1").replace("{owner_id}", "u-0123456789ab")
        response = api.api(method, place, token=token, json={})
        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"] == "Bearer"
        assert error_of(response)["code"].endswith("_access_token")


def test_an_api_key_is_no_access_token(api: Instance) -> None:
    response = api.api("GET", "/me", token=api.key())
    assert response.status_code == 401
    assert "pat-" in str(error_of(response)["hint"])


def test_the_preset_token_is_the_operators(api: Instance) -> None:
    me = api.api("GET", "/me").json()
    assert (me["name"], me["operator"]) == ("admin", True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/keys", {"name": "x", "surprise": 1}),
        ("/tokens", {"name": "x", "surprise": 1}),
        ("/services", {"name": "good-name", "model": "m", "surprise": 1}),
        ("/models", {"name": "good-name", "source": "file:///x", "surprise": 1}),
    ],
)
def test_an_unknown_field_is_a_422_that_names_it(
    api: Instance, path: str, body: dict[str, Any]
) -> None:
    response = api.api("POST", path, json=body)
    assert response.status_code == 422
    assert error_of(response)["param"] == "surprise"


@pytest.mark.parametrize("path", ["/keys", "/tokens", "/services", "/models"])
@pytest.mark.parametrize("body", [b"{", b'{"name": }', b"\xff\xfe", b"{'name': 1}"])
def test_a_body_that_is_no_json_is_a_400(api: Instance, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = api.api("POST", path, content=body, headers=headers)
    assert response.status_code == 400
    error_of(response)


@pytest.mark.parametrize("path", ["/keys", "/tokens", "/services", "/models"])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b"{}"])
def test_a_body_that_is_not_what_is_asked_for_is_a_422(
    api: Instance, path: str, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    response = api.api("POST", path, content=body, headers=headers)
    assert response.status_code == 422
    error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/keys/x/y", 404, "not_found"),
        ("PUT", "/keys", 405, "method_not_allowed"),
        ("DELETE", "/models", 405, "method_not_allowed"),
        ("GET", "/models/nothing", 404, "model_not_found"),
        ("GET", "/services/nothing", 404, "service_not_found"),
        ("GET", "/services/nothing/events", 404, "service_not_found"),
        ("GET", "/services/nothing/logs", 404, "service_not_found"),
        ("GET", "/services/nothing/examples", 404, "service_not_found"),
        ("POST", "/services/nothing/start", 404, "service_not_found"),
        ("POST", "/services/nothing/stop", 404, "service_not_found"),
        ("DELETE", "/services/svc_nothing", 404, "service_not_found"),
        ("DELETE", "/keys/key_nothing", 404, "key_not_found"),
        ("PUT", "/keys/key_nothing", 405, "method_not_allowed"),
        ("DELETE", "/tokens/tok_nothing", 404, "token_not_found"),
        ("PATCH", "/tokens/tok_nothing", 405, "method_not_allowed"),
        ("GET", "/nodes/nothing", 404, "node_not_found"),
        ("GET", "/nodes?cursor=elsewhere", 422, "invalid_request"),
        ("GET", "/keys?limit=0", 422, "invalid_request"),
        ("GET", "/keys?limit=1001", 422, "invalid_request"),
        ("GET", "/keys?limit=many", 422, "invalid_request"),
        ("GET", "/keys?cursor=elsewhere", 422, "invalid_request"),
        ("GET", "/keys?cursor=-1", 422, "invalid_request"),
        ("GET", "/keys?cursor=%D9%A1", 422, "invalid_request"),
        ("GET", "/keys?cursor=99999999999999999999999", 422, "invalid_request"),
    ],
)
def test_refusals_have_one_shape(
    api: Instance, method: str, path: str, status: int, code: str
) -> None:
    response = api.api(method, path)
    assert response.status_code == status
    error = error_of(response)
    assert error["code"] == code
    if status == 405:
        assert response.headers["allow"]
    if status == 422:
        assert error["param"] in ("limit", "cursor")


@pytest.mark.parametrize("path", ["", "/docs", "/redoc", "/v2", "/%00", "//keys"])
def test_nothing_is_served_beside_the_calls(api: Instance, path: str) -> None:
    response = api.api("GET", path)
    assert response.status_code == 404
    error_of(response)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_paging_visits_each_row_once(api: Instance, limit: int) -> None:
    made = [api.api("POST", "/keys", json={"name": f"page-{n}"}).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    for turn in count():
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = api.api("GET", "/keys", params=query).json()
        assert set(page) == {"data", "next"}
        assert len(page["data"]) <= limit
        seen += [row["id"] for row in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["data"]) == limit
        # A row that goes while one pages costs nobody else.
        if turn == 0:
            assert api.api("DELETE", f"/keys/{seen[0]}").status_code == 204
    assert len(set(seen)) == len(seen)
    assert [id_ for id_ in seen if id_ in made] == made


@pytest.mark.parametrize("path", ["/keys", "/tokens", "/nodes", "/services", "/models"])
def test_lists_have_one_shape(api: Instance, path: str) -> None:
    page = api.api("GET", path).json()
    assert set(page) == {"data", "next"}
    assert isinstance(page["data"], list)
    assert page["next"] is None
