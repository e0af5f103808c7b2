"""What an operator allows a model, and copies of their files, through the API and by command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import KeptConnection
from tests.integration.test_api import error_of
from tests.integration.test_fetch_unsafe import PICKLE, WITH_PROGRAM
from tests.support.hub import Hub
from tests.support.instance import MODEL, Instance, running
from tests.support.users import add_user
from tests.support.weights_files import gguf


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    served = Hub()
    served.add("org/old", {"config.json": b"{}", "pytorch_model.bin": PICKLE})
    served.add("org/own", WITH_PROGRAM)
    yield served
    served.close()


@pytest.fixture(scope="module")
def instance(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("trust") / "data"
    made = KeptConnection(data_dir, MODELRY_HF_ENDPOINT=hub.url)
    with made.http, running(made):
        yield made


@pytest.fixture(scope="module")
def stranger(instance: Instance) -> str:
    return add_user(instance, "u-00000000ab02", "stranger")


def variant(instance: Instance, name: str, **options: Any) -> dict[str, Any]:
    (only,) = instance.api("GET", f"/models/{name}", **options).json()["variants"]
    return dict(only)


def test_pickles_are_taken_by_an_operators_word_alone(instance: Instance, stranger: str) -> None:
    body = {"name": "old", "source": "hf://org/old"}
    refused = instance.api("POST", "/models", json=body)
    assert refused.status_code == 422
    assert error_of(refused)["code"] == "unsafe_weights"
    for flag in ("allow_pickles", "allow_remote_code"):
        forbidden = instance.api("POST", "/models", json={**body, flag: True}, token=stranger)
        assert forbidden.status_code == 403
    done = instance.cli("register", "hf://org/old", "--allow-pickles")
    assert done.returncode == 0, done.stderr
    assert "pytorch" in done.stderr
    fetched = instance.cli("models", "fetch", "old")
    assert fetched.returncode == 0, fetched.stderr
    assert variant(instance, "old")["allow_pickles"] is True
    # Taken back, what was fetched is not used any more.
    done = instance.cli("models", "trust", "old", "--no-allow-pickles")
    assert done.stdout == "allow_pickles: no\nallow_remote_code: no\n"
    assert variant(instance, "old")["weights"] == "absent"
    fetched = instance.cli("models", "fetch", "old")
    assert fetched.returncode == 1
    assert "can run a program" in fetched.stderr


def test_an_operator_allows_the_program_of_somebodys_model(
    instance: Instance, stranger: str
) -> None:
    body = {"name": "own", "source": "hf://org/own"}
    made = instance.api("POST", "/models", json=body, token=stranger)
    assert made.status_code == 201, made.text
    # The tests' hub is on this machine, where a stranger's models are not fetched from: it is
    # known, and not more.
    id_ = made.json()["id"]
    path = f"/models/{id_}/trust"
    forbidden = instance.api("PATCH", path, json={"allow_remote_code": True}, token=stranger)
    assert forbidden.status_code == 403
    changed = instance.api("PATCH", path, json={"allow_remote_code": True})
    assert changed.status_code == 200, changed.text
    assert variant(instance, "own", token=stranger)["allow_remote_code"] is True
    assert instance.api("PATCH", "/models/none/trust", json={}).status_code == 404
    refused = instance.api("PATCH", f"/models/{MODEL}/trust", json={"allow_pickles": True})
    assert error_of(refused)["code"] == "model_in_catalogue"


def test_a_program_is_refused_with_the_reason_until_it_is_allowed(instance: Instance) -> None:
    instance.api("POST", "/models", json={"name": "mine", "source": "hf://org/own"})
    refused = instance.cli("models", "fetch", "mine")
    assert refused.returncode == 1
    assert "auto_map" in refused.stderr
    assert variant(instance, "mine")["weights"] == "failed"
    instance.cli("models", "trust", "mine", "--allow-remote-code")
    done = instance.cli("models", "fetch", "mine")
    assert done.returncode == 0, done.stderr
    names = [file["name"] for file in variant(instance, "mine")["files"]]
    assert "modeling_x.py" in names


def test_a_file_is_copied_where_that_is_asked_for(instance: Instance, tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(gguf(900))
    done = instance.cli("register", file.as_uri(), "--copy", "--name", "copied")
    assert done.returncode == 0, done.stderr
    assert instance.cli("models", "fetch", "copied").returncode == 0
    file.unlink()
    assert variant(instance, "copied")["weights"] == "here"
    assert variant(instance, "copied")["copied"] is True
    body = {"name": "web", "source": "https://host.example/a.gguf", "copy": True}
    refused = instance.api("POST", "/models", json=body)
    assert (refused.status_code, error_of(refused)["param"]) == (422, "copy")
