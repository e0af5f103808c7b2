"""Which files of a diffusers repository come, and which pipelines are refused."""

import json
from pathlib import Path

import pytest

from modelry.catalog.cards import Variant
from modelry.catalog.formats import Allowed, format_of, needed
from modelry.catalog.pipelines import strange_part
from modelry.catalog.refusals import UnsafeWeights, check_config
from modelry.errors import InvalidRequest

# Stable Diffusion XL's repository, as it is on the hub, but for what is there several times.
SDXL = [
    ".gitattributes", "01.png", "LICENSE.md", "README.md", "comparison.png", "model_index.json",
    "pipeline.png", "scheduler/scheduler_config.json", "sd_xl_base_1.0.safetensors",
    "sd_xl_base_1.0_0.9vae.safetensors", "sd_xl_offset_example-lora_1.0.safetensors",
    "text_encoder/config.json", "text_encoder/flax_model.msgpack",
    "text_encoder/model.fp16.safetensors", "text_encoder/model.onnx",
    "text_encoder/model.safetensors", "text_encoder/openvino_model.bin",
    "text_encoder/openvino_model.xml", "text_encoder_2/config.json",
    "text_encoder_2/model.onnx_data", "text_encoder_2/model.safetensors", "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
    "unet/config.json", "unet/diffusion_flax_model.msgpack",
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "unet/model.onnx", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    "vae_decoder/config.json", "vae_decoder/model.onnx", "vae_decoder/openvino_model.bin",
]  # fmt: skip
SDXL_NEEDED = [
    "LICENSE.md", "README.md", "model_index.json", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/model.safetensors", "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "layers": [9, 18, 27],
}


def test_a_pipeline_takes_its_components_and_none_of_their_copies() -> None:
    assert needed(SDXL) == SDXL_NEEDED
    assert format_of(SDXL_NEEDED) == "diffusers"


def test_weights_in_parts_come_with_their_index() -> None:
    parts = [f"transformer/diffusion_pytorch_model-0000{at}-of-00002.safetensors" for at in (1, 2)]
    index = "transformer/diffusion_pytorch_model.safetensors.index.json"
    stray = "transformer/diffusion_pytorch_model.safetensors.index.fp16.json"
    names = ["model_index.json", "transformer/config.json", *parts, index, stray]
    assert needed(names) == sorted(set(names) - {stray})


def test_a_variant_comes_where_there_is_nothing_else() -> None:
    unet = "unet/diffusion_pytorch_model.{}.safetensors"
    parts = [f"text_encoder/model.fp16-0000{at}-of-00002.safetensors" for at in (1, 2)]
    names = [
        "model_index.json", "unet/config.json", unet.format("fp16"), unet.format("non_ema"),
        "text_encoder/config.json", *parts, "text_encoder/model.safetensors.index.fp16.json",
    ]  # fmt: skip
    assert needed(names) == sorted(set(names) - {unet.format("non_ema")})


@pytest.mark.parametrize("allowed", [Allowed(), Allowed(pickles=True)])
def test_a_component_in_pickles_alone_is_refused(allowed: Allowed) -> None:
    names = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"]
    with pytest.raises(InvalidRequest) as caught:
        needed(names, allowed)
    assert caught.value.code == "unsafe_weights"
    assert "unet/diffusion_pytorch_model.bin" in caught.value.message


def test_programs_of_a_pipeline_never_come() -> None:
    names = ["model_index.json", "pipeline.py", "unet/config.json", "unet/my_unet.py"]
    assert needed(names, Allowed(programs=True)) == ["model_index.json", "unet/config.json"]


def test_a_pipeline_of_the_libraries_classes_is_taken() -> None:
    assert strange_part(INDEX) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"_class_name": ["pipeline", "MyPipeline"]},
        {"_class_name": None},
        {"unet": ["my_unet", "MyUnet"]},
        {"unet": ["os", "System"]},
        {"unet": ["diffusers", "loaders.evil"]},
        {"unet": ["transformers", "pipeline"]},
        {"unet": ["diffusers"]},
        {"unet": ["diffusers", None]},
        {"unet": [["diffusers"], "UNet2DConditionModel"]},
    ],
)
def test_what_could_be_a_program_of_the_repositorys_own_is_refused(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    file = tmp_path / "model_index.json"
    file.write_text(json.dumps({**INDEX, **changed}))
    variant = Variant(name="v", format="diffusers", source="hf://org/repo")
    with pytest.raises(UnsafeWeights, match=r"model_index\.json"):
        check_config(variant, "model_index.json", file)


def test_a_component_whose_configuration_names_a_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    variant = Variant(name="v", format="diffusers", source="hf://org/repo")
    with pytest.raises(UnsafeWeights, match="auto_map"):
        check_config(variant, "text_encoder/config.json", file)
