"""Models, services and keys through the management API of a real control plane."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_api import error_of
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf


@pytest.fixture(scope="module")
def own_model(api: Instance, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model whose file no engine can load."""
    file = tmp_path_factory.mktemp("models") / "no model.gguf"
    file.write_bytes(gguf(100))
    body = {"name": "not-a-model", "source": file.as_uri()}
    assert api.api("POST", "/models", json=body).status_code == 201
    return "not-a-model"


@pytest.fixture(scope="module")
def failed(api: Instance, own_model: str) -> dict[str, Any]:
    """A service that has failed."""
    response = api.api("POST", "/services", json={"name": "broken", "model": own_model})
    assert response.status_code == 201, response.text
    return api.await_state("broken", "failed")


# -- models ------------------------------------------------------------------


def test_the_catalogue_has_the_embedded_model(api: Instance) -> None:
    listed = {model["id"]: model for model in api.api("GET", "/models").json()["data"]}
    assert listed[MODEL]["owner"] is None
    assert listed[MODEL]["variants"][0]["weights"] == "absent"
    assert api.api("GET", f"/models/{MODEL}").json() == listed[MODEL]


def test_an_own_model_is_found_by_id_and_by_name(api: Instance, own_model: str) -> None:
    by_name = api.api("GET", f"/models/{own_model}").json()
    assert by_name["owner"] == api.api("GET", "/me").json()["id"]
    assert by_name["tasks"] == ["chat", "completion"]
    assert by_name["variants"][0]["source"].startswith("file:///")
    assert api.api("GET", f"/models/{by_name['id']}").json() == by_name


@pytest.mark.parametrize("name", ["not-a-model", MODEL])
def test_a_models_name_is_taken_once(api: Instance, own_model: str, name: str) -> None:
    response = api.api("POST", "/models", json={"name": name, "source": "file:///x.gguf"})
    assert response.status_code == 409
    assert error_of(response)["code"] == "model_name_taken"


@pytest.mark.parametrize(
    "source",
    ["", "x.gguf", "file://host/x", "file:x", "ftp://x/y", "pypi://x/y", "pypi://a==1/../b"],
)
def test_a_source_that_is_none_is_refused(api: Instance, source: str) -> None:
    response = api.api("POST", "/models", json={"name": "nowhere", "source": source})
    assert response.status_code == 422
    error = error_of(response)
    assert error["param"] == "source"
    assert error["hint"]


def test_a_model_from_a_file_that_is_not_there_is_refused(api: Instance, tmp_path: Path) -> None:
    for place in (tmp_path / "never.gguf", tmp_path):
        body = {"name": "never", "source": place.as_uri()}
        response = api.api("POST", "/models", json=body)
        assert response.status_code == 422
        assert str(place) in error_of(response)["message"]
    assert api.api("GET", "/models/never").status_code == 404


def test_a_model_whose_file_is_missing_fails_with_the_reason(api: Instance, tmp_path: Path) -> None:
    missing = tmp_path / "gone.gguf"
    missing.touch()
    body = {"name": "gone", "source": missing.as_uri(), "tasks": ["chat"]}
    assert api.api("POST", "/models", json=body).status_code == 201
    missing.unlink()
    response = api.api("POST", "/services", json={"name": "gone", "model": "gone"})
    assert response.status_code == 201
    service = api.await_state("gone", "failed")
    assert str(missing) in service["status"]["message"]
    assert api.api("DELETE", "/services/gone").status_code == 202


