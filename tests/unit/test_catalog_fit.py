"""Estimates of what a model needs, and the variant that is chosen by them."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.catalog.cards import ModelCard, Variant
from modelry.catalog.fit import Fit, best_variant, bits_of, estimate, memory_needed
from modelry.engines.inventory import Gpu, Inventory

GB = 10**9
ORDER = ("fits", "tight", "too_large")
QUANTISATIONS = ("Q2_K", "Q4_K_M", "Q8_0", "BF16")


def variant(quantisation: str | None = "Q4_K_M", **fields: Any) -> Variant:
    given = {"name": quantisation or "plain", "format": "gguf", "source": "hf://org/repo/a.gguf"}
    return Variant(**{**given, "quantisation": quantisation, **fields})


def card(*variants: Variant, **fields: Any) -> ModelCard:
    return ModelCard(
        **{
            "id": "mine",
            "name": "Mine",
            "provider": "Me",
            "licence": "MIT",
            "description": "A model.",
            "tasks": ("chat",),
            "parameters": 8_000_000_000,
            "variants": variants or (variant(),),
            **fields,
        }
    )


def machine(memory_bytes: int, *gpus: int) -> Inventory:
    found = tuple(Gpu(index, f"GPU of {size}", size) for index, size in enumerate(gpus))
    return Inventory(cores=4, memory_bytes=memory_bytes, gpus=found)


def needed(model: ModelCard, **options: Any) -> int:
    found = memory_needed(model, model.variants[0], options.pop("tokens", 4096), **options)
    assert found is not None
    return found


def test_a_known_model_needs_about_what_its_files_and_its_cache_have() -> None:
    # Llama 3.1 8B: 4.92 GB of weights in Q4_K_M, 131072 bytes of cache a token.
    model = card(kv_bytes_per_token=131072, parameters=8_030_261_248)
    assert 5.9 * GB < needed(model) < 6.5 * GB
    assert needed(model, tokens=8192) - needed(model, tokens=4096) == 4096 * 131072


def test_a_size_that_is_known_beats_the_parameters() -> None:
    assert needed(card(variant(size_bytes=GB))) < 3 * GB
    assert needed(card(), size_bytes=GB) == needed(card(variant(size_bytes=GB)))


def test_models_of_images_have_no_cache() -> None:
    model = card(variant("BF16", format="safetensors"), tasks=("image",), parameters=GB)
    assert needed(model) == needed(model, tokens=1_000_000)
    assert needed(model) > 2.4 * GB


@pytest.mark.parametrize(
    ("fields", "of_variant"),
    [
        ({"parameters": None}, {}),
        ({}, {"quantisation": None}),
        ({}, {"quantisation": "NOBODY-KNOWS"}),
    ],
)
def test_what_cannot_be_known_is_said_to_be_unknown(
    fields: dict[str, Any], of_variant: dict[str, Any]
) -> None:
    model = card(variant(**of_variant), **fields)
    fit = estimate(model, model.variants[0], machine(64 * GB))
    assert fit.verdict == "unknown"
    assert fit.memory_bytes is None
    assert fit.message


def test_the_largest_gpu_is_taken_before_memory_where_both_do() -> None:
    fit = estimate(card(), variant(), machine(64 * GB, 4 * GB, 24 * GB))
    assert (fit.verdict, fit.where) == ("fits", "gpu")
    assert "GPU 1" in fit.message


def test_memory_is_taken_where_no_gpu_is_large_enough() -> None:
    fit = estimate(card(), variant(), machine(64 * GB, 4 * GB))
    assert (fit.verdict, fit.where) == ("fits", "memory")


def test_the_sentence_says_how_much_of_what() -> None:
    fit = estimate(card(), variant(), machine(2 * GB))
    assert fit.verdict == "too_large"
    assert "this machine's memory has 2.0 GB" in fit.message
    assert fit.memory_bytes is not None
    assert f"{fit.memory_bytes / GB:.1f} GB" in fit.message


ALIKE = (False, 10)
"""The effort of running a variant, where all are run in the same way."""


def chosen(model: ModelCard, inventory: Inventory, run: Sequence[str] = ("gguf",)) -> str:
    def fit(each: Variant) -> Fit:
        return estimate(model, each, inventory)

    return best_variant(model, lambda each: ALIKE if each.format in run else None, fit).name


LADDER = card(*(variant(name) for name in QUANTISATIONS))


def test_the_best_that_fits_is_chosen() -> None:
    assert chosen(LADDER, machine(GB, 64 * GB)) == "BF16"
    assert chosen(LADDER, machine(GB, 16 * GB)) == "Q8_0"
    assert chosen(LADDER, machine(GB, 12 * GB)) == "Q4_K_M"


def test_in_memory_speed_counts_for_more_than_bits_that_hardly_help() -> None:
    assert chosen(LADDER, machine(64 * GB)) == "Q4_K_M"
    assert chosen(LADDER, machine(10 * GB)) == "Q2_K"
    large = card(variant("BF16"), variant("Q8_0"))
    assert chosen(large, machine(64 * GB)) == "Q8_0"


def test_what_runs_as_it_is_comes_before_what_is_converted_first() -> None:
    model = card(variant("Q4_K_M"), variant("Q5_K_M", format="safetensors"))

    def effort(each: Variant) -> tuple[bool, int]:
        return each.format == "safetensors", 10

    def fit(each: Variant) -> Fit:
        return estimate(model, each, machine(64 * GB))

    assert best_variant(model, effort, fit).name == "Q4_K_M"


def test_the_smallest_is_chosen_where_none_fits() -> None:
    assert chosen(LADDER, machine(GB)) == "Q2_K"


def test_only_what_an_engine_here_runs_is_chosen() -> None:
    model = card(variant("Q4_K_M"), variant("BF16", format="safetensors"))
    assert chosen(model, machine(64 * GB)) == "Q4_K_M"
    assert chosen(model, machine(GB, 64 * GB), run=("safetensors", "gguf")) == "BF16"
    assert chosen(model, machine(GB, 64 * GB), run=()) == "BF16", "shown where none can be run"


def test_of_equals_the_cards_order_decides() -> None:
    model = card(variant("BF16", name="first"), variant("F16", name="second"))
    assert chosen(model, machine(64 * GB)) == "first"


def test_every_quantisation_has_fewer_bits_than_the_next() -> None:
    bits = [bits_of(variant(name)) or 0 for name in QUANTISATIONS]
    assert all(low < high for low, high in itertools.pairwise(bits))


sizes = st.integers(min_value=1, max_value=10**12)
cards = st.builds(
    lambda parameters, names, kv, task: card(
        *(variant(name) for name in names),
        parameters=parameters,
        kv_bytes_per_token=kv,
        tasks=(task,),
    ),
    sizes,
    st.lists(st.sampled_from(QUANTISATIONS), min_size=1, unique=True),
    st.none() | st.integers(min_value=1, max_value=10**7),
    st.sampled_from(["chat", "image", "embedding"]),
)
machines = st.builds(
    lambda memory, gpus: machine(memory, *gpus), sizes, st.lists(sizes, max_size=4)
)


def best_fit(model: ModelCard, inventory: Inventory) -> Fit:
    fits = {each.name: estimate(model, each, inventory) for each in model.variants}
    return fits[best_variant(model, lambda _: ALIKE, lambda each: fits[each.name]).name]


def rank(fit: Fit) -> int:
    return ORDER.index(fit.verdict)


@given(cards, machines, sizes, st.booleans())
def test_more_memory_never_makes_a_verdict_worse(
    model: ModelCard, small: Inventory, more: int, another_gpu: bool
) -> None:
    gpus = [gpu.memory_bytes for gpu in small.gpus]
    large = machine(small.memory_bytes + more, *gpus, *([more] if another_gpu else []))
    for each in model.variants:
        assert rank(estimate(model, each, large)) <= rank(estimate(model, each, small))
    assert rank(best_fit(model, large)) <= rank(best_fit(model, small))


@given(cards, machines, st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_tokens_never_need_less(
    model: ModelCard, inventory: Inventory, tokens: int, more: int
) -> None:
    for each in model.variants:
        few = estimate(model, each, inventory, tokens=tokens)
        many = estimate(model, each, inventory, tokens=tokens + more)
        assert few.memory_bytes is not None
        assert many.memory_bytes is not None
        assert few.memory_bytes <= many.memory_bytes
        assert rank(few) <= rank(many)


@given(cards, machines)
def test_the_chosen_variant_is_the_best_of_those_that_fit_or_the_smallest(
    model: ModelCard, inventory: Inventory
) -> None:
    best = best_variant(model, lambda _: ALIKE, lambda each: estimate(model, each, inventory))
    fit = estimate(model, best, inventory)
    others = [(each, estimate(model, each, inventory)) for each in model.variants]
    if fit.verdict == "fits":
        fitting = [each for each, found in others if found.verdict == "fits"]
        bits = [bits_of(each) or 0 for each in fitting]
        if fit.where == "memory":
            # Beyond what helps, the fewest; as many as help, otherwise.
            bits = [each for each in bits if each < 7] or [min(bits)]
        assert (bits_of(best) or 0) == max(bits)
    else:
        assert not [each for each, found in others if found.verdict == "fits"]
        assert fit.memory_bytes == min(found.memory_bytes or 0 for _, found in others)


@given(cards, machines)
def test_what_fits_is_less_than_there_is(model: ModelCard, inventory: Inventory) -> None:
    fit = estimate(model, model.variants[0], inventory)
    there_is = max([inventory.memory_bytes, *(gpu.memory_bytes for gpu in inventory.gpus)])
    assert fit.memory_bytes is not None
    assert (fit.verdict == "too_large") or fit.memory_bytes < there_is


def test_a_projector_counts_like_weights() -> None:
    without = memory_needed(card(), variant(), 4096)
    with_it = memory_needed(card(), variant(), 4096, projector_bytes=GB)
    assert without is not None
    assert with_it == pytest.approx(without + 1.1 * GB, abs=2)
