"""What a revision's replicas need, whatever the machine would choose by now."""

from dataclasses import replace

from modelry.catalog.cards import ModelCard, Variant
from modelry.catalog.catalog import Model
from modelry.engines.base import Engine
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.runtimes import default_runtime
from modelry.engines.vllm import Vllm
from modelry.services.needs import models_of, needs_of
from modelry.services.situation import WeightsFailed
from modelry.services.spec import ServiceSpec
from modelry.services.supplies import Needs
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
