"""A service's spec, of what its owner asked, the model, and the machine."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelry.access.principal import Principal
from modelry.catalog.cards import ModelCard, Variant
from modelry.catalog.catalog import Model
from modelry.catalog.choice import Machine
from modelry.catalog.fetches import Fetches
from modelry.catalog.formats import Format
from modelry.catalog.offers import Offers
from modelry.catalog.weights import WeightsStore
from modelry.engines.base import Defaults
from modelry.errors import InvalidRequest, ModelryError, PermissionDenied
from modelry.services.drafts import ADAPTER_IDLE_AFTER_S, Host, Wish, draft
from modelry.services.spec import Replicas, ServiceSpec
from tests.unit.machines import NO_GPU, TWO_GPUS, machine

CONVERTER = "gguf-converter-0.1.1-cpu"


def model(
    format: Format = "safetensors",
    name: str = "base",
    *,
    owner: str | None = "u-8105f7322477",
    context_tokens: int | None = None,
    defaults: Defaults | None = None,
) -> Model:
    variant = Variant(name="default", format=format, source=f"file:///models/{name}")
    card = ModelCard(
        id=f"mdl-{name}",
        name=name,
        provider="",
        licence="",
        description="",
        tasks=("chat",),
        context_tokens=context_tokens,
        defaults=defaults or Defaults(),
        variants=(variant,),
    )
    return Model(card, owner)


BASE = model()
GGUF = model("gguf")
ADAPTER = model("lora", "tuned")


def wish(**more: object) -> Wish:
    return replace(Wish("test", "base"), **more)  # type: ignore[arg-type]


def made(
    asked: Wish | None = None,
    base: Model = BASE,
    adapter: Model | None = None,
    hosts: list[Host] | None = None,
    there: Machine | None = None,
    operator: bool = False,
) -> ServiceSpec:
    there = there or machine()
    offers = Offers(there, Fetches(WeightsStore(Path(tempfile.mkdtemp()))))
    me = Principal("u-8105f7322477", "me", operator)
    return draft(asked or wish(), base, adapter, hosts or [], there, offers, me)


def refused(kind: type[ModelryError], param: str, asked: Wish, **more: object) -> ModelryError:
    with pytest.raises(kind) as caught:
        made(asked, **more)  # type: ignore[arg-type]
    assert caught.type is kind
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")
    return caught.value


def test_a_projector_comes_with_the_engine_that_takes_it() -> None:
    named = {"projector": "file:///models/mmproj.gguf"}
    for base, projector in ((GGUF, True), (BASE, False)):
        variant = base.card.variants[0].model_copy(update=named)
        card = base.card.model_copy(update={"variants": (variant,)})
        assert made(base=replace(base, card=card)).projector is projector
    assert not made(base=GGUF).projector


# -- engine and runtime --------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "there", "asked", "engine", "runtime", "converter", "gpus"),
    [
        (GGUF, machine(), wish(), "llama.cpp", None, None, 0),
        (GGUF, machine(TWO_GPUS), wish(), "llama.cpp", None, None, 0),
        (BASE, machine(), wish(), "llama.cpp", None, CONVERTER, 0),
        (BASE, machine(TWO_GPUS), wish(), "vllm", "vllm-0.10.0-cuda", None, 1),
        (BASE, machine(), wish(engine="vllm"), "vllm", "vllm-0.10.0-cpu", None, 0),
        (BASE, machine(), wish(runtime="vllm-0.9.2-cpu"), "vllm", "vllm-0.9.2-cpu", None, 0),
        (BASE, machine(TWO_GPUS), wish(gpus=2), "vllm", "vllm-0.10.0-cuda", None, 2),
        (BASE, machine(TWO_GPUS), wish(engine="llama.cpp"), "llama.cpp", None, CONVERTER, 0),
        (GGUF, machine(), wish(gpus=0), "llama.cpp", None, None, 0),
    ],
)
def test_what_nobody_says_the_machine_and_the_weights_decide(
    base: Model,
    there: Machine,
    asked: Wish,
    engine: str,
    runtime: str | None,
    converter: str | None,
    gpus: int,
) -> None:
    spec = made(asked, base, there=there)
    assert (spec.engine, spec.runtime, spec.gguf_converter) == (engine, runtime, converter)
    assert spec.gpus == gpus
    assert spec.host is None


def test_the_model_is_called_as_its_owner_calls_it() -> None:
    spec = made()
    assert (spec.model, spec.model_name, spec.variant) == ("mdl-base", "base", "default")
    assert made(base=model(owner=None)).model_name == "mdl-base"


def test_what_is_asked_for_is_what_it_gets() -> None:
    defaults = Defaults(temperature=0.2)
    asked = wish(
        replicas=Replicas(min=2),
        slots=7,
        context_tokens=512,
        idle_after_s=60.0,
        engine_args=("--threads", "1"),
    )
    spec = made(asked, model("gguf", defaults=defaults))
    assert (spec.replicas.min, spec.slots, spec.context_tokens) == (2, 7, 512)
    assert (spec.idle_after_s, spec.engine_args) == (60.0, ("--threads", "1"))
    assert spec.defaults == defaults
    usual = made(base=GGUF)
    assert (usual.replicas.min, usual.slots, usual.idle_after_s) == (1, 4, None)
    assert (usual.adapter, usual.adapter_name, usual.quantisation) == (None, None, None)


@pytest.mark.parametrize(
    ("longest", "asked", "given"),
    [(None, None, 4096), (2048, None, 2048), (131072, None, 4096), (131072, 131072, 131072),
     (None, 100000, 100000), (2048, 64, 64)],
)  # fmt: skip
def test_the_context_is_no_longer_than_the_model_was_trained_with(
    longest: int | None, asked: int | None, given: int
) -> None:
    spec = made(wish(context_tokens=asked), model(context_tokens=longest))
    assert spec.context_tokens == given


def test_a_longer_context_is_refused() -> None:
    error = refused(
        InvalidRequest, "context_tokens", wish(context_tokens=2049), base=model(context_tokens=2048)
    )
    assert "2048 tokens at most" in error.message


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (wish(engine="sglang"), "there is no engine 'sglang'"),
        (wish(engine="vllm", runtime="vllm-0.10.0-cuda"), "needs a GPU, and there is none"),
        (wish(engine="llama.cpp", runtime="vllm-0.9.2-cpu"), "it has one version"),
    ],
)
def test_an_engine_or_runtime_that_cannot_be_had_is_told(asked: Wish, told: str) -> None:
    assert told in refused(InvalidRequest, "engine", asked).message


def test_a_runtime_that_there_is_not_is_told() -> None:
    error = refused(InvalidRequest, "runtime", wish(runtime="vllm-0.1.0-cpu"))
    assert "no runtime 'vllm-0.1.0-cpu'" in error.message


def test_only_what_is_converted_is_quantised() -> None:
    spec = made(wish(quantisation="Q8_0"))
    assert (spec.quantisation, spec.gguf_converter) == ("Q8_0", CONVERTER)
    for asked, base in ((wish(), GGUF), (wish(engine="vllm"), BASE)):
        error = refused(
            InvalidRequest, "quantisation", replace(asked, quantisation="Q8_0"), base=base
        )
        assert "runs these weights as they are" in error.message
        assert error.hint


@pytest.mark.parametrize(
    ("there", "asked", "told"),
    [
        (machine(), wish(gpus=1), "llama.cpp uses none on this machine"),
        (machine(), wish(engine="vllm", gpus=1), "vllm uses none on this machine"),
        (machine(TWO_GPUS), wish(gpus=3), "this machine has 2"),
        (machine(TWO_GPUS), wish(gpus=0), "vllm needs one"),
        (machine(TWO_GPUS), wish(engine="llama.cpp", gpus=1), "llama.cpp uses none"),
    ],
)
def test_gpus_that_cannot_be_had_or_are_needed_are_told(
    there: Machine, asked: Wish, told: str
) -> None:
    assert told in refused(InvalidRequest, "gpus", asked, there=there).message


def test_a_runtime_for_processors_takes_no_gpu() -> None:
    there = machine(TWO_GPUS)
    spec = made(wish(runtime="vllm-0.10.0-cpu"), there=there)
    assert (spec.runtime, spec.gpus) == ("vllm-0.10.0-cpu", 0)
    refused(InvalidRequest, "gpus", wish(runtime="vllm-0.10.0-cpu", gpus=1), there=there)


def test_the_options_of_the_engine_are_checked() -> None:
    chat_template = wish(engine="vllm", engine_args=("--chat-template", "/etc/passwd"))
    refused(PermissionDenied, "engine_args", chat_template)
    assert made(chat_template, operator=True).engine_args == chat_template.engine_args
    reserved = wish(engine="vllm", engine_args=("--trust-remote-code",))
    refused(InvalidRequest, "engine_args", reserved, operator=True)
    variable: Mapping[str, str] = {"LD_PRELOAD": "x.so"}
    refused(PermissionDenied, "engine_env", wish(engine="vllm", engine_env=variable))
    # What llama.cpp cannot take, though anybody may give it.
    refused(InvalidRequest, "engine_args", wish(engine_args=("--threads", "many")), base=GGUF)


# -- adapters ------------------------------------------------------------------


def test_a_service_of_an_adapter_is_idle_while_nobody_calls_unless_it_is_to_stay() -> None:
    spec = made(adapter=ADAPTER)
    assert (spec.engine, spec.gguf_converter) == ("llama.cpp", CONVERTER)
    assert (spec.adapter, spec.adapter_name, spec.host) == ("mdl-tuned", "tuned", None)
    assert spec.idle_after_s == ADAPTER_IDLE_AFTER_S
    assert made(wish(idle_after_s=7.0), adapter=ADAPTER).idle_after_s == 7.0
    assert made(wish(stays=True), adapter=ADAPTER).idle_after_s is None
    assert made(wish(stays=True)).idle_after_s is None


@pytest.mark.parametrize("format", ["lora", "gguf"])
def test_an_adapter_of_either_form_goes_with_a_base(format: Format) -> None:
    assert made(base=GGUF, adapter=model(format, "tuned")).adapter == "mdl-tuned"


def test_a_whole_model_is_no_adapter() -> None:
    error = refused(InvalidRequest, "adapter", wish(), adapter=model(name="tuned"))
    assert error.message == "adapter: tuned is no adapter, but safetensors weights"
    assert error.hint


def test_an_adapter_alone_is_no_model() -> None:
    error = refused(InvalidRequest, "model", wish(), base=ADAPTER)
    assert "tuned is an adapter" in error.message
    assert error.hint == "modelry deploy BASE --adapter tuned"


def vllm_host() -> Host:
    asked = wish(engine="vllm", slots=9, idle_after_s=60.0, replicas=Replicas(min=2))
    return Host("svc_0123456789abcdef", made(asked))


def test_a_service_on_vllm_of_the_same_model_takes_the_adapter() -> None:
    host = vllm_host()
    spec = made(adapter=ADAPTER, hosts=[host])
    assert spec.host == "svc_0123456789abcdef"
    assert (spec.adapter, spec.adapter_name) == ("mdl-tuned", "tuned")
    assert (spec.model, spec.engine, spec.runtime) == ("mdl-base", "vllm", "vllm-0.10.0-cpu")
    # Its base's, of which it uses the replicas; its own idling is not its own.
    assert (spec.slots, spec.replicas.min, spec.idle_after_s) == (9, 2, None)
    assert host.spec.adapter is None
    assert made(wish(engine="vllm"), adapter=ADAPTER, hosts=[host]).host == host.service_id


def test_who_wants_another_engine_gets_replicas_of_its_own() -> None:
    spec = made(wish(engine="llama.cpp", slots=2), adapter=ADAPTER, hosts=[vllm_host()])
    assert (spec.host, spec.engine, spec.slots) == (None, "llama.cpp", 2)
    assert spec.idle_after_s == ADAPTER_IDLE_AFTER_S


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("runtime", "vllm-0.10.0-cpu"),
        ("quantisation", "F16"),
        ("replicas", Replicas(min=1)),
        ("slots", 4),
        ("context_tokens", 512),
        ("idle_after_s", 60.0),
        ("gpus", 0),
        ("engine_args", ("--seed", "1")),
        ("engine_env", {"VLLM_LOGGING_LEVEL": "DEBUG"}),
    ],
)
def test_on_the_replicas_of_its_base_an_adapter_has_no_settings_of_its_own(
    param: str, value: object
) -> None:
    error = refused(
        InvalidRequest, param, wish(**{param: value}), adapter=ADAPTER, hosts=[vllm_host()]
    )
    assert "has none of its own" in error.message


def test_a_model_without_a_service_is_run_with_its_adapter_by_an_engine_that_starts_with_it() -> (
    None
):
    """Though vLLM would suit the machine best: it takes adapters while it runs."""
    spec = made(adapter=ADAPTER, there=machine(TWO_GPUS))
    assert (spec.engine, spec.gguf_converter, spec.gpus) == ("llama.cpp", CONVERTER, 0)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (machine(), wish(engine="vllm")),
        (machine(TWO_GPUS), wish(engine="vllm")),
        (machine(TWO_GPUS), wish(runtime="vllm-0.10.0-cpu")),
        # Without a converter, llama.cpp cannot.
        (machine(NO_GPU, ["vllm-0.10.0-cpu"]), wish()),
    ],
)
def test_where_only_a_service_of_the_base_could_take_it_that_is_told(
    there: Machine, asked: Wish
) -> None:
    error = refused(InvalidRequest, "adapter", asked, adapter=ADAPTER, there=there)
    assert "no service of yours runs base with vllm" in error.message
    assert error.hint == "modelry deploy base --engine vllm, then again"
