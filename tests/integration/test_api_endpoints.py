"""Services that stand on endpoints elsewhere, through the management API."""

import asyncio
import itertools
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.errors import PermissionDenied
from modelry.sealing import Sealer
from modelry.services.elsewhere import EndpointWish, admit
from modelry.services.spec import EndpointSpec
from tests.integration.test_api import error_of
from tests.support.feed import route
from tests.support.instance import MODEL, Instance

Json = dict[str, Any]

URL = "http://127.0.0.1:9/v1"
KEY = "sk-endpoint-secret-wxyz"
_names = (f"elsewhere-{number}" for number in itertools.count())


def connect(api: Instance, endpoint: Json | list[Json], **fields: Any) -> Json:
    body = {"name": next(_names), "endpoint": endpoint, **fields}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 201, response.text
    service: Json = response.json()
    return service


def test_it_runs_at_once_and_shows_where_it_stands(api: Instance) -> None:
    service = connect(api, {"url": f"{URL}/", "model": "gpt-x", "api_key": KEY})
    assert service["status"]["state"] == "running"
    assert service["status"]["message"] == "stands on 1 endpoint"
    assert service["status"]["replicas"] == []
    assert (service["model"], service["tasks"]) == ("gpt-x", ["chat"])
    (endpoint,) = service["spec"]["endpoints"]
    assert re.fullmatch("ep_[0-9a-f]{16}", endpoint["id"])
    told = {"url": URL, "model": "gpt-x", "weight": 1, "api_key": "…wxyz"}
    assert endpoint == told | {"id": endpoint["id"]}
    assert service["spec"]["slots"] == 64
    assert service in api.api("GET", "/services").json()["data"]


def test_gateways_are_told_all_they_need(api: Instance) -> None:
    both: list[Json] = [
        {"url": URL, "model": "gpt-x", "api_key": KEY, "weight": 3},
        {"url": "https://b"},
    ]
    service = connect(api, both, tasks=["embedding", "rerank", "embedding"], slots=5)
    assert service["model"] is None
    told = route(api, service["id"])
    assert (told.state, told.replicas, told.collect) == ("running", (), False)
    assert told.tasks == ("embedding", "rerank")
    first, second = told.endpoints
    assert (first.url, first.model, first.weight, first.slots) == (URL, "gpt-x", 3, 5)
    assert (second.url, second.model, second.weight, second.slots) == ("https://b", None, 1, 5)
    assert second.sealed_key is None
    assert not first.public_only
    assert first.sealed_key is not None
    assert KEY not in first.sealed_key
    sealer = Sealer(api.paths.secret_key)
    assert sealer.open(first.sealed_key, first.id) == KEY


def test_it_is_stopped_started_and_deleted_like_any_other(api: Instance) -> None:
    service = connect(api, {"url": URL})
    path = f"/services/{service['name']}"
    stopped = api.api("POST", f"{path}/stop").json()
    assert stopped["status"]["state"] == "stopped"
    assert route(api, service["id"]).endpoints == ()
    started = api.api("POST", f"{path}/start").json()
    assert started["status"]["state"] == "running"
    assert len(route(api, service["id"]).endpoints) == 1
    assert api.api("GET", f"{path}/logs").text == ""
    assert api.api("DELETE", path).status_code == 202
    assert api.api("GET", f"/services/{service['id']}").status_code == 404
    assert connect(api, {"url": URL}, name=service["name"])["id"] != service["id"]


def test_its_examples_are_those_of_its_tasks(api: Instance) -> None:
    service = connect(api, {"url": URL}, tasks=["speech", "transcription"])
    found = api.api("GET", f"/services/{service['id']}/examples").json()["data"]
    titles = {(example["task"], example["title"].partition(",")[0]) for example in found}
    assert titles == {("speech", "Speech"), ("transcription", "Transcription of speech.wav")}
    assert all(service["access_path"] in example["code"] for example in found)


