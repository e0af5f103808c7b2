"""Verified files that came another way than by a fetch, made weights of a variant."""

from collections.abc import Sequence

from modelry.catalog.cards import Variant
from modelry.catalog.formats import Format
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, tree_digest


def digest_of(format: Format, files: Sequence[WeightsFile]) -> str:
    """By which weights of these files are known: the file's own, or that of their list."""
    return files[0].sha256 if is_one_file(format, files) else tree_digest(files)


def is_one_file(format: Format, files: Sequence[WeightsFile]) -> bool:
    """Whether an engine opens the file itself, and not the folder it lies in."""
    return len(files) == 1 and format == "gguf"


def keep(
    store: WeightsStore,
    variant: Variant,
    files: Sequence[WeightsFile],
    revision: str | None = None,
) -> Weights:
    """Have `find` give these files, all of which are blobs in the store, for the variant."""
    size = sum(file.size_bytes for file in files)
    digest = digest_of(variant.format, files)
    if is_one_file(variant.format, files):
        weights = Weights(store.blob(digest), size, digest, revision)
    else:
        weights = Weights(store.add_tree(files), size, digest, revision, tuple(files))
    blobs = [store.blob(file.sha256) for file in files]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights
