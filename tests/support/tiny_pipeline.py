"""Makes a small Stable Diffusion of the real architecture, with weights that are random.

    python tiny_pipeline.py FOLDER [strict]

Runs in the runtime of diffusers. It makes pictures of 64x64 in hundredths of a second a step; what
they show is noise, but another prompt or seed makes another. `strict` gives it a safety
checker that takes exception to every picture.
"""

import json
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]
from diffusers import (  # type: ignore[import-not-found, unused-ignore]
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import (  # type: ignore[import-not-found, unused-ignore]
    StableDiffusionSafetyChecker,
)
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Of letters: each byte is a token, in a word or at its end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + at) for at in range(256 - len(letters))]
    words = [*letters, *(f"{each}</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def checker() -> StableDiffusionSafetyChecker:
    parts = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision = {**parts, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    made = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=32))
    # How like a concept a picture may be, as a cosine: none is that unlike.
    made.concept_embeds_weights.data.fill_(-2.0)
    return made


def main() -> None:
    folder = Path(sys.argv[1])
    torch.manual_seed(7)
    words = tokenizer(folder / "tokenizer")
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=2,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        sample_size=64,
    )
    # Random weights leave little of a prompt: made louder, it is seen in the picture.
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_" in name and name.endswith("weight"):
                weight.mul_(6)
    strict = "strict" in sys.argv[2:]
    sides = {"height": 32, "width": 32}
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=words,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        safety_checker=checker() if strict else None,
        feature_extractor=(
            CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=sides) if strict else None
        ),
        requires_safety_checker=strict,
    ).save_pretrained(str(folder))


if __name__ == "__main__":
    main()
