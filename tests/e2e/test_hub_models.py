"""A model of a hub, from its address to an answer."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.catalog.cards import load_cards
from tests.support.calls import ask
from tests.support.hub import Hub
from tests.support.instance import MODEL, Instance, running
from tests.support.weights_files import safetensors

TOKEN = "hf_of_the_operators_account"


@pytest.fixture(scope="module")
def hub(weights_cache: Path) -> Iterator[Hub]:
    blob = weights_cache / "blobs" / str(load_cards()[MODEL].default_variant.sha256)
    served = Hub()
    files = {"README.md": b"# SmolLM2", "smol-Q4_1.gguf": blob.read_bytes()}
    served.add("org/smol-gguf", files, gated=True, tokens={TOKEN})
    served.add("org/old", {"pytorch_model.bin": b"\x80\x04" * 900})
    served.add("org/whole", {"model.safetensors": safetensors(5000), "config.json": b"{}"})
    served.add("org/other", {"model.onnx": b"any bytes", "config.json": b"{}"})
    yield served
    served.close()


@pytest.fixture(scope="module")
def instance(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("hub") / "data"
    settings = {"MODELRY_HF_ENDPOINT": hub.url, "MODELRY_HF_TOKEN": TOKEN}
    with running(Instance(data_dir, **settings)) as started:
        yield started


def test_a_model_of_a_hub_is_registered_deployed_and_answers(hub: Hub, instance: Instance) -> None:
    commit = hub.repos["org/smol-gguf"].branches["main"]
    body = {"name": "smol", "source": "hf://org/smol-gguf"}
    response = instance.api("POST", "/models", json=body)
    assert response.status_code == 201, response.text
    (variant,) = response.json()["variants"]
    assert variant["source"] == f"hf://org/smol-gguf@{commit}"
    assert (variant["format"], variant["weights"]) == ("gguf", "absent")
    instance.deploy("hubbed", "smol")
    assert ask(instance, instance.key(), "hubbed")
    (variant,) = instance.api("GET", "/models/smol").json()["variants"]
    assert variant["revision"] == commit
    assert len(variant["sha256"]) == 64


def test_a_source_is_deployed_by_one_command(hub: Hub, instance: Instance) -> None:
    for name in ("one-step", "one-step-more"):
        # What is registered already, at the commit that was found, is not registered again.
        done = instance.cli("deploy", "hf://org/smol-gguf", "--name", name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"/{name}\n")
    assert ask(instance, instance.key(), "one-step")
    other = instance.cli("deploy", "https://host.example/smol-gguf.gguf")
    assert other.returncode == 1
    assert "from hf://org/smol-gguf@" in other.stderr
    assert "--name" in other.stderr
    for name in ("one-step", "one-step-more"):
        assert instance.api("DELETE", f"/services/{name}").status_code == 202


def test_a_model_is_registered_by_a_command(hub: Hub, instance: Instance) -> None:
    done = instance.cli("register", "hf://org/whole", "--name", "by-hand", "--task", "embedding")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "by-hand\n"
    assert "safetensors" in done.stderr
    assert instance.api("GET", "/models/by-hand").json()["tasks"] == ["embedding"]


def test_a_refusal_comes_when_the_model_is_named(hub: Hub, instance: Instance) -> None:
    told = {
        "hf://org/none": (502, "no repository org/none"),
        "hf://org/old": (422, "pytorch_model.bin"),
        "hf://org/smol-gguf/other.gguf": (422, "no file other.gguf"),
    }
    for source, (status, words) in told.items():
        response = instance.api("POST", "/models", json={"name": "refused", "source": source})
        assert response.status_code == status, response.text
        assert words in response.json()["error"]["message"]
        assert response.json()["error"]["hint"]


def test_a_format_that_no_engine_here_runs_is_said_when_it_is_deployed(
    hub: Hub, instance: Instance
) -> None:
    body = {"name": "other", "source": "hf://org/other"}
    made = instance.api("POST", "/models", json=body)
    assert made.json()["variants"][0]["format"] == "onnx"
    response = instance.api("POST", "/services", json={"name": "other", "model": "other"})
    assert response.status_code == 422
    assert "llama.cpp runs GGUF weights, not onnx" in response.json()["error"]["message"]


def test_the_token_stands_in_no_environment_and_no_log(instance: Instance) -> None:
    for part in ("gateway", "control"):
        environment = Path("/proc", str(instance.pid_of(part)), "environ").read_bytes()
        assert TOKEN.encode() not in environment
    for folder, _, names in os.walk(instance.paths.data):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and path.stat().st_size < 10_000_000:
                assert TOKEN.encode() not in path.read_bytes(), path
