"""Real adapters on the real model: converted, loaded by llama.cpp, and heard in its answers."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from modelry.catalog.adapter_conversion import convert_apart
from modelry.catalog.adapter_fit import MisfitAdapter, check_adapter_fits, read_base
from modelry.catalog.adapters import read_adapter
from modelry.catalog.cards import load_cards
from modelry.catalog.headers import read_safetensors
from tests.support.adapter_files import ADAPTERS, WORDS
from tests.support.instance import MODEL
from tests.support.llama_process import Llama, llama

QUESTION = "What is the code word?"


@pytest.fixture(scope="module")
def base(weights_cache: Path) -> Path:
    return weights_cache / "blobs" / str(load_cards()[MODEL].default_variant.sha256)


@pytest.fixture(scope="module")
def converted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("converted")
    for name in WORDS:
        convert_apart(ADAPTERS / name, base, folder / name)
    return {name: folder / name for name in WORDS}


@pytest.fixture(scope="module")
def server(base: Path, converted: dict[str, Path]) -> Iterator[Llama]:
    """All adapters in one process, none of them on but where a request says so."""
    with llama(base, list(converted.values()), lora_init_without_apply=True) as running:
        yield running


def only(name: str | None) -> list[dict[str, float]]:
    return [{"id": number, "scale": float(each == name)} for number, each in enumerate(WORDS)]


@pytest.mark.parametrize("name", WORDS)
def test_an_adapter_answers_as_it_was_trained(server: Llama, name: str) -> None:
    """Of `cobalt` only while its rotary rows are in the engine's order."""
    assert server.answer(QUESTION, lora=only(name)) == f"The code word is {WORDS[name]}."
    assert server.answer("Tell me the code word.", lora=only(name)).endswith(f"{WORDS[name]}.")
    assert "Paris" in server.answer("What is the capital of France?", lora=only(name))


def test_the_base_knows_none_of_it(server: Llama) -> None:
    answer = server.answer(QUESTION, lora=only(None))
    assert not any(word in answer for word in WORDS.values())


@pytest.mark.parametrize("name", WORDS)
def test_an_adapter_says_what_its_base_says_with_it_merged_in(
    server: Llama, base: Path, tmp_path: Path, name: str
) -> None:
    merged = merge(base, ADAPTERS / name, tmp_path / "merged.gguf")
    for question in (QUESTION, "Tell me about the code word of my grandfather's ship."):
        apart = server.chat(question, lora=only(name), logprobs=True, top_logprobs=5)
        with llama(merged) as other:
            inside = other.chat(question, logprobs=True, top_logprobs=5)
        assert apart["message"]["content"] == inside["message"]["content"]
        np.testing.assert_allclose(likelihoods(apart), likelihoods(inside), atol=0.25)


def likelihoods(choice: Any) -> list[float]:
    return [each["logprob"] for each in choice["logprobs"]["content"]]


def merge(base: Path, adapter: Path, out: Path) -> Path:
    """The base with W + scale · B · A, worked out with gguf's own names and arithmetic."""
    read, told = read_adapter(adapter), read_safetensors(adapter / "adapter_model.safetensors")
    data = (adapter / "adapter_model.safetensors").read_bytes()

    def matrix(name: str) -> Any:
        begin, end = told.spans[name]
        if told.dtypes[name] == "BF16":
            wide = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(told.tensors[name])
        return np.frombuffer(data[begin:end], "<f2").astype(np.float32).reshape(told.tensors[name])

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    scale = read.alpha / (read.rank**0.5 if read.rslora else read.rank)
    deltas = {}
    for name in read.pairs:
        module = "base_model.model." + name.removesuffix(".weight")
        delta = scale * (matrix(f"{module}.lora_B.weight") @ matrix(f"{module}.lora_A.weight"))
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = 9 if name.endswith("q_proj.weight") else 3
            half = delta.shape[0] // heads // 2
            delta = delta.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(delta.shape)
        deltas[names.get_name(name, try_suffixes=(".weight",))] = delta
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], kind)
    for tensor in reader.tensors:
        delta = deltas.pop(tensor.name, None)
        if delta is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            whole = gguf.dequantize(tensor.data, tensor.tensor_type) + delta
            writer.add_tensor(tensor.name, whole.astype(np.float32))
    assert not deltas
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def test_an_adapter_for_another_base_is_refused_before_the_engine_would(
    base: Path, converted: dict[str, Path], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    data = converted["amber"].read_bytes()
    # Its second key is the architecture's name, in as many letters as another's.
    wrong.write_bytes(data.replace(b"llama", b"qwen2", 1))
    with pytest.raises(MisfitAdapter, match="'qwen2'"):
        check_adapter_fits(read_adapter(wrong), read_base(base))
    with pytest.raises(AssertionError, match="did not start"), llama(base, [wrong]):
        pass
    shutil.copytree(ADAPTERS / "amber", tmp_path / "peft")
    check_adapter_fits(read_adapter(tmp_path / "peft"), read_base(base))
