"""Train the demo's image model: a small Stable Diffusion that draws emoji, 64 x 64 pixels.

    train_emoji_diffusion.py autoencoder --minutes 60    pictures to latents and back
    train_emoji_diffusion.py diffusion --minutes 45      captions to latents
    train_emoji_diffusion.py assemble                    the folder of a diffusers pipeline
    train_emoji_diffusion.py measure                     how good that folder is

Each step reads what the one before wrote to `--work`; a training step that is started again
goes on from its last state. On two cores the two take about as long as the minutes above.

The pictures are those of Noto Color Emoji (Debian's `fonts-noto-color-emoji`, SIL Open Font
Licence 1.1), the captions the short names of Unicode's CLDR (PyPI's `emoji`). The weights are
made from them alone, and are under the SIL Open Font Licence 1.1 as well.

Needs `train_image_requirements.txt` and the font; see `--font`.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]
import torch.nn.functional as F  # type: ignore[import-not-found]  # noqa: N812
from diffusers import (  # type: ignore[import-not-found]
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from emoji_pictures import FONT, SIDE, Pair, pairs
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # type: ignore[import-not-found]
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # type: ignore[import-not-found]

LATENT_SIDE, LATENT_CHANNELS = 8, 8
TOKENS = 24
AVERAGE_DECAY = 0.999


def tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """N x 3 x SIDE x SIDE, from -1 to 1."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return (stacked / 127.5 - 1).contiguous(memory_format=torch.channels_last)


class Clock:
    """How much of a step's time is over, kept across starts; and its learning rate."""

    def __init__(self, minutes: float, spent: float, peak: float) -> None:
        self._seconds, self._spent, self._peak = minutes * 60, spent, peak
        self._began = time.monotonic()

    def spent(self) -> float:
        return self._spent + time.monotonic() - self._began

    def over(self) -> float:
        return min(1.0, self.spent() / self._seconds)

    def rate(self) -> float:
        over = self.over()
        return self._peak * min(1.0, over / 0.02 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * over))


