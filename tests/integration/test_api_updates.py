"""Changes of services through the management API."""

import itertools
from typing import Any

import pytest

from modelry.sealing import Sealer
from tests.integration.test_api import error_of
from tests.support.feed import route
from tests.support.instance import MODEL, Instance

Json = dict[str, Any]

URL, OTHER = "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"
KEY = "sk-endpoint-secret-wxyz"
_names = (f"changed-{number}" for number in itertools.count())


def made(api: Instance, **fields: Any) -> Json:
    response = api.api("POST", "/services", json={"name": next(_names), **fields})
    assert response.status_code == 201, response.text
    service: Json = response.json()
    return service


@pytest.fixture(scope="module", autouse=True)
def nowhere(api: Instance, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model whose file is gone, so that nothing is fetched or started."""
    file = tmp_path_factory.mktemp("models") / "gone.gguf"
    file.touch()
    body = {"name": "nowhere", "source": file.as_uri(), "tasks": ["chat"]}
    assert api.api("POST", "/models", json=body).status_code == 201
    file.unlink()


def stopped(api: Instance, **fields: Any) -> Json:
    """A service of a model that is not to run."""
    service = made(api, model="nowhere", **fields)
    response = api.api("POST", f"/services/{service['id']}/stop")
    assert response.json()["status"]["state"] == "stopped"
    return service


def changed(api: Instance, service: Json, **fields: Any) -> Json:
    response = api.api("PATCH", f"/services/{service['id']}", json=fields)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def refused(api: Instance, service: Json, status: int = 422, **fields: Any) -> Json:
    response = api.api("PATCH", f"/services/{service['id']}", json=fields)
    assert response.status_code == status, response.text
    assert KEY not in response.text
    assert api.service(service["id"])["revision"] == service["revision"]
    found: Json = error_of(response)
    return found


# -- of models -----------------------------------------------------------------


def test_what_is_named_changes_and_the_rest_stays(api: Instance) -> None:
    service = stopped(api, slots=2, context_tokens=512)
    found = changed(api, service, slots=6, idle_after_s=60)
    assert found["revision"] == 2
    assert found["spec"] == service["spec"] | {"slots": 6, "idle_after_s": 60.0}
    assert found["status"]["state"] == "stopped"
    assert found["status"]["stuck"] is False
    assert (found["id"], found["access_path"]) == (service["id"], service["access_path"])


def test_null_brings_back_what_a_new_service_has(api: Instance) -> None:
    service = stopped(api, slots=2, context_tokens=512, idle_after_s=60, replicas={"min": 2})
    fields = ("slots", "context_tokens", "idle_after_s", "replicas")
    found = changed(api, service, **dict.fromkeys(fields))
    assert found["spec"] == stopped(api)["spec"]


@pytest.mark.parametrize("fields", [{}, {"slots": 2}, {"model": "nowhere", "engine": "llama.cpp"}])
def test_what_changes_nothing_is_no_revision(api: Instance, fields: Json) -> None:
    service = stopped(api, slots=2)
    before = api.api("GET", f"/services/{service['id']}/events").json()["data"]
    assert changed(api, service, **fields)["revision"] == 1
    assert api.api("GET", f"/services/{service['id']}/events").json()["data"] == before


def test_revisions_are_listed_and_an_earlier_one_can_be_brought_back(api: Instance) -> None:
    service = stopped(api, slots=2)
    changed(api, service, slots=6)
    found = changed(api, service, slots=2)
    assert (found["revision"], found["spec"]) == (3, service["spec"])
    path = f"/services/{service['id']}/revisions"
    listed = api.api("GET", path).json()
    assert [(each["number"], each["spec"]["slots"]) for each in listed["data"]] == [
        (1, 2), (2, 6), (3, 2),
    ]  # fmt: skip
    first = api.api("GET", f"{path}?limit=2").json()
    rest = api.api("GET", f"{path}?limit=2&cursor={first['next']}").json()
    assert first["data"] + rest["data"] == listed["data"]
    messages = [
        each["message"]
        for each in api.api("GET", f"/services/{service['id']}/events").json()["data"]
    ]
    assert {"revision 2: slots", "revision 3: slots"} <= {*messages}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": "other"}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"slots": 0}, "slots"),
        ({"slots": 257}, "slots"),
        ({"context_tokens": 1}, "context_tokens"),
        ({"engine": "abacus"}, "engine"),
        ({"runtime": "abacus-1"}, "runtime"),
        ({"variant": "none"}, "variant"),
        ({"quantisation": "Q8_0"}, "quantisation"),
        ({"engine_args": ["--model", "x"]}, "engine_args"),
        ({"replicas": {"min": 2, "max": 1}}, "replicas"),
        ({"idle_after_s": 0.5}, "idle_after_s"),
        ({"model": None}, "model"),
        ({"endpoint": {"url": URL}}, "endpoint"),
        ({"tasks": ["chat"]}, "tasks"),
    ],
)
def test_what_cannot_be_is_refused_and_named(api: Instance, fields: Json, param: str) -> None:
    assert str(refused(api, stopped(api), **fields)["param"]).startswith(param)


def test_a_model_that_is_not_there_is_a_404(api: Instance) -> None:
    for field in ("model", "adapter"):
        error = refused(api, stopped(api), 404, **{field: "nothing"})
        assert (error["code"], error["param"]) == ("model_not_found", field)


def test_a_service_that_is_not_there_is_a_404(api: Instance) -> None:
    response = api.api("PATCH", "/services/never-made", json={"slots": 1})
    assert response.status_code == 404
    assert error_of(response)["code"] == "service_not_found"
    assert api.api("GET", "/services/never-made/revisions").status_code == 404


def test_nobody_changes_a_service_without_a_token(api: Instance) -> None:
    service = stopped(api)
    path = f"/services/{service['id']}"
    assert api.api("PATCH", path, json={"slots": 1}, token=None).status_code == 401
    assert api.service(service["id"])["revision"] == 1


# -- on endpoints elsewhere ----------------------------------------------------


def test_an_endpoint_keeps_its_key_where_none_is_named(api: Instance) -> None:
    service = made(api, endpoint={"url": URL, "api_key": KEY, "model": "gpt-x"})
    (before,) = service["spec"]["endpoints"]
    found = changed(api, service, endpoint={"url": URL, "weight": 5})
    assert found["spec"]["endpoints"] == [before | {"weight": 5}]
    (told,) = route(api, service["id"]).endpoints
    assert (told.weight, told.model) == (5, "gpt-x")
    assert told.sealed_key is not None
    assert Sealer(api.paths.secret_key).open(told.sealed_key, told.id) == KEY


def test_a_key_is_changed_and_taken_away_when_it_is_named(api: Instance) -> None:
    service = made(api, endpoint={"url": URL, "api_key": KEY})
    path = {"url": URL}
    other = changed(api, service, endpoint=path | {"api_key": "sk-another-key-abcd"})
    assert other["spec"]["endpoints"][0]["api_key"] == "…abcd"
    same = changed(api, service, endpoint=path | {"api_key": "sk-another-key-abcd"})
    assert same["revision"] == other["revision"] == 2
    none = changed(api, service, endpoint=path | {"api_key": None})
    assert none["spec"]["endpoints"][0]["api_key"] is None
    assert route(api, service["id"]).endpoints[0].sealed_key is None


def test_a_stored_key_goes_to_no_other_address(api: Instance) -> None:
    service = made(api, endpoint={"url": URL, "api_key": KEY})
    id_ = service["spec"]["endpoints"][0]["id"]
    error = refused(api, service, endpoint={"id": id_, "url": OTHER})
    assert error["param"] == "endpoint.0.api_key"
    there = {"id": id_, "url": OTHER, "api_key": "sk-other-key-9999"}
    found = changed(api, service, endpoint=there)
    (endpoint,) = found["spec"]["endpoints"]
    assert (endpoint["id"], endpoint["url"], endpoint["api_key"]) == (id_, OTHER, "…9999")
    # One that is new has no key that anybody else's had.
    moved = changed(api, service, endpoint={"url": URL})
    assert moved["spec"]["endpoints"][0]["api_key"] is None
    assert moved["spec"]["endpoints"][0]["id"] != id_


def test_endpoints_come_and_go(api: Instance) -> None:
    service = made(api, endpoint=[{"url": URL, "model": "a"}, {"url": URL, "model": "b"}])
    first, second = service["spec"]["endpoints"]
    error = refused(api, service, endpoint={"url": URL})
    assert error["param"] == "endpoint.0.id"
    found = changed(api, service, endpoint=[{"id": second["id"]}, {"url": OTHER}])
    assert found["spec"]["endpoints"][0] == second
    assert found["spec"]["endpoints"][1]["url"] == OTHER
    assert found["status"]["state"] == "running"
    assert [each.url for each in route(api, service["id"]).endpoints] == [URL, OTHER]
    for endpoint in ([{"id": first["id"]}], [{"id": second["id"]}] * 2):
        assert refused(api, found, endpoint=endpoint)["param"].endswith(".id")


def test_tasks_and_slots_of_endpoints_change_at_once(api: Instance) -> None:
    service = made(api, endpoint={"url": URL}, slots=5)
    found = changed(api, service, tasks=["embedding"], slots=None)
    assert (found["revision"], found["tasks"], found["spec"]["slots"]) == (2, ["embedding"], 64)
    told = route(api, service["id"])
    assert (told.tasks, told.endpoints[0].slots) == (("embedding",), 64)
    assert changed(api, service, tasks=["embedding"])["revision"] == 2
    assert changed(api, service, tasks=None)["tasks"] == ["chat"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": MODEL}, "model"),
        ({"replicas": {"min": 1}}, "replicas"),
        ({"context_tokens": 4096}, "context_tokens"),
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": []}, "endpoint"),
        ({"endpoint": {"weight": 2}}, "endpoint.0.url"),
        ({"endpoint": {"url": "host"}}, "endpoint.0.url"),
        ({"endpoint": {"url": URL, "weight": 0}}, "endpoint.0.weight"),
        ({"endpoint": {"url": URL, "api_key": "a b"}}, "endpoint.0.api_key"),
        ({"slots": 4097}, "slots"),
        ({"tasks": []}, "tasks"),
    ],
)
def test_what_endpoints_cannot_be_is_refused_and_named(
    api: Instance, fields: Json, param: str
) -> None:
    service = made(api, endpoint={"url": URL, "api_key": KEY})
    assert refused(api, service, **fields)["param"] == param


def test_no_key_is_in_the_list_of_revisions(api: Instance) -> None:
    service = made(api, endpoint={"url": URL, "api_key": KEY})
    changed(api, service, slots=3)
    text = api.api("GET", f"/services/{service['id']}/revisions").text
    assert KEY not in text
    assert "sealed_key" not in text
    assert "…wxyz" in text