# -- services ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "a", "1a", "-a", "a-", "A1", "a_b", "a.b", "a b", "ä1", "a/b", "a" * 65, "ab\n", "аb"],
)
def test_a_services_name_keeps_to_the_rule(api: Instance, name: str) -> None:
    response = api.api("POST", "/services", json={"name": name, "model": MODEL})
    assert response.status_code == 422
    error = error_of(response)
    assert error["param"] == "name"
    assert "2-64" in error["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 7),
        ("slots", 0),
        ("slots", 257),
        ("idle_after_s", 0.5),
        ("idle_after_s", 30 * 24 * 3600 + 1),
        ("idle_after_s", "60"),
        ("idle_after_s", True),
        ("context_tokens", 1),
        ("context_tokens", 8193),
        ("engine", "abacus"),
        ("replicas", {"min": 0}),
        ("replicas", {"min": 2, "max": 1}),
        ("replicas", {"count": 1}),
    ],
)
def test_a_spec_that_cannot_be_is_refused_and_names_the_field(
    api: Instance, field: str, value: object
) -> None:
    body = {"name": "never-made", "model": MODEL, field: value}
    response = api.api("POST", "/services", json=body)
    if response.status_code == 201:
        api.api("DELETE", f"/services/{response.json()['id']}")
    assert response.status_code == 422
    assert str(error_of(response)["param"]).startswith(field)


