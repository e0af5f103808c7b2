"""Verified files that came another way than by a fetch, made weights of a variant."""

from collections.abc import Sequence

from modelry.catalog.cards import Variant
from modelry.catalog.formats import Format
from modelry.catalog.weights import Weights, WeightsFile, WeightsStore, tree_digest


def in_folder(format: Format, files: Sequence[WeightsFile]) -> bool:
    """Whether an engine opens the folder that the files lie in, and not the one file itself."""
    return len(files) != 1 or format != "gguf"


def digest_of(files: Sequence[WeightsFile], *, folder: bool) -> str:
    """By which weights of these files are known: that of their list, or the file's own."""
    return tree_digest(files) if folder else files[0].sha256


def keep(
    store: WeightsStore,
    variant: Variant,
    files: Sequence[WeightsFile],
    *,
    folder: bool,
    revision: str | None = None,
) -> Weights:
    """Have `find` give these files, all of which are blobs in the store, for the variant."""
    size = sum(file.size_bytes for file in files)
    digest = digest_of(files, folder=folder)
    if folder:
        weights = Weights(store.add_tree(files), size, digest, revision, tuple(files))
    else:
        weights = Weights(store.blob(digest), size, digest, revision)
    blobs = [store.blob(file.sha256) for file in files]
    store.remember(variant, weights, [(blob, blob.stat()) for blob in blobs])
    return weights
