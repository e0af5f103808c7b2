"""Verifying weights through the API and the command line."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import KeptConnection
from tests.integration.test_api import error_of
from tests.support.hub import Hub
from tests.support.instance import MODEL, Instance, running
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors
from tests.support.weights_store import rot

BIG = safetensors(900_000, 7)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    served = Hub()
    served.add("org/one", {"one.gguf": gguf(200_000, 8)})
    served.add("org/whole", {"model.safetensors": BIG, "config.json": b"{}"})
    yield served
    served.close()


@pytest.fixture(scope="module")
def instance(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("verify") / "data"
    made = KeptConnection(data_dir, MODELRY_HF_ENDPOINT=hub.url)
    with made.http, running(made):
        body = {"name": "whole", "source": "hf://org/whole"}
        assert made.api("POST", "/models", json=body).status_code == 201
        yield made


def fetched(instance: Instance) -> dict[str, Any]:
    done = instance.cli("models", "fetch", "whole")
    assert done.returncode == 0, done.stderr
    (variant,) = instance.api("GET", "/models/whole").json()["variants"]
    return dict(variant)


def checked(instance: Instance) -> dict[str, Any]:
    assert instance.api("POST", "/models/whole/verify").status_code == 202

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = instance.api("GET", "/models/whole/verify").json()
        return found if found["state"] != "checking" else None

    return wait_for(look, "the check to end")


def test_what_is_not_here_cannot_be_verified(instance: Instance) -> None:
    for name in ("whole", MODEL):
        refused = instance.api("POST", f"/models/{name}/verify")
        assert refused.status_code == 404
        assert error_of(refused)["code"] == "weights_absent"
    assert error_of(instance.api("GET", "/models/whole/verify"))["code"] == "not_verified"


def test_damage_is_found_and_fetched_again(instance: Instance) -> None:
    before = fetched(instance)
    found = checked(instance)
    assert (found["state"], found["message"]) == ("whole", "2 files are as fetched")
    (big,) = [file for file in before["files"] if file["name"] == "model.safetensors"]
    rot(instance.paths.weights / "blobs" / big["sha256"])
    found = checked(instance)
    assert found["state"] == "damaged"
    assert found["files"] == [{"name": "model.safetensors", "found": "damaged"}]
    assert "moved out of the way" in found["message"]
    assert instance.api("GET", "/models/whole").json()["variants"][0]["weights"] == "absent"
    assert fetched(instance) == before
    blob = instance.paths.weights / "blobs" / big["sha256"]
    assert blob.read_bytes() == BIG


def test_a_command_verifies_all_that_is_here(instance: Instance) -> None:
    before = fetched(instance)
    done = instance.cli("models", "verify")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "whole" in line]
    assert "2 files are as fetched" in line
    rot(instance.paths.weights / "blobs" / before["files"][0]["sha256"])
    done = instance.cli("models", "verify", "whole", "--json")
    assert done.returncode == 1
    assert '"damaged"' in done.stdout
    gone = instance.cli("models", "verify", "whole")
    # It is known what was here: the file that is missing is named.
    assert (gone.returncode, "missing" in gone.stdout) == (1, True)


def test_who_uses_what_is_damaged_is_told_and_gets_it_anew(instance: Instance) -> None:
    body = {"name": "one", "source": "hf://org/one"}
    assert instance.api("POST", "/models", json=body).status_code == 201
    made = instance.api("POST", "/services", json={"name": "needs", "model": "one"})
    assert made.status_code == 201
    wait_for(lambda: weights(instance)["weights"] == "here", "the weights")
    blob = instance.paths.weights / "blobs" / weights(instance)["sha256"]
    rot(blob)
    assert instance.api("POST", "/models/one/verify").status_code == 202
    check: dict[str, Any] = wait_for(
        lambda: (
            found
            if (found := instance.api("GET", "/models/one/verify").json())["state"] != "checking"
            else None
        ),
        "the check to end",
    )
    assert check["files"] == [{"name": "org/one", "found": "damaged"}]
    assert "service needs uses it" in check["message"]
    # It has no replica that runs: what it lacks is fetched for it at once.
    wait_for(lambda: weights(instance)["weights"] == "here", "the weights to be back")
    assert blob.read_bytes() == gguf(200_000, 8)
    instance.api("DELETE", "/services/needs")


def weights(instance: Instance) -> dict[str, Any]:
    (variant,) = instance.api("GET", "/models/one").json()["variants"]
    return dict(variant)