@pytest.mark.parametrize("idle_after_s", [1, 2.5, 30 * 24 * 3600, None])
def test_a_time_without_calls_is_kept(
    api: Instance, own_model: str, idle_after_s: float | None
) -> None:
    body = {"name": "sleepy", "model": own_model, "idle_after_s": idle_after_s}
    made = api.api("POST", "/services", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["spec"]["idle_after_s"] == idle_after_s
    path = f"/services/{made.json()['id']}"
    api.api("DELETE", path)
    wait_for(lambda: api.api("GET", path).status_code == 404, "it to go")


def test_an_unknown_model_is_a_404(api: Instance) -> None:
    response = api.api("POST", "/services", json={"name": "never-made", "model": "nothing"})
    assert response.status_code == 404
    error = error_of(response)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_a_name_that_is_taken_is_a_409(
    api: Instance, own_model: str, failed: dict[str, Any]
) -> None:
    response = api.api("POST", "/services", json={"name": "broken", "model": own_model})
    assert response.status_code == 409
    error = error_of(response)
    assert (error["code"], error["param"]) == ("service_name_taken", "name")


def test_a_service_is_found_by_name_and_by_id(api: Instance, failed: dict[str, Any]) -> None:
    me = api.api("GET", "/me").json()["id"]
    assert failed["access_path"] == f"{me}/broken"
    assert failed["id"].startswith("svc_")
    by_id = api.api("GET", f"/services/{failed['id']}").json()
    assert by_id == failed
    assert failed in api.api("GET", "/services").json()["data"]


def test_a_service_that_failed_says_so_to_its_callers(
    api: Instance, failed: dict[str, Any]
) -> None:
    import openai

    with api.openai(api.key()) as client, pytest.raises(openai.InternalServerError) as raised:
        client.completions.create(model="broken", prompt="x")
    assert raised.value.code == "service_unavailable"
    assert failed["status"]["log_tail"]


def test_its_events_tell_how_it_came_to_that(api: Instance, failed: dict[str, Any]) -> None:
    events: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": "0"}
    while page["next"] is not None:
        query = {"limit": 2, "cursor": page["next"]}
        page = api.api("GET", "/services/broken/events", params=query).json()
        events += page["data"]
    states = [event["state"] for event in events]
    assert states[0] == "pending"
    assert "failed" in states
    assert events == api.api("GET", "/services/broken/events").json()["data"]


def test_examples_name_the_service_and_where_it_is_called(
    api: Instance, failed: dict[str, Any]
) -> None:
    found = api.api("GET", "/services/broken/examples").json()["data"]
    assert {example["language"] for example in found} == {"curl", "python", "node"}
    for example in found:
        assert failed["access_path"] in example["code"]
        assert f"{api.url}/v1" in example["code"]
    only = api.api("GET", "/services/broken/examples?language=curl").json()["data"]
    assert {example["language"] for example in only} == {"curl"}
    assert api.api("GET", "/services/broken/examples?language=cobol").status_code == 422


def test_a_deleted_service_goes_and_its_name_is_free_again(api: Instance, own_model: str) -> None:
    body = {"name": "short-lived", "model": own_model}
    first = api.api("POST", "/services", json=body).json()
    response = api.api("DELETE", f"/services/{first['id']}")
    assert (response.status_code, response.json()["status"]["state"]) == (202, "deleting")
    wait_for(lambda: api.api("GET", f"/services/{first['id']}").status_code == 404, "it to go")
    again = api.api("POST", "/services", json=body)
    assert again.status_code == 201
    assert again.json()["id"] != first["id"]
    assert api.api("DELETE", "/services/short-lived").status_code == 202


# -- keys --------------------------------------------------------------------


def test_a_key_is_shown_once_and_masked_ever_after(api: Instance) -> None:
    made = api.api("POST", "/keys", json={"name": "mine"}).json()
    assert made["key"].startswith("sk-")
    assert len(made["key"]) > 40
    (listed,) = [row for row in api.api("GET", "/keys").json()["data"] if row["id"] == made["id"]]
    assert listed["key"] == f"sk-…{made['key'][-4:]}"
    assert listed == made | {"key": listed["key"]}


def test_a_revoked_key_is_refused_at_once(api: Instance) -> None:
    import openai

    made = api.api("POST", "/keys", json={"name": "mine"}).json()
    with api.openai(made["key"]) as client:
        assert client.models.list().object == "list"
        assert api.api("DELETE", f"/keys/{made['id']}").status_code == 204
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    assert api.api("DELETE", f"/keys/{made['id']}").status_code == 404


def test_a_used_key_shows_when(api: Instance) -> None:
    made = api.api("POST", "/keys", json={"name": "mine"}).json()
    with api.openai(made["key"]) as client:
        client.models.list()

    def used() -> Any:
        rows = api.api("GET", "/keys").json()["data"]
        return next(row for row in rows if row["id"] == made["id"])["last_used_at"]

    at = datetime.fromisoformat(wait_for(used, "the key's use to be noted"))
    assert abs(datetime.now(UTC) - at) < timedelta(seconds=60)


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00", "soon", 7.5e300])
def test_an_expiry_that_is_past_or_no_time_is_refused(api: Instance, at: object) -> None:
    response = api.api("POST", "/keys", json={"name": "late", "expires_at": at})
    assert response.status_code == 422
    assert error_of(response)["param"] == "expires_at"


@pytest.mark.parametrize("at", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00"])
def test_an_expiry_to_come_is_kept(api: Instance, at: str) -> None:
    response = api.api("POST", "/keys", json={"name": "late", "expires_at": at})
    assert response.status_code == 201
    kept = datetime.fromisoformat(response.json()["expires_at"])
    assert kept == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    "pattern",
    ["u-8105f7322477/test", "u-8105f7322477/*", "public/*", "public/a-?", "*", "*/x"],
)
def test_a_scope_is_an_access_path_or_a_glob(api: Instance, pattern: str) -> None:
    response = api.api("POST", "/keys", json={"name": "scoped", "services": [pattern]})
    assert response.status_code == 201
    assert response.json()["services"] == [pattern]


@pytest.mark.parametrize(
    "pattern", ["", "test", "u-1/test", "/x", "public/", "a/b/c", "public/A", "*\n", "public/a\n"]
)
def test_a_scope_that_can_match_nothing_is_refused(api: Instance, pattern: str) -> None:
    response = api.api("POST", "/keys", json={"name": "scoped", "services": [pattern]})
    assert response.status_code == 422
    assert str(error_of(response)["param"]).startswith("services")


def test_a_scoped_key_is_refused_elsewhere(api: Instance, failed: dict[str, Any]) -> None:
    import openai

    with (
        api.openai(api.key(services=["public/*"])) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.completions.create(model="broken", prompt="x")
