"""Fetching pipelines that make pictures: their folders' layout, and those that are programs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.hubs import HubSettings
from modelry.catalog.look import look
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.sources import parse_source
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError
from tests.support.hub import Hub
from tests.support.weights_files import safetensors

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
NEEDED = {
    "model_index.json": json.dumps(INDEX).encode(),
    "tokenizer/merges.txt": b"#version: 0.2",
    "tokenizer/vocab.json": b"{}",
    "unet/config.json": b'{"in_channels": 4}',
    "unet/diffusion_pytorch_model.safetensors": safetensors(300_000, 1),
}
BESIDE = {
    "pipeline.png": b"\x89PNG",
    "whole.safetensors": safetensors(500_000, 2),
    "unet/diffusion_pytorch_model.bin": b"\x80\x04pickle",
    "unet/diffusion_pytorch_model.fp16.safetensors": safetensors(150_000, 3),
    "unet/model.onnx": b"onnx",
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    served.add("org/pictures", {**NEEDED, **BESIDE})
    strange = json.dumps({**INDEX, "unet": ["my_unet", "MyUnet"]}).encode()
    evil = {**NEEDED, "model_index.json": strange, "unet/my_unet.py": b"print()"}
    served.add("org/evil", evil)
    yield served
    served.close()


def bring(hub: Hub, folder: Path, source: str, scheme: str = "hf") -> Weights:
    variant = Variant(name="v", format="diffusers", source=f"{scheme}://{source}")
    hubs = HubSettings(hf_endpoint=hub.url, modelscope_endpoint=hub.url)
    origins = Origins(lambda: IndexSettings(()), hubs)
    return fetch(variant, WeightsStore(folder), Progress(), origins)


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_a_pipeline_comes_in_its_folders_without_what_nobody_needs(
    hub: Hub, tmp_path: Path, scheme: str
) -> None:
    weights = bring(hub, tmp_path, "org/pictures", scheme)
    found = {
        str(file.relative_to(weights.path)): file.read_bytes()
        for file in weights.path.rglob("*")
        if file.is_file()
    }
    assert found == NEEDED
    assert sorted(hub.downloads()) == sorted(NEEDED)


def test_a_repository_is_seen_to_be_a_pipeline_before_it_is_fetched(hub: Hub) -> None:
    found = look(parse_source("hf://org/pictures"), HubSettings(hf_endpoint=hub.url))
    assert found.format == "diffusers"
    assert found.size_bytes == sum(len(data) for data in NEEDED.values())
    assert hub.downloads() == []


def test_a_pipeline_that_names_a_program_is_refused_before_its_weights_come(
    hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match="my_unet") as caught:
        bring(hub, tmp_path, "org/evil")
    assert caught.value.code == "unsafe_weights"
    assert "unet/my_unet.py" not in hub.downloads()
