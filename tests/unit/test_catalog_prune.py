"""Cleaning up: what nobody names goes, and nothing else, whatever happens meanwhile."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.prune import Pruned, Roots, disk, prune, taken
from modelry.catalog.weights import WeightsStore
from tests.support.weights_store import put_blob, put_file, put_tree, rot

KB = 1024
FILES = {"config.json": b"{}", "model.safetensors": b"a" * 400 * KB, "sub/vocab.txt": b"words"}
FORK = {**FILES, "config.json": b"{ }"}


def variant(repo: str, format: str = "safetensors", **more: Any) -> Variant:
    return Variant.model_validate(
        {"name": "v", "format": format, "source": f"hf://org/{repo}", **more}
    )


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


def kept(*variants: Variant) -> Roots:
    return Roots(frozenset(each.weights_id for each in variants))


def content(store: WeightsStore) -> list[str]:
    folder = store.partial.parent
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_named_stays_with_all_it_is_made_of(store: WeightsStore) -> None:
    whole, single = variant("whole"), variant("one/a.gguf", "gguf")
    weights, file = put_tree(store, whole, FILES), put_file(store, single, b"gguf" * 900)
    before = content(store)
    assert prune(store, kept(whole, single), dry_run=False) == Pruned()
    assert content(store) == before
    assert (store.find(whole), store.find(single)) == (weights, file)


def test_what_nobody_names_goes_but_for_what_others_share(store: WeightsStore) -> None:
    whole, fork = variant("whole"), variant("fork")
    weights = put_tree(store, whole, FILES)
    before = taken(store.partial.parent)
    put_tree(store, fork, FORK)
    more = taken(store.partial.parent) - before
    tried = prune(store, kept(whole), dry_run=True)
    assert store.find(fork) is not None
    done = prune(store, kept(whole), dry_run=False)
    assert done == tried
    # The large file is the other's too: not it, but what only the fork had, was freed.
    assert done.freed_bytes == more
    assert done.freed_bytes < 100 * KB
    assert store.find(fork) is None
    assert store.find(whole) == weights
    assert taken(store.partial.parent) == before


def test_all_of_the_last_one_is_freed_once(store: WeightsStore) -> None:
    put_tree(store, variant("whole"), FILES)
    before = taken(store.partial.parent)
    done = prune(store, Roots(), dry_run=False)
    # Each file has two names, in the tree and among the blobs; and there is one record.
    assert done == Pruned(files=7, freed_bytes=before)
    assert content(store) == []


def test_a_file_with_a_name_elsewhere_frees_nothing(store: WeightsStore, tmp_path: Path) -> None:
    weights = put_file(store, variant("one/a.gguf"), b"gguf" * 90_000)
    (tmp_path / "backup").hardlink_to(weights.path)
    assert prune(store, Roots(), dry_run=False).freed_bytes < 100 * KB
    assert (tmp_path / "backup").stat().st_nlink == 1


def test_what_others_hold_on_to_stays_by_its_digest(store: WeightsStore) -> None:
    weights = put_tree(store, variant("whole"), FILES)
    file = put_blob(store, "adapter", b"adapter")
    roots = Roots(digests=frozenset({weights.sha256, file.sha256}))
    prune(store, roots, dry_run=False)
    for name, data in FILES.items():
        assert (weights.path / name).read_bytes() == data
    assert len(list(store.blobs.iterdir())) == 4


def test_a_tree_of_symbolic_links_keeps_its_blobs(
    store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    whole = variant("whole")
    weights = put_tree(store, whole, FILES)
    assert all((weights.path / name).is_symlink() for name in FILES)
    prune(store, Roots(digests=frozenset({weights.sha256})), dry_run=False)
    assert (weights.path / "config.json").read_bytes() == b"{}"


def test_parts_stay_as_long_as_their_source_is_named(store: WeightsStore) -> None:
    whole, gone = variant("whole"), variant("gone")
    for each, name in ((whole, "a" * 64), (gone, "b" * 64)):
        store.note_parts(each, [name])
        (store.partial / f"{name}.part").write_bytes(b"x" * 9000)
    (store.partial / f"{'c' * 64}.whl.part").write_bytes(b"x" * 9000)
    (store.partial / "upload-1").write_bytes(b"not a fetch's")
    prune(store, kept(whole), dry_run=False)
    assert sorted(path.name for path in store.partial.iterdir()) == [f"{'a' * 64}.part", "upload-1"]


def test_what_was_damaged_goes(store: WeightsStore) -> None:
    one = variant("one")
    weights = put_file(store, one, b"x" * 9000)
    rot(weights.path)
    store.set_aside(weights.sha256)
    assert prune(store, kept(one), dry_run=False).files == 1
    assert list(store.damaged.iterdir()) == []


def test_what_was_made_of_weights_goes_with_them(store: WeightsStore) -> None:
    whole = variant("whole")
    weights, gone = put_tree(store, whole, FILES), put_tree(store, variant("gone"), FORK)
    store.derived.mkdir(exist_ok=True)
    for key, of in (("mine", weights.sha256), ("theirs", gone.sha256)):
        (store.derived / key).mkdir()
        (store.derived / key / "model.bin").write_bytes(b"x" * 9000)
        (store.derived / f"{key}.json").write_text(json.dumps({"of": of, "by": "converter"}))
    (store.derived / "single.json").write_text(json.dumps({"of": "0" * 64}))
    (store.derived / "single").write_bytes(b"x" * 9000)
    (store.derived / "unknown").mkdir()
    (store.derived / "broken.json").write_text("{")
    prune(store, kept(whole), dry_run=False)
    left = sorted(path.name for path in store.derived.iterdir())
    assert left == ["broken.json", "mine", "mine.json", "unknown"]


def test_what_is_being_fetched_is_left_alone(store: WeightsStore) -> None:
    wanted = variant("whole")
    with store.hold(wanted) as hold:
        weights = put_tree(store, wanted, FILES)
        store.note_parts(wanted, ["d" * 64])
        for name in (weights.sha256, "d" * 64, *(file.sha256 for file in weights.files)):
            hold.add(name)
        (store.partial / f"{'d' * 64}.part").write_bytes(b"x")
        before = content(store)
        assert prune(store, Roots(), dry_run=True) == Pruned()
        assert prune(store, Roots(), dry_run=False) == Pruned()
        assert content(store) == before
    prune(store, Roots(), dry_run=False)
    assert content(store) == []


def test_what_comes_in_while_a_clean_up_is_under_way_stays(
    store: WeightsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(store, variant("old"), b"old")
    late = variant("late")
    begun, come = threading.Event(), threading.Event()
    real = WeightsStore.drop_tree

    def slow(self: WeightsStore, tree: Path) -> None:
        begun.set()
        assert come.wait(10)
        real(self, tree)

    put_tree(store, variant("first"), FILES)
    monkeypatch.setattr(WeightsStore, "drop_tree", slow)
    cleaning = threading.Thread(target=prune, args=(store, kept(late)), kwargs={"dry_run": False})
    cleaning.start()
    assert begun.wait(10)
    # It has read its records. A fetch comes and goes now; it waits for the lock to be free.
    fetched = threading.Thread(target=_fetch, args=(store, late, come))
    fetched.start()
    come.set()
    fetched.join(10)
    cleaning.join(10)
    assert store.find(late) is not None
    assert store.find(variant("old")) is None


def _fetch(store: WeightsStore, late: Variant, come: threading.Event) -> None:
    file = b"late" * 1000
    with store.hold(late) as hold:
        hold.add(put_blob(store, "late", file).sha256)
        put_file(store, late, file)


@pytest.mark.parametrize("dies_at", range(12))
def test_a_clean_up_that_dies_leaves_what_is_whole_or_absent(
    store: WeightsStore, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    whole, fork, single = variant("whole"), variant("fork"), variant("one/a.gguf", "gguf")
    weights = put_tree(store, whole, FILES)
    put_tree(store, fork, {**FORK, "more.json": b"more"})
    put_file(store, single, b"single")
    (store.partial / f"{'c' * 64}.part").write_bytes(b"x")
    left = [dies_at]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return step

    for name in ("unlink", "replace"):
        monkeypatch.setattr(Path, name, dying(getattr(Path, name)))
    monkeypatch.setattr(os, "unlink", dying(os.unlink))
    try:
        prune(store, kept(whole), dry_run=False)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    store = WeightsStore(store.partial.parent)
    assert store.find(whole) == weights
    for name, data in FILES.items():
        assert (weights.path / name).read_bytes() == data
    # What was to go is found whole or not at all, and can be fetched again.
    found = store.find(fork)
    if found is not None:
        assert all((found.path / name).read_bytes() == data for name, data in FORK.items())
    again = put_tree(store, fork, {**FORK, "more.json": b"more"})
    assert all((again.path / name).read_bytes() == data for name, data in FORK.items())
    prune(store, kept(whole), dry_run=False)
    assert store.find(whole) == weights
    assert len(list(store.blobs.iterdir())) == 3


def test_what_is_on_the_disk_is_told_of_each(store: WeightsStore, tmp_path: Path) -> None:
    whole, fork, absent = variant("whole"), variant("fork"), variant("absent")
    put_tree(store, whole, FILES)
    put_tree(store, fork, FORK)
    put_file(store, variant("gone"), b"x" * 50 * KB)
    in_place = tmp_path / "own.gguf"
    in_place.write_bytes(b"x" * 9000)
    found = disk(store, [whole, fork, absent], kept(whole, fork, absent))
    first, second, third = found.taken_bytes
    assert first >= 400 * KB
    assert second >= 400 * KB
    assert third == 0
    # What they share is there once.
    assert found.total_bytes < first + second
    assert 50 * KB <= found.unused_bytes <= 70 * KB
    assert found.partial_bytes == 0
    assert found.free_bytes > 0
