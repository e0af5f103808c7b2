"""Reading weights anew: what is damaged is named, moved out of the way, and comes again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.verify import Finding, Report, verify
from modelry.catalog.weights import WeightsStore
from tests.support.weights_files import gguf
from tests.support.weights_store import put_blob, put_file, put_tree, rot

FILES = {"config.json": b"{}", "model.safetensors": b"a" * 3000, "sub/vocab.txt": b"words"}
TREE = Variant(name="v", format="safetensors", source="hf://org/whole")
SINGLE = Variant(name="v", format="gguf", source="hf://org/one/a.gguf")


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def check(store: WeightsStore, variant: Variant) -> Report:
    report = verify(variant, store, Progress())
    assert report is not None
    return report


def test_what_is_whole_stays(store: WeightsStore) -> None:
    weights = put_tree(store, TREE, FILES)
    progress = Progress()
    assert verify(TREE, store, progress) == Report(3, weights.size_bytes)
    assert progress.done_bytes == progress.total_bytes == weights.size_bytes
    assert store.find(TREE) == weights


def test_damage_of_one_file_is_named_and_the_rest_is_kept(store: WeightsStore) -> None:
    weights = put_tree(store, TREE, FILES)
    other = Variant(name="v", format="safetensors", source="hf://org/fork")
    put_tree(store, other, {**FILES, "config.json": b"{ }"})
    unrelated = put_tree(store, SINGLE, {"x": b"unrelated"})
    bad = next(file for file in weights.files if file.name == "model.safetensors")
    rot(store.blob(bad.sha256))
    assert check(store, TREE).findings == (Finding("model.safetensors", "damaged"),)
    # Whoever shares the file has lost it too, and nobody else has.
    assert store.find(TREE) is None
    assert store.find(other) is None
    assert store.find(SINGLE) == unrelated
    assert not store.blob(bad.sha256).exists()
    assert (store.damaged / bad.sha256).read_bytes().startswith(b"XX")
    assert len(list(store.blobs.iterdir())) == 4
    # Once it has come again all is as it was, in trees that hold the whole file.
    assert put_tree(store, TREE, FILES) == weights
    for name, data in FILES.items():
        assert (weights.path / name).read_bytes() == data
    assert check(store, TREE).findings == ()


@pytest.mark.parametrize("what", ["blob", "tree"])
def test_a_file_that_is_missing_is_named(store: WeightsStore, what: str) -> None:
    weights = put_tree(store, TREE, FILES)
    file = weights.files[0]
    (store.blob(file.sha256) if what == "blob" else weights.path / file.name).unlink()
    assert check(store, TREE).findings == (Finding(file.name, "missing"),)
    assert store.find(TREE) is None
    assert put_tree(store, TREE, FILES) == weights
    assert (weights.path / file.name).read_bytes() == FILES[file.name]


def test_a_single_file_is_called_by_its_own_name(store: WeightsStore) -> None:
    rot(put_file(store, SINGLE, b"weights").path)
    assert check(store, SINGLE).findings == (Finding("a.gguf", "damaged"),)
    assert store.find(SINGLE) is None


def test_weights_that_a_card_pins_are_verified_without_a_record(store: WeightsStore) -> None:
    file = put_blob(store, "a.gguf", b"weights")
    pinned = SINGLE.model_copy(update={"sha256": file.sha256})
    assert check(store, pinned) == Report(1, 7)
    rot(store.blob(file.sha256))
    assert check(store, pinned).findings
    assert verify(pinned, store, Progress()) is None


def test_a_file_used_in_place_is_reported_and_left(store: WeightsStore, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(gguf(500))
    own = Variant(name="v", format="gguf", source=path.as_uri())
    fetch(own, store, Progress(), Origins(lambda: IndexSettings(())))
    assert check(store, own) == Report(1, 500)
    rot(path)
    assert check(store, own).findings == (Finding("own.gguf", "changed"),)
    assert path.exists()
    # What was noted of it no longer holds.
    assert store.find(own) is None


def test_a_check_that_dies_is_ended_by_the_next(
    store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = put_tree(store, TREE, FILES)
    rot(store.blob(weights.files[1].sha256))
    real: Callable[[Path, Path], Path] = Path.replace

    def dies(self: Path, target: Path) -> Path:
        if target.parent == store.damaged:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        check(store, TREE)
    monkeypatch.undo()
    # Nothing is taken for whole meanwhile, and the next check ends what this one began.
    assert store.find(TREE) is None
    assert check(store, TREE).findings
    assert put_tree(store, TREE, FILES) == weights
    assert check(store, TREE).findings == ()


def test_a_check_can_be_stopped(store: WeightsStore) -> None:
    put_tree(store, TREE, FILES)
    progress = Progress()
    progress.cancel.set()
    with pytest.raises(Cancelled):
        verify(TREE, store, progress)
    assert store.find(TREE) is not None
