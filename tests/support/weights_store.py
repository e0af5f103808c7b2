"""Weights put into a store as a fetch would have left them, and damage done to them."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from modelry.catalog.cards import Variant
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, tree_digest


def put_blob(store: WeightsStore, name: str, data: bytes) -> WeightsFile:
    digest = hashlib.sha256(data).hexdigest()
    draft = store.partial / "draft"
    draft.write_bytes(data)
    store.add_blob(draft, digest)
    return WeightsFile(name, len(data), digest)


def put_file(store: WeightsStore, variant: Variant, data: bytes) -> Weights:
    file = put_blob(store, "file", data)
    blob = store.blob(file.sha256)
    weights = Weights(blob, len(data), file.sha256)
    store.remember(variant, weights, [(blob, blob.stat())])
    return weights


def put_tree(store: WeightsStore, variant: Variant, files: Mapping[str, bytes]) -> Weights:
    found = [put_blob(store, name, data) for name, data in files.items()]
    size = sum(file.size_bytes for file in found)
    weights = Weights(store.add_tree(found), size, tree_digest(found), None, tuple(found))
    blobs = [store.blob(file.sha256) for file in found]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights


def rot(path: Path) -> None:
    """Other bytes, and nothing that shows it."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"XX")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
