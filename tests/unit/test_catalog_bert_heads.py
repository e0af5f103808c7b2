"""A reranker's head under the names that its conversion keeps."""

import json
import struct
from pathlib import Path

import pytest

from modelry.catalog.bert_heads import has_head, renamed
from modelry.catalog.headers import read_safetensors


def safetensors(names: list[str]) -> bytes:
    tensors = {
        name: {"dtype": "U8", "shape": [2], "data_offsets": [at * 2, at * 2 + 2]}
        for at, name in enumerate(names)
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    data = b"".join(bytes([at, at]) for at in range(len(names)))
    return struct.pack("<Q", len(header)) + header + data


def test_the_layers_of_a_head_get_other_names_and_nothing_else_changes(tmp_path: Path) -> None:
    names = ["bert.pooler.dense.bias", "bert.encoder.x", "classifier.weight", "classifier.bias"]
    file, place = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    file.write_bytes(safetensors(names))
    assert renamed(file, place)
    before, after = read_safetensors(file), read_safetensors(place)
    wanted = [
        *("classifier.dense.bias", "bert.encoder.x"),
        *("classifier.out_proj.weight", "classifier.out_proj.bias"),
    ]
    assert list(after.tensors) == wanted
    for old, new in zip(names, wanted, strict=True):
        data = [
            path.read_bytes()[slice(*header.spans[name])]
            for path, header, name in ((file, before, old), (place, after, new))
        ]
        assert data[0] == data[1]
    assert after.metadata == before.metadata


@pytest.mark.parametrize("data", [safetensors(["bert.encoder.x"]), b"\xff" * 9, b""])
def test_a_file_without_such_layers_stays(tmp_path: Path, data: bytes) -> None:
    file, place = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    file.write_bytes(data)
    assert not renamed(file, place)
    assert not place.exists()


@pytest.mark.parametrize(
    ("config", "has"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, True),
        ({"architectures": ["BertModel"]}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_head_is_known_by_the_architecture(config: object, has: bool) -> None:
    assert has_head(config) is has
