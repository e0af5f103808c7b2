"""Adapters that nobody vouches for: read, or refused with the reason, whatever they hold."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelry.catalog.adapter_fit import MisfitAdapter, check_adapter_fits, read_base
from modelry.catalog.adapters import LoraPair, UnusableAdapter, is_adapter, read_adapter
from modelry.catalog.headers import read_gguf
from modelry.errors import ModelryError
from tests.support.adapter_files import (
    ADAPTERS,
    GGUF_ADAPTER,
    GGUF_BASE,
    GGUF_PAIRS,
    GGUF_WEIGHTS,
    PAIRS,
    WORDS,
    Q,
    V,
    gguf_of,
    peft,
    safetensors_of,
)

A, B = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"


def write(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


# -- reading ---------------------------------------------------------------------------


def test_what_a_peft_folder_says(tmp_path: Path) -> None:
    adapter = read_adapter(peft(tmp_path / "a"))
    assert (adapter.kind, adapter.rank, adapter.alpha, adapter.rslora) == ("peft", 2, 4.0, False)
    assert adapter.base_model == "org/base"
    assert adapter.target_modules == ("q_proj", "v_proj")
    assert adapter.pairs == {
        "model.layers.0.self_attn.q_proj.weight": LoraPair(2, 8, 8),
        "model.layers.1.self_attn.v_proj.weight": LoraPair(2, 8, 4),
    }
    assert adapter.size_bytes == (tmp_path / "a" / "adapter_model.safetensors").stat().st_size


def test_what_a_gguf_adapter_says(tmp_path: Path) -> None:
    shapes = {
        **GGUF_PAIRS,
        "token_embd.weight.lora_a": (2, 20),
        "token_embd.weight.lora_b": (2, 8),
        "blk.0.attn_norm.weight": (8,),
    }
    file = write(tmp_path / "a.gguf", gguf_of(GGUF_ADAPTER, shapes))
    adapter = read_adapter(file)
    assert (adapter.kind, adapter.architecture, adapter.alpha) == ("gguf", "llama", 4.0)
    assert adapter.pairs == {
        "blk.0.attn_q.weight": LoraPair(2, 8, 8),
        "blk.1.attn_v.weight": LoraPair(2, 8, 4),
        "token_embd.weight": LoraPair(2, 8, 20),
    }
    assert adapter.target_modules == ("attn_q", "attn_v", "token_embd")
    assert is_adapter(read_gguf(file))


@pytest.mark.parametrize("name", WORDS)
def test_real_adapters_are_read(name: str) -> None:
    adapter = read_adapter(ADAPTERS / name)
    assert adapter.rank == (4 if name == "cobalt" else 2)
    assert adapter.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "q_proj" in adapter.target_modules


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"peft_type": ["LORA"]}, "peft_type"),
        ({"r": 0}, "r is 0"),
        ({"r": -1}, "r is -1"),
        ({"r": 10**6}, "r is 1000000"),
        ({"r": True}, "r is True"),
        ({"r": "2"}, "r is '2'"),
        ({"r": 3}, "says its rank is 3, and has rank 2"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"use_dora": True}, "DoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias: 'all'"),
        ({"lora_bias": True}, "biases"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_16"}, "trained on a changed base"),
        ({"init_lora_weights": {"a": []}}, "trained on a changed base"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnusableAdapter) as caught:
        read_adapter(peft(tmp_path / "a", config))
    assert reason in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "config",
    [
        {"lora_alpha": 4.5},
        {"init_lora_weights": "gaussian", "bias": "none", "modules_to_save": None},
        {"rank_pattern": {}, "unknown": {"to": "us"}, "base_model_name_or_path": 7},
    ],
)
def test_what_changes_nothing_is_let_pass(tmp_path: Path, config: dict[str, Any]) -> None:
    assert read_adapter(peft(tmp_path / "a", config)).rank == 2


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({}, "changes nothing"),
        ({A: (2, 8)}, "one half of a pair"),
        ({A: (2, 8), B: (8, 3)}, "do not pair: 2 × 8 and 8 × 3"),
        ({A: (0, 8), B: (8, 0)}, "rank 0"),
        ({A: (2, 0), B: (8, 2)}, "rank 2"),
        ({A: (2, 8, 1), B: (8, 2)}, "2 and 3 dimensions"),
        ({A: (16,), B: (8, 2)}, "dimensions"),
        ({**PAIRS, "base_model.model.lm_head.weight": (4, 8)}, "no part of plain LoRA"),
        ({**PAIRS, f"{Q}.lora_magnitude_vector.weight": (8,)}, "no part of plain LoRA"),
        ({**PAIRS, "base_model.model.x.lora_embedding_A": (2, 8)}, "no part of plain LoRA"),
        ({A.removeprefix("base_model."): (2, 8)}, "no part of plain LoRA"),
    ],
)
def test_tensors_that_do_not_pair_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    with pytest.raises(UnusableAdapter) as caught:
        read_adapter(peft(tmp_path / "a", shapes=shapes))
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b'{"r": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b" " * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_hostile_configuration_is_refused(tmp_path: Path, config: bytes, reason: str) -> None:
    folder = peft(tmp_path / "a")
    write(folder / "adapter_config.json", config)
    with pytest.raises(UnusableAdapter, match=reason):
        read_adapter(folder)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = peft(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UnusableAdapter) as caught:
        read_adapter(folder)
    assert caught.value.code == "unsafe_weights"


def test_what_is_no_adapter_is_said_to_be_none(tmp_path: Path) -> None:
    model = write(tmp_path / "model.gguf", gguf_of(GGUF_BASE, GGUF_WEIGHTS))
    weights = write(tmp_path / "adapter_model.safetensors", safetensors_of(PAIRS))
    for path, reason in [
        (tmp_path, "no adapter_config.json"),
        (tmp_path / "missing", "there is no adapter"),
        (model, "type is 'model'"),
        (weights, "no GGUF file"),
    ]:
        with pytest.raises(UnusableAdapter, match=reason):
            read_adapter(path)


@pytest.mark.parametrize(
    ("metadata", "shapes", "reason"),
    [
        ({"adapter.type": "control_vector"}, GGUF_PAIRS, "'control_vector'"),
        ({"adapter.lora.alpha": 0.0}, GGUF_PAIRS, "alpha is 0.0"),
        ({"adapter.lora.alpha": float("nan")}, GGUF_PAIRS, "alpha is nan"),
        ({"adapter.lora.alpha": 4}, GGUF_PAIRS, "alpha is 4"),
        ({}, {}, "changes nothing"),
        ({}, {"blk.0.attn_q.weight.lora_a": (8, 2)}, "one half"),
        ({}, {**GGUF_PAIRS, "blk.0.attn_q.weight": (8, 8)}, "no part of plain LoRA"),
        ({"general.architecture": 5}, GGUF_PAIRS, "architecture"),
    ],
)
def test_gguf_adapters_that_are_not_plain_are_refused(
    tmp_path: Path, metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    file = write(tmp_path / "a.gguf", gguf_of({**GGUF_ADAPTER, **metadata}, shapes))
    with pytest.raises(UnusableAdapter, match=reason):
        read_adapter(file)


# -- fitting ---------------------------------------------------------------------------


def gguf_base(tmp_path: Path, metadata: dict[str, Any], shapes: dict[str, Any]) -> Path:
    told = {**GGUF_BASE, **metadata}
    return write(tmp_path / "base.gguf", gguf_of(told, {**GGUF_WEIGHTS, **shapes}))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3"])
def test_an_adapter_fits_its_base(tmp_path: Path, architecture: str) -> None:
    told = {"general.architecture": architecture, f"{architecture}.block_count": 2}
    base = read_base(gguf_base(tmp_path, told, {}))
    check_adapter_fits(read_adapter(peft(tmp_path / "a")), base)
    made = gguf_of({**GGUF_ADAPTER, "general.architecture": architecture}, GGUF_PAIRS)
    check_adapter_fits(read_adapter(write(tmp_path / "a.gguf", made)), base)


@pytest.mark.parametrize(
    ("metadata", "shapes", "reason"),
    [
        ({}, {"blk.0.attn_q.weight": (8, 16)}, "blk.0.attn_q.weight as a matrix of 8 × 8"),
        ({}, {"blk.0.attn_q.weight": (8, 16)}, "base's is 16 × 8"),
        ({}, {"blk.1.attn_v.weight": (16, 4)}, "base's is 4 × 16"),
        ({"llama.block_count": 1}, {}, "2 layers or more, and the base has 1"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    base = read_base(gguf_base(tmp_path, metadata, shapes))
    file = write(tmp_path / "a.gguf", gguf_of(GGUF_ADAPTER, GGUF_PAIRS))
    for adapter in (peft(tmp_path / "a"), file):
        with pytest.raises(MisfitAdapter) as caught:
            check_adapter_fits(read_adapter(adapter), base)
        assert reason in caught.value.message


def test_an_architecture_that_differs_or_is_unknown_is_named(tmp_path: Path) -> None:
    base = read_base(gguf_base(tmp_path, {"general.architecture": "qwen9"}, {}))
    with pytest.raises(MisfitAdapter, match="'llama', and the base is 'qwen9'"):
        check_adapter_fits(
            read_adapter(write(tmp_path / "a.gguf", gguf_of(GGUF_ADAPTER, GGUF_PAIRS))), base
        )
    with pytest.raises(MisfitAdapter, match="'qwen9'") as caught:
        check_adapter_fits(read_adapter(peft(tmp_path / "a")), base)
    assert "give a GGUF adapter instead" in str(caught.value.hint)


def test_tensors_that_the_base_lacks_are_named(tmp_path: Path) -> None:
    head = "base_model.model.lm_head"
    for name, reason in [(head, "'output.weight'"), (Q.replace("q_proj", "x"), "not known")]:
        shapes = {f"{name}.lora_A.weight": (2, 8), f"{name}.lora_B.weight": (8, 2)}
        adapter = read_adapter(peft(tmp_path / "a", shapes=shapes))
        with pytest.raises(MisfitAdapter, match=reason):
            check_adapter_fits(adapter, read_base(gguf_base(tmp_path, {}, {})))


def test_two_names_for_one_tensor_are_refused(tmp_path: Path) -> None:
    twin = Q.replace("model.layers", "language_model.layers")
    shapes = {**PAIRS, f"{twin}.lora_A.weight": (2, 8), f"{twin}.lora_B.weight": (8, 2)}
    adapter = read_adapter(peft(tmp_path / "a", shapes=shapes))
    with pytest.raises(MisfitAdapter, match="twice"):
        check_adapter_fits(adapter, read_base(gguf_base(tmp_path, {}, {})))


def base_folder(folder: Path, weights: Mapping[str, tuple[int, ...]]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, (name, shape) in enumerate(weights.items()):
        write(folder / f"model-{number}.safetensors", safetensors_of({name: shape}))
    return folder


def test_a_safetensors_base_is_checked_over_all_its_files(tmp_path: Path) -> None:
    names = [each.removeprefix("base_model.model.") + ".weight" for each in (Q, V)]
    adapter = read_adapter(peft(tmp_path / "a"))
    whole = {names[0]: (8, 8), names[1]: (4, 8)}
    check_adapter_fits(adapter, read_base(base_folder(tmp_path / "base", whole)))
    packed = {names[0]: (8, 8), names[1].replace(".weight", ".qweight"): (1, 4)}
    check_adapter_fits(adapter, read_base(base_folder(tmp_path / "packed", packed)))
    for weights, reason in [
        ({names[0]: (8, 8), names[1]: (8, 4)}, "base's is 8 × 4"),
        ({names[0]: (8, 8)}, "2 layers or more, and the base has 1"),
        ({names[0]: (8, 8), names[1].replace("v_proj", "k_proj"): (4, 8)}, "does not have"),
    ]:
        base = read_base(base_folder(tmp_path / reason, weights))
        with pytest.raises(MisfitAdapter, match=reason):
            check_adapter_fits(adapter, base)


def test_a_gguf_adapter_wants_a_gguf_base(tmp_path: Path) -> None:
    base = read_base(base_folder(tmp_path / "base", {"x": (8, 8)}))
    adapter = read_adapter(write(tmp_path / "a.gguf", gguf_of(GGUF_ADAPTER, GGUF_PAIRS)))
    with pytest.raises(MisfitAdapter, match="no GGUF"):
        check_adapter_fits(adapter, base)
    with pytest.raises(MisfitAdapter, match="another adapter"):
        check_adapter_fits(adapter, read_base(tmp_path / "a.gguf"))


# -- whatever comes --------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["peft_type", "r", "lora_alpha", "bias", "use_dora", "use_rslora", "rank_pattern",
     "modules_to_save", "init_lora_weights", "base_model_name_or_path", "target_modules"]
)  # fmt: skip
FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(config=st.dictionaries(FIELDS, values, max_size=5))
def test_whatever_a_configuration_holds_it_is_read_or_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    refused = ""
    try:
        read_adapter(peft(tmp_path / "a", config))
    except ModelryError as error:
        refused = error.message
    assert len(refused) < 500
    assert refused.isprintable()


PEFT_WEIGHTS = safetensors_of(PAIRS)
GGUF_FILE = gguf_of(GGUF_ADAPTER, GGUF_PAIRS)


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=9)), max_size=6),
    end=st.integers(0, 2000),
)
def test_whatever_the_weights_hold_they_are_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, bytes]], end: int
) -> None:
    base = read_base(gguf_base(tmp_path, {}, {}))
    folder = peft(tmp_path / "a")
    for place, data in [
        (folder / "adapter_model.safetensors", PEFT_WEIGHTS),
        (tmp_path / "a.gguf", GGUF_FILE),
    ]:
        for at, piece in changes:
            at %= len(data)
            data = data[:at] + piece + data[at + len(piece) :]
        write(place, data[:end] if end % 3 == 0 else data)
        try:
            check_adapter_fits(read_adapter(folder if place.parent == folder else place), base)
        except ModelryError:
            pass


def test_the_configuration_in_the_data_is_what_peft_writes() -> None:
    for name in WORDS:
        config = json.loads((ADAPTERS / name / "adapter_config.json").read_text())
        assert config["peft_version"]
        assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
