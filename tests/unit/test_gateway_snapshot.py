"""The snapshot on disk: whole, or not believed."""

import itertools
from pathlib import Path

import pytest

from modelry.gateway import snapshot as snapshots
from modelry.gateway.snapshot import SnapshotFile
from modelry.routing.messages import KeyGrant, Route, RoutePut, Snapshot, encode


def route(number: int) -> Route:
    return Route(f"svc_{number}", f"u-0/s{number}", "u-0", ("chat",), "running", "", 0)


def snapshot_of(routes: int, keys: int) -> Snapshot:
    return Snapshot(
        7,
        tuple(map(route, range(routes))),
        tuple(KeyGrant(f"key_{number}", f"{number:064x}", "u-0") for number in range(keys)),
    )


@pytest.mark.parametrize(("routes", "keys"), [(0, 0), (1, 0), (1000, 1), (2001, 2000)])
def test_what_was_written_is_read(tmp_path: Path, routes: int, keys: int) -> None:
    file = SnapshotFile(tmp_path / "snapshot")
    written = snapshot_of(routes, keys)
    file.write(written)
    assert file.load() == written


def test_a_file_cut_off_anywhere_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_PART", 2)
    path = tmp_path / "snapshot"
    SnapshotFile(path).write(snapshot_of(3, 3))
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        assert SnapshotFile(path).load() is None, size


def test_what_is_no_snapshot_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    assert SnapshotFile(path).load() is None
    path.write_bytes(encode(RoutePut(1, route(1))) + encode(Snapshot(1, (), ())))
    assert SnapshotFile(path).load() is None


def test_one_that_is_written_in_steps_replaces_the_last_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_PART", 1)
    path = tmp_path / "snapshot"
    file = SnapshotFile(path)
    file.write(snapshot_of(1, 0))
    steps = file.steps(snapshot_of(3, 3))
    before = path.read_bytes()
    for _ in itertools.islice(steps, 6):
        assert path.read_bytes() == before
    assert len([*steps]) == 1
    assert file.load() == snapshot_of(3, 3)
    assert [*tmp_path.iterdir()] == [path]


def test_one_that_is_broken_off_leaves_the_last(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    file = SnapshotFile(path)
    file.write(snapshot_of(1, 0))
    steps = file.steps(snapshot_of(3, 3))
    next(steps)
    del steps
    assert file.load() == snapshot_of(1, 0)
    assert [*tmp_path.iterdir()] == [path]
