"""Cleaning up again and again while models come in: nothing that is named goes missing."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.prune import Roots, prune
from modelry.catalog.weights import WeightsStore
from tests.integration.test_fetch_hubs import bring, surroundings
from tests.support.hub import Hub
from tests.support.weights_files import safetensors
from tests.support.weights_store import put_tree

__all__ = ["surroundings"]

MODELS = 16
SHARED = {"model.safetensors": safetensors(60_000, 1), "tokenizer.json": b"{}" * 900}


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    for number in range(MODELS):
        own = {"config.json": b'{"number": %d}' % number, "small.txt": b"%d" % (number % 4)}
        served.add(f"org/m{number}", {**SHARED, **own})
    yield served
    served.close()


def test_models_that_come_in_meanwhile_are_whole(hub: Hub, tmp_path: Path) -> None:
    store = WeightsStore(tmp_path / "weights")
    sources = [f"hf://org/m{number}" for number in range(MODELS)]
    roots = Roots(frozenset(sources))
    over, cleaned = threading.Event(), []
    # What nobody names, and shares its files with all of them.
    put_tree(store, _unnamed(), {**SHARED, "only.txt": b"here"})

    def clean() -> None:
        while not over.is_set():
            cleaned.append(prune(store, roots, dry_run=False))

    with ThreadPoolExecutor(5) as pool:
        cleaning = pool.submit(clean)
        try:
            fetched = list(pool.map(lambda source: bring(hub, store, source), sources))
        finally:
            over.set()
        cleaning.result(30)
    assert len(cleaned) > 3
    assert sum(each.files for each in cleaned) > 0
    for number, weights in enumerate(fetched):
        for name, data in hub.repos[f"org/m{number}"].files.items():
            assert (weights.path / name).read_bytes() == data
        for file in weights.files:
            assert store.blob(file.sha256).exists()
    assert prune(store, roots, dry_run=True).files == 0


def _unnamed() -> Variant:
    return Variant(name="v", format="safetensors", source="hf://org/unnamed")
