"""Models in object stores: what comes, what is pinned, what goes wrong."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.catalog.cards import Variant
from modelry.catalog.catalog import admit
from modelry.catalog.download import Progress, WrongWeights
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.hubs import HubSettings
from modelry.catalog.look import look
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.sources import BucketFiles
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError, PermissionDenied
from tests.support.bucket import Bucket, serving
from tests.support.weights_files import gguf, safetensors

MB = 1_000_000
GGUF = gguf(9 * MB)
FILES = {
    "config.json": b"{}",
    "empty.txt": b"",
    "model-00001-of-00002.safetensors": safetensors(700_000, 1),
    "model-00002-of-00002.safetensors": safetensors(500_000, 2),
    "pytorch_model.bin": b"\x80\x04pickle" * 1000,
}
NEEDED = sorted({*FILES} - {"pytorch_model.bin"})


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._FIRST_PAUSE_S", 0.01)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving("s3") as served:
        served.put("models/one/a.gguf", GGUF)
        for name, data in FILES.items():
            served.put(f"models/whole/{name}", data)
        yield served


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def bring(
    store: WeightsStore, source: str, format: str = "safetensors", **settings: Any
) -> Weights:
    variant = Variant.model_validate({"name": "v", "format": format, "source": source})
    origins = Origins(lambda: IndexSettings(()), HubSettings(**settings))
    weights = fetch(variant, store, Progress(), origins)
    assert store.find(variant) == weights
    return weights


def refusal(store: WeightsStore, source: str, **more: Any) -> FetchError:
    with pytest.raises(FetchError) as raised:
        bring(store, source, **more)
    return raised.value


def test_a_folder_comes_whole(bucket: Bucket, store: WeightsStore) -> None:
    weights = bring(store, "s3://models/whole")
    assert [file.name for file in weights.files] == NEEDED
    for name in NEEDED:
        assert (weights.path / name).read_bytes() == FILES[name]
    assert list(store.partial.iterdir()) == []


def test_one_file_is_a_file(bucket: Bucket, store: WeightsStore) -> None:
    weights = bring(store, "s3://models/one/a.gguf", "gguf")
    assert weights.path.read_bytes() == GGUF
    assert weights.sha256 == hashlib.sha256(GGUF).hexdigest()


def test_what_it_is_is_looked_at_before_it_is_fetched(bucket: Bucket) -> None:
    found = look(BucketFiles("s3", "models/whole"), HubSettings())
    assert found.format == "safetensors"
    assert found.size_bytes == sum(len(FILES[name]) for name in NEEDED)
    assert bucket.opened == []


@pytest.mark.parametrize("seekable", [True, False])
def test_a_file_goes_on_where_it_broke_off(
    bucket: Bucket, store: WeightsStore, seekable: bool
) -> None:
    bucket.cut_after, bucket.seekable = 3 * MB, seekable
    weights = bring(store, "s3://models/one/a.gguf", "gguf")
    assert weights.path.read_bytes() == GGUF
    assert bucket.read_from == [0, 3 * MB if seekable else 0]


def test_a_part_of_another_version_is_not_taken_up(
    bucket: Bucket, store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.catalog.fetch._TRIES", 1)
    bucket.cut_after = 3 * MB
    refusal(store, "s3://models/one/a.gguf", format="gguf")
    changed = gguf(9 * MB, 5)
    bucket.put("models/one/a.gguf", changed)
    assert bring(store, "s3://models/one/a.gguf", "gguf").path.read_bytes() == changed
    assert bucket.read_from == [0, 0]


@pytest.mark.parametrize("size", [9 * MB, 5 * MB])
def test_what_was_fetched_first_is_what_the_model_is(
    bucket: Bucket, store: WeightsStore, size: int
) -> None:
    weights = bring(store, "s3://models/one/a.gguf", "gguf")
    weights.path.unlink()
    bucket.put("models/one/a.gguf", gguf(size, 6))
    error = refusal(store, "s3://models/one/a.gguf", format="gguf")
    assert isinstance(error, WrongWeights)
    assert "changed since" in error.message
    bucket.put("models/one/a.gguf", GGUF)
    assert bring(store, "s3://models/one/a.gguf", "gguf") == weights


@pytest.mark.parametrize(
    ("source", "trouble", "words"),
    [
        ("s3://models/none", None, "nothing at s3://models/none"),
        ("s3://models/whole", PermissionError("Forbidden"), "does not let us have"),
        ("s3://models/whole", RuntimeError("Unable to\n locate credentials"), "locate credentials"),
        ("s3://models/whole/config.json/x", None, "nothing at"),
    ],
)
def test_what_goes_wrong_is_said_with_what_to_do(
    bucket: Bucket, store: WeightsStore, source: str, trouble: Exception | None, words: str
) -> None:
    bucket.trouble = trouble
    error = refusal(store, source)
    assert words in error.message
    assert "\n" not in error.message
    assert error.hint


def test_pickles_of_a_bucket_are_refused(bucket: Bucket, store: WeightsStore) -> None:
    bucket.put("models/old/pytorch_model.bin", b"\x80\x04" * 900)
    assert "pytorch_model.bin" in refusal(store, "s3://models/old").message
    assert bucket.opened == []


def test_nobody_is_asked_offline(bucket: Bucket, store: WeightsStore) -> None:
    assert "offline" in refusal(store, "s3://models/whole", offline=True).message


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")],
)
def test_a_package_that_is_missing_is_named(
    store: WeightsStore, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    error = refusal(store, f"{scheme}://models/whole")
    assert f"modelry[{extra}]" in str(error.hint)


def test_buckets_are_for_operators() -> None:
    somebody = Principal("u-000000000001", "somebody", operator=False)
    with pytest.raises(PermissionDenied):
        admit(somebody, "s3://models/whole")
    operator = Principal("u-000000000002", "operator", operator=True)
    assert admit(operator, "gs://models/a_b") == BucketFiles("gs", "models/a_b")
