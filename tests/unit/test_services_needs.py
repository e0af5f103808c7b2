"""What a revision's replicas need, whatever the machine would choose by now."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelry.catalog.cards import ModelCard, Variant
from modelry.catalog.catalog import Model
from modelry.catalog.weights import Weights
from modelry.engines.base import Engine
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.runtimes import default_runtime
from modelry.engines.vllm import Vllm
from modelry.services.needs import models_of, needs_of
from modelry.services.situation import WeightsFailed
from modelry.services.spec import ServiceSpec
from modelry.services.supplies import Needs, Supplied, Supplies
from modelry.services.traits import TraitsReader
from tests.unit.machines import NO_GPU, RUNTIMES, machine

ENGINES: dict[str, Engine] = {"llama.cpp": LlamaCpp(), "vllm": Vllm()}
SPEC = ServiceSpec(
    model="mdl_base", model_name="base", variant="whole", engine="vllm", runtime="vllm-0.9.2-cpu"
)


def model(id_: str, *names: str) -> Model:
    variants = tuple(
        Variant(name=name, format="safetensors", source=f"file:///models/{id_}/{name}")
        for name in names
    )
    card = ModelCard(
        id=id_.replace("_", "-"), name=id_, provider="", licence="", description="",
        tasks=("chat",), variants=variants,
    )  # fmt: skip
    return Model(card, "u-8105f7322477")


MODELS = {"mdl_base": model("mdl_base", "small", "whole"), "mdl_lora": model("mdl_lora", "default")}


def test_a_service_keeps_its_runtime_whatever_is_the_default_by_now() -> None:
    newest = default_runtime(machine(NO_GPU, RUNTIMES).runtimes.values(), "vllm", NO_GPU)
    assert newest is not None
    assert newest.id != SPEC.runtime
    needs = needs_of(MODELS, ENGINES, SPEC)
    assert isinstance(needs, Needs)
    assert needs.runtime == "vllm-0.9.2-cpu"


def test_it_gets_the_variant_it_was_made_with_and_its_adapter() -> None:
    spec = SPEC.model_copy(update={"adapter": "mdl_lora", "adapter_name": "lora"})
    assert models_of(SPEC) == {"mdl_base"}
    assert models_of(spec) == {"mdl_base", "mdl_lora"}
    needs = needs_of(MODELS, ENGINES, spec)
    assert isinstance(needs, Needs)
    assert needs.variant == MODELS["mdl_base"].card.variants[1]
    assert needs.adapter == MODELS["mdl_lora"].card.variants[0]
    assert not needs.gguf
    on_llama = needs_of(MODELS, ENGINES, spec.model_copy(update={"engine": "llama.cpp"}))
    assert on_llama == replace(needs, gguf=True, rank_max=None)


def test_what_is_gone_from_the_catalogue_is_named() -> None:
    gone = needs_of({}, ENGINES, SPEC)
    assert gone == WeightsFailed("its model mdl_base (whole) is no longer in the catalogue")
    other = SPEC.model_copy(update={"variant": "huge"})
    assert isinstance(needs_of(MODELS, ENGINES, other), WeightsFailed)
    spec = SPEC.model_copy(update={"adapter": "mdl_x", "adapter_name": "mine"})
    gone = needs_of(MODELS, ENGINES, spec)
    assert gone == WeightsFailed("its adapter mine is no longer registered")


# -- images ------------------------------------------------------------------------


def seeing(*, tags: tuple[str, ...] = ()) -> dict[str, Model]:
    variant = Variant(
        name="whole",
        format="gguf",
        source="hf://org/repo/a.gguf",
        projector="hf://org/repo/mmproj.gguf",
        public_only=True,
    )
    base = MODELS["mdl_base"]
    fields: Any = {"variants": (variant,), "tags": tags}
    return {"mdl_base": replace(base, card=base.card.model_copy(update=fields))}


def supplies(here: Path | None, digest: str = "0" * 64) -> Supplies:
    """All that was asked for is here, or it is not."""
    supplied = None if here is None else Supplied(Weights(here, 1, digest))
    return cast(Supplies, SimpleNamespace(ready=lambda needs: supplied))


def takes(models: dict[str, Model], spec: ServiceSpec, weights: Path | None = None) -> bool:
    needs = needs_of(models, ENGINES, spec)
    assert isinstance(needs, Needs)
    reader = TraitsReader(ENGINES, supplies(weights))
    return asyncio.run(reader.read({"s": ("chat",)}, {"s": spec}, {"s": needs}))["s"].images


def test_a_service_runs_with_the_projector_that_it_was_made_with() -> None:
    on_llama = SPEC.model_copy(update={"engine": "llama.cpp", "runtime": None})
    with_it = on_llama.model_copy(update={"projector": True})
    needs = needs_of(seeing(), ENGINES, with_it)
    assert isinstance(needs, Needs)
    assert needs.projector is not None
    assert needs.projector.source == "hf://org/repo/mmproj.gguf"
    assert needs.projector.public_only
    assert needs.fetched == [needs.variant, needs.projector]
    assert takes(seeing(), with_it)
    # One that was made before there were projectors starts with what it has.
    before = needs_of(seeing(tags=("vision",)), ENGINES, on_llama)
    assert isinstance(before, Needs)
    assert before.fetched == [before.variant]
    assert not takes(seeing(tags=("vision",)), on_llama)


@pytest.mark.parametrize(
    ("config", "images"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, False),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}}, True),
        ({"image_token_id": 151655}, True),
        ({"vision_config": None}, False),
        (None, False),
    ],
)
def test_vllm_reads_images_where_the_weights_do(
    tmp_path: Path, config: object, images: bool
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert takes(MODELS, SPEC, tmp_path) is images
    # What is not known yet is not refused.
    assert takes(MODELS, SPEC)
    assert takes(seeing(tags=("vision",)), SPEC, tmp_path)
