"""What of a model can be deployed here: by which engine, and in which variant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.catalog import Model, roots_of
from modelry.catalog.choice import Machine, Wanted
from modelry.catalog.fetches import Fetches
from modelry.catalog.offers import Offer, Offers, Size, context_of, variant_of
from modelry.catalog.weights import Weights, WeightsStore
from modelry.engines.inventory import Gpu, Inventory
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.runtimes import shipped_runtimes
from modelry.errors import InvalidRequest
from tests.support.weights_store import put_file
from tests.unit.test_catalog_fit import GB, card, variant

MACHINE = Inventory(cores=4, memory_bytes=16 * GB, gpus=(Gpu(0, "Large", 80 * GB),))


class OnGpus(LlamaCpp):
    """Another engine of GGUF files, which works on GPUs."""

    name = "on-gpus"

    def gpus(self, inventory: Inventory) -> int:
        return 1

    def preference(self, format: str, inventory: Inventory) -> int:
        return 10


class Tensors(OnGpus):
    name = "tensors"

    def converts(self, format: str) -> str | None:
        return None

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        return None if format == "safetensors" else f"tensors does not run {format}"


class Bench:
    """Offers of a few engines on one machine."""

    def __init__(self, folder: Path, *engines: LlamaCpp, inventory: Inventory = MACHINE) -> None:
        self.store = WeightsStore(folder)
        by_name: dict[str, Any] = {engine.name: engine for engine in engines}
        machine = Machine(by_name, shipped_runtimes(), inventory)
        self.offers = Offers(machine, Fetches(self.store))

    def offer(self, model: Model, wanted: str | None = None, size: Size | None = None) -> Offer:
        return self.offers.offer(model, size or Size(), Wanted(wanted))


def model(*variants: Any, **fields: Any) -> Model:
    return Model(card(*variants, **fields))


def test_a_gpu_counts_for_engines_that_use_one(tmp_path: Path) -> None:
    large = variant("BF16", source="hf://org/repo/bf16.gguf")
    offered = Bench(tmp_path, LlamaCpp()).offer(model(variant(), large))
    assert offered.variant.name == "Q4_K_M"
    assert offered.fits["BF16"].where == "memory"
    offered = Bench(tmp_path, OnGpus()).offer(model(variant(), large))
    assert offered.variant.name == "BF16"
    assert offered.fits["BF16"].where == "gpu"


@pytest.mark.parametrize(
    ("hints", "engine"),
    [
        ((), "llama.cpp"),
        (("on-gpus", "llama.cpp"), "on-gpus"),
        (("elsewhere", "on-gpus"), "on-gpus"),
        (("tensors", "llama.cpp"), "llama.cpp"),
    ],
)
def test_the_card_says_which_engine_is_best(
    tmp_path: Path, hints: Sequence[str], engine: str
) -> None:
    hinted = variant(engines=tuple(hints))
    offers = Bench(tmp_path, LlamaCpp(), OnGpus(), Tensors()).offers
    assert offers.choice(model(hinted), hinted).engine.name == engine


def test_an_engine_that_is_asked_for_decides_the_variant(tmp_path: Path) -> None:
    whole = variant("BF16", format="safetensors", source="hf://org/repo")
    machine = Bench(tmp_path, LlamaCpp(), Tensors())
    assert machine.offer(model(variant(), whole)).variant.name == "BF16"
    assert machine.offer(model(variant(), whole), "llama.cpp").variant.name == "Q4_K_M"
    offered = machine.offer(model(variant()), "tensors")
    assert offered.refusal == "tensors does not run gguf"
    with pytest.raises(InvalidRequest, match="tensors does not run gguf"):
        machine.offers.choice(model(variant()), variant(), Wanted("tensors"))


def test_an_engine_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    machine = Bench(tmp_path, LlamaCpp(), Tensors())
    with pytest.raises(InvalidRequest) as caught:
        machine.offer(model(), "abacus")
    assert caught.value.hint == "there are: llama.cpp, tensors"
    assert caught.value.param == "engine"


def test_a_variant_for_engines_that_are_not_here_is_refused_by_their_names(tmp_path: Path) -> None:
    hinted = variant(engines=("one", "other"))
    refusal = Bench(tmp_path, LlamaCpp()).offer(model(hinted)).refusal
    assert refusal == "Q4_K_M is for one or other, which is not installed here"


def test_what_is_here_is_known_by_its_own_size(tmp_path: Path) -> None:
    machine = Bench(tmp_path / "weights", LlamaCpp())
    unknown = variant(None, name="plain")
    bare = model(unknown, parameters=None)
    assert machine.offer(bare).fits["plain"].verdict == "unknown"
    assert machine.offer(Model(bare.card, size_bytes=GB)).fits["plain"].verdict == "fits"
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"x" * 1000)
    machine.store.remember(unknown, Weights(file, 1000, "0" * 64), [(file, file.stat())])
    here = machine.offer(Model(bare.card, size_bytes=GB)).fits["plain"]
    assert here.memory_bytes is not None
    assert here.memory_bytes < GB


def test_more_slots_and_tokens_need_more(tmp_path: Path) -> None:
    machine = Bench(tmp_path, LlamaCpp())

    def needs(**size: int) -> int:
        return machine.offer(model(), size=Size(**size)).fits["Q4_K_M"].memory_bytes or 0

    assert needs() == needs(context_tokens=4096, slots=4)
    assert needs(slots=8) == needs(context_tokens=8192) > needs()


def test_a_context_is_no_longer_than_the_models(tmp_path: Path) -> None:
    assert context_of(model(context_tokens=512), None) == 512
    assert context_of(model(context_tokens=100_000), None) == 4096
    assert context_of(model(), 9000) == 9000


def test_an_unknown_variant_is_refused_with_those_there_are() -> None:
    known = model(variant("Q4_K_M"), variant("Q8_0"))
    assert variant_of(known, "Q8_0").quantisation == "Q8_0"
    with pytest.raises(InvalidRequest) as caught:
        variant_of(known, "q8_0")
    assert caught.value.hint == "there are: Q4_K_M, Q8_0"


def test_a_projector_that_is_here_counts_in_the_estimate(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LlamaCpp())
    seeing = model(variant(projector="hf://org/repo/mmproj.gguf"))
    before = bench.offer(seeing).fits["Q4_K_M"].memory_bytes
    named = seeing.card.variants[0].projector_variant
    assert named is not None
    put_file(bench.store, named, bytes(1_000_000))
    after = bench.offer(seeing).fits["Q4_K_M"].memory_bytes
    assert before is not None
    assert after == pytest.approx(before + 1_100_000, abs=2)


def test_a_projector_stays_when_the_store_is_cleaned_up() -> None:
    seeing = model(variant(projector="hf://org/repo/mmproj.gguf"))
    assert roots_of([seeing]).weights_ids == {"hf://org/repo/a.gguf", "hf://org/repo/mmproj.gguf"}
