"""Deleting models and cleaning up after them, through the API and the command line."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.conftest import KeptConnection
from tests.integration.test_api import error_of
from tests.support.file_server import Fault
from tests.support.hub import Hub
from tests.support.instance import MODEL, Instance, running
from tests.support.users import add_user
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors

WHOLE = {"model.safetensors": safetensors(900_000, 3), "config.json": b"{}"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    served = Hub()
    served.add("org/whole", WHOLE)
    served.add("org/fork", {**WHOLE, "config.json": b'{"forked": true}'})
    served.add("org/slow", {"slow.gguf": gguf(3_000_000, 9)})
    yield served
    served.close()


@pytest.fixture(scope="module")
def instance(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("delete") / "data"
    made = KeptConnection(data_dir, MODELRY_HF_ENDPOINT=hub.url)
    with made.http, running(made):
        yield made


@pytest.fixture(scope="module")
def stranger(instance: Instance) -> str:
    return add_user(instance, "u-00000000ab01", "stranger")


def register(instance: Instance, name: str, source: str | None = None) -> None:
    body = {"name": name, "source": source or f"hf://org/{name}"}
    answer = instance.api("POST", "/models", json=body)
    assert answer.status_code == 201, answer.text


def fetch(instance: Instance, name: str) -> None:
    register(instance, name)
    done = instance.cli("models", "fetch", name)
    assert done.returncode == 0, done.stderr


def blobs(instance: Instance) -> int:
    return len(list((instance.paths.weights / "blobs").iterdir()))


def test_a_model_that_a_service_uses_is_not_deleted(instance: Instance, tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(gguf(100))
    register(instance, "used", file.as_uri())
    assert (
        instance.api("POST", "/services", json={"name": "user", "model": "used"}).status_code == 201
    )
    instance.api("POST", "/services/user/stop")
    refused = instance.api("DELETE", "/models/used")
    assert refused.status_code == 409
    error = error_of(refused)
    assert error["code"] == "model_in_use"
    assert error["message"] == "model 'used' is used by service user"
    assert instance.api("DELETE", "/services/user").status_code == 202
    assert instance.api("DELETE", "/models/used").status_code == 204
    assert instance.api("GET", "/models/used").status_code == 404
    assert instance.api("DELETE", "/models/used").status_code == 404
    assert file.exists()


def test_a_model_of_the_catalogue_or_of_somebody_else_is_not_deleted(
    instance: Instance, stranger: str, tmp_path: Path
) -> None:
    refused = instance.api("DELETE", f"/models/{MODEL}")
    assert refused.status_code == 409
    assert error_of(refused)["code"] == "model_in_catalogue"
    file = tmp_path / "own.gguf"
    file.write_bytes(gguf(100))
    register(instance, "mine", file.as_uri())
    id_ = instance.api("GET", "/models/mine").json()["id"]
    for reference in ("mine", id_):
        assert instance.api("DELETE", f"/models/{reference}", token=stranger).status_code == 404
    assert instance.cli("models", "delete", id_).stdout == f"{id_} is deleted\n"


def test_a_model_is_deleted_or_a_service_made_of_it_and_never_both(
    instance: Instance, tmp_path: Path
) -> None:
    file = tmp_path / "contended.gguf"
    file.write_bytes(gguf(100))
    seen = set()
    with ThreadPoolExecutor(2) as pool:
        for number in range(12):
            name = f"contended-{number}"
            register(instance, name, file.as_uri())
            both = threading.Barrier(2)

            def call(
                method: str, path: str, body: Any, both: threading.Barrier = both
            ) -> httpx2.Response:
                both.wait(10)
                return instance.api(method, path, json=body)

            wish = {"name": name, "model": name}
            made = pool.submit(call, "POST", "/services", wish)
            deleted = pool.submit(call, "DELETE", f"/models/{name}", None)
            seen.add((made.result().status_code, deleted.result().status_code))
            instance.api("DELETE", f"/services/{name}")
    assert seen <= {(201, 409), (404, 204)}


def test_what_is_deleted_is_pruned_and_what_is_shared_stays(instance: Instance) -> None:
    instance.api("POST", "/weights/prune", json={})
    fetch(instance, "whole")
    fetch(instance, "fork")
    assert blobs(instance) == 3
    disk = instance.api("GET", "/weights").json()
    assert {each["name"]: each["disk_bytes"] >= 900_000 for each in disk["models"]} == {
        "whole": True,
        "fork": True,
    }
    assert disk["total_bytes"] < 1_200_000
    assert disk["unused_bytes"] == 0
    assert instance.api("DELETE", "/models/fork").status_code == 204

    tried = instance.cli("models", "prune", "--dry-run", "--json")
    told = json.loads(tried.stdout)
    assert (told["dry_run"], told["files"] > 0, blobs(instance)) == (True, True, 3)
    shown = instance.cli("models", "disk")
    assert "whole" in shown.stdout
    assert "to be pruned" in shown.stderr
    done = instance.cli("models", "prune")
    assert (done.returncode, f"{told['files']} files removed" in done.stdout) == (0, True)
    assert blobs(instance) == 2
    assert instance.api("GET", "/models/whole").json()["variants"][0]["weights"] == "here"
    assert instance.api("POST", "/weights/prune", json={}).json()["files"] == 0


def test_a_fetch_under_way_outlives_a_clean_up(instance: Instance, hub: Hub) -> None:
    gate = threading.Event()
    hub.faults = [Fault(gate=gate)]
    register(instance, "slow")
    instance.api("POST", "/models/slow/fetch")

    def half() -> bool:
        progress = instance.api("GET", "/models/slow").json()["variants"][0]["progress"]
        return progress is not None and progress["done_bytes"] > 1_000_000

    wait_for(half, "half of it")
    instance.api("POST", "/weights/prune", json={})
    # Nor does what it has go when its model does, before the fetch itself has ended.
    gate.set()
    done = instance.cli("models", "fetch", "slow")
    assert done.returncode == 0, done.stderr
    assert len([each for each in hub.downloads() if each == "slow.gguf"]) == 1


def test_the_fetch_of_a_model_that_is_deleted_ends(instance: Instance, hub: Hub) -> None:
    gate = threading.Event()
    hub.add("org/doomed", {"doomed.gguf": gguf(3_000_000, 11)})
    hub.faults = [Fault(gate=gate)]
    register(instance, "doomed")
    instance.api("POST", "/models/doomed/fetch")
    wait_for(lambda: "doomed.gguf" in hub.downloads(), "the fetch to begin")
    assert instance.api("DELETE", "/models/doomed").status_code == 204
    gate.set()
    # It stops in the middle, and a clean-up takes what it had got.
    wait_for(
        lambda: instance.api("POST", "/weights/prune", json={}).json()["files"] > 0, "it to go"
    )
    assert list((instance.paths.weights / "partial").iterdir()) == []


def test_the_store_is_for_operators(instance: Instance, stranger: str) -> None:
    assert instance.api("GET", "/weights", token=stranger).status_code == 403
    assert instance.api("POST", "/weights/prune", json={}, token=stranger).status_code == 403
    refused = instance.api("POST", f"/models/{MODEL}/verify", token=stranger)
    assert refused.status_code == 403
