"""The head of a BERT that ranks, under names that the converter to GGUF does not drop.

A BertForSequenceClassification scores with a dense layer, which BERT calls its pooler, and a
classifier. The converter takes every pooler for one that no embedding needs, and leaves it out:
scores would be wrong without a word. RoBERTa's names for the same two layers, it keeps.
"""

import json
import shutil
import struct
from pathlib import Path

from modelry.catalog.headers import DamagedFile, read_safetensors

_RANKS = "BertForSequenceClassification"
_NAMES = {
    f"bert.pooler.dense.{part}": f"classifier.dense.{part}" for part in ("weight", "bias")
} | {f"classifier.{part}": f"classifier.out_proj.{part}" for part in ("weight", "bias")}


def has_head(config: object) -> bool:
    """By a model's `config.json`, decoded."""
    return isinstance(config, dict) and config.get("architectures") == [_RANKS]


def renamed(file: Path, place: Path) -> bool:
    """Write a file of safetensors anew with those names; False where it has none of them."""
    try:
        found = read_safetensors(file)
    except DamagedFile:
        # The converter will say so.
        return False
    if not any(name in _NAMES for name in found.tensors):
        return False
    with file.open("rb") as source, place.open("xb") as target:
        (size,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(size))
        new = json.dumps({_NAMES.get(name, name): told for name, told in header.items()}).encode()
        target.write(struct.pack("<Q", len(new)) + new)
        shutil.copyfileobj(source, target, 1024 * 1024)
    return True
