"""Which engine runs a model, at which version, and what that takes."""

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.choice import Choice, Machine, Wanted
from modelry.catalog.choice import choose as choose_or_say
from modelry.catalog.formats import Format
from modelry.engines.inventory import Inventory
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.vllm import Vllm
from modelry.errors import InvalidRequest
from tests.unit.machines import NO_GPU, RUNTIMES, TWO_GPUS, machine

CHAT = ("chat",)
CONVERTER = "gguf-converter-0.1.1-cpu"


def choose(
    there: Machine,
    format: Format,
    tasks: tuple[str, ...],
    engine: str | None = None,
    runtime: str | None = None,
) -> Choice:
    variant = Variant(name="default", format=format, source="file:///models/one")
    found = choose_or_say(there, variant, tasks, Wanted(engine, runtime))
    if isinstance(found, str):
        raise InvalidRequest(f"engine: {found}", param="engine")
    return found


def chosen(
    there: Machine, format: Format, engine: str | None = None, runtime: str | None = None
) -> tuple[str, str | None, str | None]:
    """Engine, runtime and converter, by name."""
    choice = choose(there, format, CHAT, engine, runtime)
    return choice.engine.name, choice.runtime, choice.converter


@pytest.mark.parametrize(
    ("inventory", "format", "engine", "runtime", "found"),
    [
        (NO_GPU, "gguf", None, None, ("llama.cpp", None, None)),
        (TWO_GPUS, "gguf", None, None, ("llama.cpp", None, None)),
        (NO_GPU, "safetensors", None, None, ("llama.cpp", None, CONVERTER)),
        (TWO_GPUS, "safetensors", None, None, ("vllm", "vllm-0.10.0-cuda", None)),
        # As it is asked for.
        (NO_GPU, "safetensors", "vllm", None, ("vllm", "vllm-0.10.0-cpu", None)),
        (TWO_GPUS, "safetensors", "llama.cpp", None, ("llama.cpp", None, CONVERTER)),
        (NO_GPU, "safetensors", "vllm", "vllm-0.9.2-cpu", ("vllm", "vllm-0.9.2-cpu", None)),
        (TWO_GPUS, "safetensors", "vllm", "vllm-0.10.0-cpu", ("vllm", "vllm-0.10.0-cpu", None)),
        # A runtime says which engine it is of.
        (NO_GPU, "safetensors", None, "vllm-0.9.2-cpu", ("vllm", "vllm-0.9.2-cpu", None)),
    ],
)
def test_the_engine_that_suits_best_or_the_one_that_is_asked_for(
    inventory: Inventory,
    format: Format,
    engine: str | None,
    runtime: str | None,
    found: tuple[str, str | None, str | None],
) -> None:
    assert chosen(machine(inventory), format, engine, runtime) == found


def test_the_order_of_engines_does_not_count() -> None:
    for engines in ((LlamaCpp(), Vllm()), (Vllm(), LlamaCpp())):
        there = machine(TWO_GPUS, engines=engines)
        assert chosen(there, "safetensors")[0] == "vllm"
        assert chosen(there, "gguf")[0] == "llama.cpp"


def test_without_a_converter_a_processor_runs_safetensors_by_vllm() -> None:
    there = machine(NO_GPU, ["vllm-0.10.0-cpu"])
    assert chosen(there, "safetensors") == ("vllm", "vllm-0.10.0-cpu", None)


def test_without_a_runtime_of_vllm_gpus_do_not_help() -> None:
    assert chosen(machine(TWO_GPUS, [CONVERTER]), "safetensors") == ("llama.cpp", None, CONVERTER)


@pytest.mark.parametrize(
    ("there", "format", "tasks", "engine", "runtime", "told"),
    [
        (machine(), "gguf", CHAT, "vllm", None, ["vLLM runs safetensors weights, not gguf"]),
        (
            machine(),
            "lora",
            CHAT,
            None,
            None,
            ["it is an adapter, which is deployed with its base"],
        ),
        (
            machine(),
            "safetensors",
            ("chat", "image"),
            None,
            None,
            ["llama.cpp runs GGUF weights, not safetensors", "vLLM does not do image here"],
        ),
        (machine(runtimes=()), "safetensors", CHAT, "vllm", None, ["vllm has no runtime"]),
        (
            machine(runtimes=()),
            "safetensors",
            CHAT,
            None,
            None,
            ["there is no converter here", "vllm has no runtime for this machine"],
        ),
        (machine(), "safetensors", CHAT, "vllm", CONVERTER, [f"vllm has no runtime '{CONVERTER}'"]),
        (
            machine(),
            "safetensors",
            CHAT,
            "vllm",
            "vllm-0.10.0-cuda",
            ["vllm-0.10.0-cuda needs a GPU, and there is none"],
        ),
        (
            machine(),
            "gguf",
            CHAT,
            "llama.cpp",
            "vllm-0.10.0-cpu",
            ["llama.cpp is embedded: it has one version"],
        ),
        (
            machine(),
            "gguf",
            CHAT,
            None,
            "vllm-0.10.0-cpu",
            ["llama.cpp is embedded", "vLLM runs safetensors weights, not gguf"],
        ),
    ],
)
def test_where_none_can_each_engines_reason_is_told(
    there: Machine,
    format: Format,
    tasks: tuple[str, ...],
    engine: str | None,
    runtime: str | None,
    told: list[str],
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(there, format, tasks, engine, runtime)
    assert caught.value.param == "engine"
    assert caught.value.message.startswith("engine: ")
    for each in told:
        assert each in caught.value.message
    assert caught.value.message.count(";") == len(told) - 1


def test_an_engine_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(machine(), "gguf", CHAT, "sglang")
    assert caught.value.message == "engine: there is no engine 'sglang'"
    assert caught.value.hint == "there are: llama.cpp, vllm"


def test_a_runtime_that_there_is_not_is_told() -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(machine(), "gguf", CHAT, None, "vllm-0.1.0-cpu")
    assert caught.value.param == "runtime"
    assert caught.value.message == "runtime: there is no runtime 'vllm-0.1.0-cpu'"


def test_a_machine_without_gpus_never_gets_a_runtime_for_them() -> None:
    with pytest.raises(InvalidRequest, match="no runtime for this machine"):
        choose(machine(NO_GPU, ["vllm-0.10.0-cuda"]), "safetensors", CHAT, "vllm")
    assert chosen(machine(NO_GPU, RUNTIMES), "safetensors", "vllm")[1] == "vllm-0.10.0-cpu"