def test_the_key_is_nowhere_to_be_seen(api: Instance) -> None:
    service = connect(api, [{"url": URL, "api_key": KEY}, {"url": URL, "api_key": "short"}])
    path = f"/services/{service['id']}"
    shown = [endpoint["api_key"] for endpoint in service["spec"]["endpoints"]]
    assert shown == ["…wxyz", "…"]
    taken = {"name": service["name"], "endpoint": {"url": URL, "api_key": KEY}}
    told = [
        api.api("GET", path).text,
        api.api("GET", "/services").text,
        api.api("GET", f"{path}/events").text,
        api.api("GET", f"{path}/examples").text,
        api.api("POST", "/services", json=taken).text,
    ]
    assert not any(KEY in text for text in told)
    assert "sealed_key" not in "".join(told)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "model"),
        ({"model": MODEL, "endpoint": {"url": URL}}, "model"),
        ({"model": MODEL, "tasks": ["chat"]}, "tasks"),
        ({"endpoint": []}, "endpoint"),
        ({"endpoint": "http://host"}, "endpoint"),
        ({"endpoint": [{"url": URL}] * 17}, "endpoint"),
        ({"endpoint": {}}, "endpoint.0.url"),
        ({"endpoint": {"url": "host"}}, "endpoint.0.url"),
        ({"endpoint": [{"url": URL}, {"url": f"{URL}?a"}]}, "endpoint.1.url"),
        ({"endpoint": {"url": URL, "weight": 0}}, "endpoint.0.weight"),
        ({"endpoint": {"url": URL, "weight": 101}}, "endpoint.0.weight"),
        ({"endpoint": {"url": URL, "model": ""}}, "endpoint.0.model"),
        ({"endpoint": {"url": URL, "api_key": ""}}, "endpoint.0.api_key"),
        ({"endpoint": {"url": URL, "api_key": f"{KEY}\r\nx: y"}}, "endpoint.0.api_key"),
        ({"endpoint": {"url": URL, "api_key": f"{KEY}é"}}, "endpoint.0.api_key"),
        ({"endpoint": {"url": URL, "surprise": 1}}, "endpoint.0.surprise"),
        ({"endpoint": {"url": URL}, "tasks": []}, "tasks"),
        ({"endpoint": {"url": URL}, "tasks": ["poetry"]}, "tasks.0"),
        ({"endpoint": {"url": URL}, "slots": 0}, "slots"),
        ({"endpoint": {"url": URL}, "slots": 4097}, "slots"),
        ({"endpoint": {"url": URL}, "engine": "llama.cpp"}, "engine"),
        ({"endpoint": {"url": URL}, "replicas": {"min": 1}}, "replicas"),
        ({"endpoint": {"url": URL}, "context_tokens": 4096}, "context_tokens"),
        ({"endpoint": {"url": URL}, "idle_after_s": 60}, "idle_after_s"),
    ],
)
def test_what_does_not_go_together_is_refused_and_named(
    api: Instance, fields: Json, param: str
) -> None:
    response = api.api("POST", "/services", json={"name": "never-made", **fields})
    assert response.status_code == 422, response.text
    error = error_of(response)
    assert error["param"] == param
    assert KEY not in response.text


def test_a_name_is_taken_once(api: Instance) -> None:
    service = connect(api, {"url": URL})
    body = {"name": service["name"], "endpoint": {"url": URL}}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 409
    assert error_of(response)["code"] == "service_name_taken"


# -- who may reach where -----------------------------------------------------


async def admitted(url: str, folder: Path, *, operator: bool) -> tuple[EndpointSpec, ...]:
    principal = Principal("u-0123456789ab", "somebody", operator)
    return await admit(principal, (EndpointWish(url),), Sealer(folder / "secret.key"))


INSIDE = [
    "http://127.0.0.1:8080",
    "http://127.1",
    "http://2130706433/v1",
    "http://0x7f.1",
    "http://localhost/v1",
    "http://10.0.0.1",
    "http://169.254.169.254/latest",
    "http://[::1]/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://name-that-does-not-exist.invalid/v1",
]


@pytest.mark.parametrize("url", INSIDE)
def test_others_than_operators_reach_nothing_inside(url: str, tmp_path: Path) -> None:
    with pytest.raises(PermissionDenied) as raised:
        asyncio.run(admitted(url, tmp_path, operator=False))
    assert raised.value.param == "endpoint"


@pytest.mark.parametrize("url", INSIDE)
def test_operators_may_name_any_address(url: str, tmp_path: Path) -> None:
    (spec,) = asyncio.run(admitted(url, tmp_path, operator=True))
    assert (spec.url, spec.public_only) == (url, False)


def test_a_public_address_of_others_is_checked_again_by_the_gateway(tmp_path: Path) -> None:
    (spec,) = asyncio.run(admitted("https://1.1.1.1/v1", tmp_path, operator=False))
    assert spec.public_only


def test_a_name_with_one_address_inside_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [(None, None, None, "", ("1.1.1.1", 443)), (None, None, None, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(PermissionDenied):
        asyncio.run(admitted("https://example.com", tmp_path, operator=False))
