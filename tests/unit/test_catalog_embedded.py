"""Weights that ship with Modelry: copied into the store, so that the package may go."""

import shutil
from pathlib import Path

import pytest

from modelry.catalog import local
from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.hubs import HubSettings
from modelry.catalog.look import look
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.sources import EmbeddedFiles, parse_source
from modelry.catalog.weights import WeightsStore
from modelry.errors import FetchError, InvalidRequest
from tests.support.weights_files import safetensors

WEIGHTS = safetensors(5_000)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package" / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setattr(local, "_EMBEDDED", folder.parent)
    return folder.parent


def variant(name: str) -> Variant:
    source = f"embedded://{name}"
    return Variant.model_validate({"name": "v", "format": "safetensors", "source": source})


def test_they_are_copied_and_the_package_may_go(tmp_path: Path, package: Path) -> None:
    store = WeightsStore(tmp_path / "weights")
    found = look(EmbeddedFiles("tiny-1"), HubSettings())
    assert (found.format, found.size_bytes) == ("safetensors", len(WEIGHTS))
    weights = fetch(variant("tiny-1"), store, Progress(), Origins(lambda: IndexSettings(())))
    shutil.rmtree(package)
    assert store.find(variant("tiny-1")) == weights
    assert (weights.path / "model.safetensors").read_bytes() == WEIGHTS


def test_what_does_not_ship_is_told(tmp_path: Path, package: Path) -> None:
    store = WeightsStore(tmp_path / "weights")
    with pytest.raises(FetchError):
        fetch(variant("other"), store, Progress(), Origins(lambda: IndexSettings(())))
    with pytest.raises(InvalidRequest):
        look(EmbeddedFiles("other"), HubSettings())


@pytest.mark.parametrize("name", ["", "..", "../weights", "a/b", "a..b", "A", "a b", "-a"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_source(f"embedded://{name}")
    assert str(parse_source("embedded://emoji-diffusion-64")) == "embedded://emoji-diffusion-64"
