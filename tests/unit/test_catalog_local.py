"""Folders of this machine: which links are followed, and what is no file."""

import os
from pathlib import Path

import pytest

from modelry.catalog.hubs import HubSettings
from modelry.catalog.local import below
from modelry.catalog.look import look
from modelry.catalog.sources import LocalFile
from modelry.cli.uploads import _files_of
from modelry.errors import InvalidRequest, ModelryError


def snapshot(folder: Path) -> Path:
    """As Hugging Face's library keeps a repository: links to blobs beside it."""
    files, blobs = folder / "snapshots" / "abc", folder / "blobs"
    files.mkdir(parents=True)
    blobs.mkdir()
    for name in ("model.safetensors", "config.json"):
        (blobs / f"of-{name}").write_bytes(b"{}")
        (files / name).symlink_to(f"../../blobs/of-{name}")
    return files


def test_a_snapshot_of_the_hubs_cache_is_a_model(tmp_path: Path) -> None:
    files = snapshot(tmp_path)
    assert below(files) == ["config.json", "model.safetensors"]
    assert sorted(each.name for each in _files_of(files)) == ["config.json", "model.safetensors"]


def test_other_links_out_of_a_folder_are_named(tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(InvalidRequest, match=r"model\.safetensors is a link that leads out"):
        below(folder)
    with pytest.raises(ModelryError, match="leads out of the folder"):
        _files_of(folder)


def test_links_within_a_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real.gguf").write_bytes(b"GGUF")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").symlink_to("../real.gguf")
    assert below(tmp_path) == ["real.gguf"]
    assert len(_files_of(tmp_path)) == 2


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(InvalidRequest, match="is no file"):
        look(LocalFile(str(tmp_path / "model.gguf")), HubSettings())