class Training:
    """A module on its way, with the moving average of its parameters, which is what is kept in the
    end. Its state is written to `file` every minute, and found there by the next start.
    """

    def __init__(self, module: torch.nn.Module, file: Path, minutes: float, peak: float) -> None:
        self.step = 0
        self._module, self._file = module, file
        self._optimiser = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=1e-4)
        self._average = {name: value.clone() for name, value in module.state_dict().items()}
        spent = 0.0
        if file.exists():
            state = torch.load(file, weights_only=True)
            module.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._average, spent, self.step = state["average"], state["spent"], state["step"]
        self.clock = Clock(minutes, spent, peak)
        self._saved = time.monotonic()

    def learn(self, loss: torch.Tensor) -> None:
        """One step down from where `loss` was computed."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.clock.rate()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimiser.step()
        self.step += 1
        keep = min(AVERAGE_DECAY, self.step / (self.step + 10))
        for name, value in self._module.state_dict().items():
            self._average[name].lerp_(value.detach(), 1 - keep)
        if time.monotonic() - self._saved > 60 or self.clock.over() >= 1:
            self._write()

    def _write(self) -> None:
        scratch = self._file.with_suffix(".new")
        torch.save(
            {
                "model": self._module.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "average": self._average,
                "spent": self.clock.spent(),
                "step": self.step,
            },
            scratch,
        )
        scratch.replace(self._file)
        self._saved = time.monotonic()


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 24, 48, 64),
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
    )


def train_autoencoder(work: Path, found: list[Pair], minutes: float) -> None:
    torch.manual_seed(1)
    model = autoencoder().to(memory_format=torch.channels_last)
    training = Training(model, work / "autoencoder.pt", minutes, peak=2e-3)
    clock = training.clock
    pictures = tensor([pair.picture for pair in found])
    while clock.over() < 1:
        batch = pictures[torch.randint(len(pictures), (16,))]
        # Half as long in half precision; the last tenth, in full, makes it exact.
        with torch.autocast("cpu", torch.bfloat16, enabled=clock.over() < 0.9):
            code = model.encode(batch).latent_dist
            back = model.decode(code.sample()).sample.float()
        # The error itself is what is measured in the end; that of edges keeps them sharp.
        edges = sum(F.l1_loss(back.diff(dim=axis), batch.diff(dim=axis)) for axis in (2, 3))
        loss = F.mse_loss(back, batch) + 0.1 * F.l1_loss(back, batch) + 0.1 * edges
        training.learn(loss + 2e-6 * code.kl().mean())
        if training.step % 500 == 0:
            error = F.mse_loss(back.detach().clamp(-1, 1), batch).item() / 4
            told = f"{-10 * math.log10(error):.2f} dB"
            print(f"{clock.spent():6.0f} s  step {training.step}  {told}", flush=True)


def trained_autoencoder(work: Path) -> AutoencoderKL:
    model = autoencoder()
    model.load_state_dict(torch.load(work / "autoencoder.pt", weights_only=True)["average"])
    return model.eval()


def tokenizer(work: Path, captions: list[str]) -> CLIPTokenizer:
    """A tokenizer of CLIP's kind whose words are those of the captions."""
    pieces = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    pieces.normalizer = normalizers.Lowercase()
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(captions, trainer)
    trained = json.loads(pieces.to_str())["model"]
    names = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    # Single bytes that end a word are not learned by themselves, but any text may have them.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names += [f"{sign}</w>" for sign in alphabet if f"{sign}</w>" not in trained["vocab"]]
    names += ["<|startoftext|>", "<|endoftext|>"]
    folder = work / "tokenizer"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({name: at for at, name in enumerate(names)}))
    merges = [" ".join(merge) for merge in trained["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=128,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def denoiser() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}
WORDINGS = ("{}",) * 6 + ("a {}", "{} emoji", "a picture of a {}", "an emoji of a {}")


@torch.no_grad()  # type: ignore[untyped-decorator]
def encoded(model: AutoencoderKL, found: list[Pair]) -> tuple[torch.Tensor, float]:
    """The pictures' latents, scaled to a standard deviation of one; and that scale."""
    pictures = tensor([pair.picture for pair in found])
    parts = [model.encode(part).latent_dist.mean for part in pictures.split(50)]
    latents = torch.cat(parts).contiguous()
    scale = 1 / latents.std().item()
    return latents * scale, scale


def train_diffusion(work: Path, found: list[Pair], minutes: float) -> None:
    torch.manual_seed(2)
    random.seed(2)
    latents, _ = encoded(trained_autoencoder(work), found)
    captions = [pair.caption for pair in found]
    words = tokenizer(work, [wording.format(text) for text in captions for wording in WORDINGS])
    model = torch.nn.ModuleDict({"text": text_encoder(words), "unet": denoiser()})
    training = Training(model, work / "diffusion.pt", minutes, peak=1e-3)
    clock = training.clock
    schedule = DDPMScheduler(**SCHEDULE)
    losses = 0.0
    while clock.over() < 1:
        chosen = torch.randint(len(found), (64,))
        texts = [
            "" if random.random() < 0.1 else random.choice(WORDINGS).format(captions[at])
            for at in chosen.tolist()
        ]
        tokens = words(
            texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
        )
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        times = torch.randint(1000, (len(chosen),))
        said = model["text"](tokens.input_ids).last_hidden_state
        guess = model["unet"](schedule.add_noise(clean, noise, times), times, said).sample
        loss = F.mse_loss(guess, schedule.get_velocity(clean, noise, times))
        training.learn(loss)
        losses += loss.item()
        if training.step % 200 == 0:
            told = f"loss {losses / 200:.4f}"
            print(f"{clock.spent():6.0f} s  step {training.step}  {told}", flush=True)
            losses = 0.0


def assemble(work: Path, found: list[Pair], into: Path) -> None:
    """Write the pipeline's folder, in half precision."""
    vae = trained_autoencoder(work)
    _, scale = encoded(vae, found)
    vae.register_to_config(scaling_factor=scale)
    words = CLIPTokenizer.from_pretrained(work / "tokenizer", model_max_length=TOKENS)
    model = torch.nn.ModuleDict({"text": text_encoder(words), "unet": denoiser()})
    model.load_state_dict(torch.load(work / "diffusion.pt", weights_only=True)["average"])
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model["text"],
        tokenizer=words,
        unet=model["unet"],
        scheduler=DDIMScheduler(**SCHEDULE, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(into, safe_serialization=True)


@torch.no_grad()  # type: ignore[untyped-decorator]
def measure(found: list[Pair], folder: Path) -> None:
    """Over 100 captions: is the picture nearest to its own emoji; and the autoencoder's PSNR."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    some = random.Random(3).sample(found, 100)
    own = tensor([pair.picture for pair in some])
    back = pipeline.vae.decode(pipeline.vae.encode(own).latent_dist.mean).sample.clamp(-1, 1)
    errors = ((back - own) / 2).square().mean(dim=(1, 2, 3))
    print(f"PSNR {(-10 * errors.log10()).mean():.2f} dB in the mean")
    right = 0
    for at, pair in enumerate(some):
        drawn = pipeline(
            pair.caption,
            num_inference_steps=20,
            guidance_scale=2.5,
            generator=torch.Generator().manual_seed(at),
        ).images[0]
        distance = (tensor([np.asarray(drawn)]) - own).square().mean(dim=(1, 2, 3))
        right += int(distance.argmin().item() == at)
    print(f"{right} of {len(some)} nearest to their own emoji")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("autoencoder", "diffusion", "assemble", "measure"))
    parser.add_argument("--work", type=Path, default=Path("emoji-work"))
    parser.add_argument("--into", type=Path, default=Path("emoji-diffusion-64"))
    parser.add_argument("--font", type=Path, default=FONT)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found = pairs(given.font)
    print(f"{len(found)} pictures")
    if given.step == "autoencoder":
        train_autoencoder(given.work, found, given.minutes)
    elif given.step == "diffusion":
        train_diffusion(given.work, found, given.minutes)
    elif given.step == "assemble":
        assemble(given.work, found, given.into)
    else:
        measure(found, given.into)


if __name__ == "__main__":
    main()
