"""Which files of a repository a model is made of, and which may run a program."""

import pytest

from modelry.catalog.formats import Allowed, format_of, is_pickle, needed, quantisation_of
from modelry.errors import InvalidRequest


@pytest.mark.parametrize(
    ("names", "format"),
    [
        (["a.gguf"], "gguf"),
        (["config.json", "model.safetensors"], "safetensors"),
        (["model.safetensors", "model.gguf"], "gguf"),
        (["model.onnx"], "onnx"),
        (["model.bin", "config.json", "vocabulary.txt"], "ctranslate2"),
        (["A.GGUF"], "gguf"),
        (["adapter_config.json", "adapter_model.safetensors"], "lora"),
        (["adapter_config.json", "adapter_model.safetensors", "model.safetensors"], "safetensors"),
        (["adapter_config.json", "adapter_model.safetensors", "a.gguf"], "gguf"),
        (["adapter_model.safetensors"], "safetensors"),
    ],
)
def test_the_format_is_known_by_names(names: list[str], format: str) -> None:
    assert format_of(names) == format


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/x.pt", "m.CKPT", "weights.pkl"])
def test_pickles_are_told_by_their_names(name: str) -> None:
    assert is_pickle(name)
    with pytest.raises(InvalidRequest) as caught:
        format_of(["config.json", name])
    assert caught.value.code == "unsafe_weights"
    assert name in caught.value.message


def test_what_is_no_model_is_said_to_be_none() -> None:
    with pytest.raises(InvalidRequest, match="no weights"):
        format_of(["README.md"])


def test_a_folder_of_safetensors_takes_its_tokenizer_along() -> None:
    names = [
        "config.json", "generation_config.json", "merges.txt", "tokenizer.model", "vocab.json",
        "chat_template.jinja", "LICENSE", "README.md", "model.safetensors",
        "model.safetensors.index.json", "pytorch_model.bin.index.json", "pytorch_model.bin",
        "flax_model.msgpack", "tf_model.h5", "run.py", ".gitattributes", "onnx/model.onnx",
        "original/consolidated.00.pth",
    ]  # fmt: skip
    assert needed(names) == sorted(names[:10])


def test_an_embedding_model_takes_along_how_it_pools() -> None:
    names = [
        "1_Pooling/config.json", "2_Normalize/README.md", "config.json", "model.safetensors",
        "modules.json", "onnx/config.json", "onnx/model.onnx", "tokenizer.json",
    ]  # fmt: skip
    kept = ["1_Pooling/config.json", *names[2:5], "tokenizer.json"]
    assert needed(names) == kept
    without = [name for name in names if name != "modules.json"]
    assert needed(without) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_that_speaks_takes_its_voices_along() -> None:
    names = ["model.onnx", "tokenizer.json", "voices/af_a.bin", "voices/bm_b.bin"]
    assert needed([*names, "voices/af_a.npz", "samples/a.wav", "other/c.bin"]) == names


def test_an_adapter_needs_its_configuration_and_weights() -> None:
    names = [
        "LICENSE", "README.md", "adapter_config.json", "adapter_model.safetensors",
        "tokenizer.json", "added_tokens.json", "training_args.bin", "optimizer.pt",
        "checkpoint-8/adapter_config.json", "checkpoint-8/adapter_model.safetensors",
    ]  # fmt: skip
    assert needed(names) == names[:4]


def test_an_adapter_in_a_pickle_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        needed(["adapter_config.json", "adapter_model.bin"])
    assert caught.value.code == "unsafe_weights"


def test_a_gguf_file_needs_nothing_beside_it() -> None:
    assert needed(["README.md", "a.Q4.gguf", "config.json"]) == ["a.Q4.gguf"]


def test_the_parts_of_a_split_gguf_file_belong_together() -> None:
    parts = [f"m-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    assert needed(["README.md", *parts]) == parts
    with pytest.raises(InvalidRequest, match="4 GGUF files"):
        needed([*parts, "m-00001-of-00001.gguf"])


def test_among_quantisations_the_usual_one_is_recommended() -> None:
    with pytest.raises(InvalidRequest) as caught:
        needed(["m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"])
    assert "m-Q4_K_M.gguf" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("source", "quantisation"),
    [
        ("hf://org/repo/Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("hf://org/repo/qwen2.5-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("hf://org/repo/nomic-embed-text-v1.5.f16.gguf", "F16"),
        ("hf://org/repo/m-BF16.gguf", "BF16"),
        ("hf://org/repo/Qwen3.6-35B-A3B-UD-Q4_K_M.gguf", "UD-Q4_K_M"),
        ("hf://org/repo/m-IQ4_XS.gguf", "IQ4_XS"),
        ("hf://org/repo/m-Q8_0-00001-of-00003.gguf", "Q8_0"),
        ("file:///models/q4_0.gguf", "Q4_0"),
        ("hf://org/repo/model.gguf", None),
        ("hf://org/F16-models/model.gguf", None),
        ("hf://org/repo", None),
        ("hf://org/repo/model-F16.safetensors", None),
    ],
)
def test_a_quantisation_is_read_off_a_name(source: str, quantisation: str | None) -> None:
    assert quantisation_of(source) == quantisation


def test_weights_that_are_there_twice_come_once() -> None:
    split = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert needed([*split, index, "consolidated.safetensors"]) == sorted([*split, index])
    names = ["model.safetensors", "model.fp32-00001-of-00001.safetensors", "config.json"]
    assert needed(names) == ["config.json", "model.safetensors"]
    assert needed(["consolidated.safetensors", "params.json"]) == [
        "consolidated.safetensors",
        "params.json",
    ]


PICKLED = [
    "config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin",
    "pytorch_model.bin.index.json", "vocab.txt",
]  # fmt: skip
BESIDE = ["modeling_x.py", "optimizer.pt", "training_args.bin", "model.safetensors.index.json"]


def test_weights_in_pickles_are_a_format_where_they_are_allowed() -> None:
    names = [*PICKLED, *BESIDE]
    assert format_of(names, Allowed(pickles=True)) == "pytorch"
    assert needed(names, Allowed(pickles=True)) == PICKLED
    with pytest.raises(InvalidRequest) as caught:
        needed(names, Allowed(programs=True))
    assert "--allow-pickles" in str(caught.value.hint)


def test_pickles_come_only_where_there_is_nothing_better() -> None:
    names = ["model.safetensors", "pytorch_model.bin", "config.json"]
    assert format_of(names, Allowed(pickles=True)) == "safetensors"
    assert needed(names, Allowed(pickles=True)) == ["config.json", "model.safetensors"]


def test_what_a_training_leaves_is_no_model() -> None:
    with pytest.raises(InvalidRequest):
        format_of(["training_args.bin", "optimizer.pt"], Allowed(pickles=True))


def test_programs_come_along_only_where_they_are_allowed() -> None:
    names = ["config.json", "model.safetensors", "modeling_x.py", "scripts/train.py"]
    assert needed(names) == ["config.json", "model.safetensors"]
    allowed = needed(names, Allowed(programs=True))
    assert allowed == ["config.json", "model.safetensors", "modeling_x.py"]
