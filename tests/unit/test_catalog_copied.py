"""Files of this machine that are copied into the store: their own may go afterwards."""

import shutil
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError
from tests.support.weights_files import gguf, safetensors

FILES = {
    "config.json": b"{}",
    "model.safetensors": safetensors(300_000),
    "copy.safetensors": safetensors(300_000),
    "notes/readme.md": b"not needed",
}


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "my model"
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def of(path: Path, format: str = "safetensors") -> Variant:
    return Variant.model_validate(
        {"name": "v", "format": format, "source": path.as_uri(), "copied": True}
    )


def copied(store: WeightsStore, variant: Variant, progress: Progress | None = None) -> Weights:
    return fetch(variant, store, progress or Progress(), Origins(lambda: IndexSettings(())))


def test_a_folder_is_copied_and_no_longer_needed(store: WeightsStore, folder: Path) -> None:
    progress = Progress()
    weights = copied(store, of(folder), progress)
    shutil.rmtree(folder)
    assert store.find(of(folder)) == weights
    names = [file.name for file in weights.files]
    assert names == ["config.json", "copy.safetensors", "model.safetensors"]
    for name in names:
        assert (weights.path / name).read_bytes() == FILES[name]
    assert progress.done_bytes == progress.total_bytes == weights.size_bytes
    # The same bytes are there once.
    assert len(list(store.blobs.iterdir())) == 2
    assert list(store.partial.iterdir()) == []


def test_one_file_is_copied_privately(store: WeightsStore, tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(gguf(900))
    file.chmod(0o644)
    weights = copied(store, of(file, "gguf"))
    assert weights.path.parent == store.blobs
    assert weights.path.stat().st_mode & 0o777 == 0o600
    file.write_bytes(gguf(900, 2))
    assert weights.path.read_bytes() == gguf(900)
    assert store.find(of(file, "gguf")) == weights


def test_used_in_place_and_copied_are_two_things(store: WeightsStore, tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(gguf(900))
    in_place = Variant(name="v", format="gguf", source=file.as_uri())
    assert copied(store, in_place).path == file
    assert store.find(of(file, "gguf")) is None
    assert copied(store, of(file, "gguf")).path != file


def test_nothing_is_copied_where_there_is_no_room(
    store: WeightsStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: real._replace(free=1000))
    with pytest.raises(FetchError, match="too full"):
        copied(store, of(folder))
    assert list(store.blobs.iterdir()) == []


def test_a_copy_that_is_stopped_leaves_nothing_behind(store: WeightsStore, folder: Path) -> None:
    progress = Progress()
    progress.cancel.set()
    with pytest.raises(Cancelled):
        copied(store, of(folder), progress)
    assert list(store.partial.iterdir()) == list(store.blobs.iterdir()) == []


def test_what_is_damaged_is_not_copied(store: WeightsStore, tmp_path: Path) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"not GGUF at all")
    with pytest.raises(FetchError, match="damaged"):
        copied(store, of(file, "gguf"))
    assert list(store.partial.iterdir()) == list(store.blobs.iterdir()) == []
