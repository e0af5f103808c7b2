"""A pipeline of diffusers: how it is loaded, what it can do, and how a batch is run through it.

Pipelines differ in what they take, so what a class says of its own call decides what it is given.
"""

import inspect
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers  # type: ignore[import-not-found, unused-ignore]
import torch  # type: ignore[import-not-found, unused-ignore]
import transformers  # type: ignore[import-not-found, unused-ignore]

from modelry.runners.configuration import RunnerConfig
from modelry.runners.image_bounds import Bounds, sides_of
from modelry.runners.image_drafts import Draft, Made, Picture, Step
from modelry.runners.image_files import keep_outside
from modelry.runners.image_previews import Decode, decoder_of
from modelry.runners.image_prompts import Prompts
from modelry.runners.image_requests import Task
from modelry.runners.image_settings import Settings

log = logging.getLogger("runner")

_AUTO = {
    "generate": diffusers.AutoPipelineForText2Image,
    "edit": diffusers.AutoPipelineForImage2Image,
    "inpaint": diffusers.AutoPipelineForInpainting,
}
_TILED_FROM = 1536 * 1536
"""Pixels from which on a picture is decoded in tiles: whole, it would take gigabytes."""

# Those whose `guidance_scale` is for distilled models, and which are guided by another.
_TRUE_GUIDANCE = "QwenImage"
# Those that take several pictures to draw on, and how many are of use.
_SEVERAL = {"Flux2": 4, "QwenImageEditPlus": 3}
_VARIANT = re.compile(r"(?:model|diffusion_pytorch_model)\.([\w-]+?)(?:-\d{5}-of-\d{5})?$")


class Unusable(Exception):
    """What the weights are cannot be run."""


class Pipelines:
    """One model, for every task that it can do; its parts are in memory once.

    Not for several threads, but for `bounds`, `prompts` and `batch_max`.
    """

    def __init__(self, config: RunnerConfig) -> None:
        """Raises `Unusable`."""
        self._settings = settings = Settings(**config.options)
        folder = _folder(Path(config.weights))
        torch.set_num_threads(max(1, config.threads))
        self._device = "cuda" if config.gpus and torch.cuda.is_available() else "cpu"
        if config.gpus and self._device == "cpu":
            raise Unusable("the GPU that it was given cannot be used: PyTorch does not find it")
        whole = _load(folder, settings, self._device)
        self._pipes = _by_task(whole)
        self._calls = {
            task: inspect.signature(type(pipe).__call__).parameters
            for task, pipe in self._pipes.items()
        }
        self._offload = _offload(settings, whole, self._device)
        self._ready: Any = None
        if self._offload == "off":
            whole.to(self._device)
        self._name = type(whole).__name__
        self._checked = getattr(whole, "safety_checker", None) is not None
        self._decode: Decode | None = None if self._checked else decoder_of(whole)
        self.bounds = self._bounds(whole)
        lengths = [call["max_sequence_length"] for call in self._calls.values()
                   if "max_sequence_length" in call]  # fmt: skip
        self.prompts = Prompts(whole, lengths[0].default if lengths else None)
        log.info(
            "%s for %s on %s in %s, offload %s, safety checker %s, %s",
            self._name, ", ".join(self._pipes), self._device, whole.dtype, self._offload,
            "on" if self._checked else "off", self.bounds,
        )  # fmt: skip

    def batch_max(self, task: Task, size: tuple[int, int]) -> int:
        """How many pictures may be made at once."""
        if task != "generate" and "strength" not in self._calls[task]:
            # These take all pictures for one prompt's.
            return 1
        # Larger ones take more memory each.
        pixels = self._settings.max_batch * self.bounds.sides.own**2
        return max(1, min(self._settings.max_batch, pixels // (size[0] * size[1])))

    def run(self, task: Task, drafts: Sequence[Draft], step: Step) -> list[Made]:
        """Make pictures of one size in as many steps, each with its own prompt and seed. What
        `step` raises ends it.
        """
        pipe, first = self._pipes[task], drafts[0]
        self._prepare(pipe, first.size)

        def after(pipe: Any, index: int, _time: Any, given: dict[str, Any]) -> dict[str, Any]:
            def look(number: int) -> Picture:
                assert self._decode is not None
                return self._decode(pipe, given["latents"][number : number + 1], *first.size)

            step(index + 1, pipe.num_timesteps, look)
            return {}

        # The model's own random numbers would depend on who else is in the batch.
        seeds = [torch.Generator("cpu").manual_seed(draft.seed) for draft in drafts]
        wanted: dict[str, Any] = {
            "prompt": [draft.prompt for draft in drafts],
            "width": first.size[0],
            "height": first.size[1],
            "num_inference_steps": first.steps,
            "generator": seeds if len(seeds) > 1 else seeds[0],
            "callback_on_step_end": after,
            "callback_on_step_end_tensor_inputs": ["latents"],
            **self._guidance(drafts),
        }
        if first.pictures:
            several = [draft.pictures[0] for draft in drafts]
            wanted["image"] = several if len(drafts) > 1 else _one_or_all(first.pictures)
        if first.mask is not None:
            masks = [draft.mask for draft in drafts]
            wanted["mask_image"] = masks if len(drafts) > 1 else masks[0]
        if first.strength is not None:
            wanted["strength"] = first.strength
        takes = self._calls[task]
        try:
            with torch.inference_mode(), _drawing_on_its_own_latents(pipe, task):
                out = pipe(**{name: value for name, value in wanted.items() if name in takes})
        finally:
            if self._offload != "off":
                pipe.maybe_free_model_hooks()
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(drafts)
        return [
            Made(_finished(picture, draft), bool(flag))
            for picture, draft, flag in zip(out.images, drafts, flags, strict=True)
        ]

    def free(self) -> None:
        if self._device == "cuda":
            torch.cuda.empty_cache()

    @property
    def previews(self) -> bool:
        """Whether a picture can be seen on its way. Not where each would have to be checked."""
        return self._decode is not None

    # ------------------------------------------------------------------------

    def _guidance(self, drafts: Sequence[Draft]) -> dict[str, Any]:
        first, wanted = drafts[0], dict[str, Any]()
        true = self._name.startswith(_TRUE_GUIDANCE)
        if first.guidance is not None:
            wanted["true_cfg_scale" if true else "guidance_scale"] = first.guidance
        if any(draft.negative_prompt for draft in drafts):
            wanted["negative_prompt"] = [draft.negative_prompt or "" for draft in drafts]
        elif true:
            # It is not guided at all without one.
            wanted["negative_prompt"] = [" "] * len(drafts)
        return wanted

    def _prepare(self, pipe: Any, size: tuple[int, int]) -> None:
        if self._offload != "off" and self._ready is not pipe:
            # Its hooks belong to one pipeline at a time.
            if self._offload == "model":
                pipe.enable_model_cpu_offload()
            else:
                pipe.enable_sequential_cpu_offload()
            self._ready = pipe
        vae: Any = getattr(pipe, "vae", None)
        if hasattr(vae, "enable_tiling"):
            tiled = size[0] * size[1] >= _TILED_FROM
            (vae.enable_tiling if tiled else vae.disable_tiling)()

    def _bounds(self, pipe: Any) -> Bounds:
        scale = getattr(pipe, "vae_scale_factor", 8)
        unet = getattr(pipe, "unet", None)
        # Transformers see four latents as one.
        factor = scale if unet is not None else 2 * scale
        latents = getattr(pipe, "default_sample_size", None)
        if latents is None and unet is not None:
            latents = unet.config.sample_size
        if isinstance(latents, list | tuple):
            latents = min(latents)
        own = latents * scale if isinstance(latents, int) else None
        call = next(iter(self._calls.values()))
        edit = self._calls.get("edit") or self._calls.get("inpaint")
        strength = None if edit is None or "strength" not in edit else edit["strength"].default
        true = self._name.startswith(_TRUE_GUIDANCE)
        return Bounds(
            sides=sides_of(factor, own, self._settings.max_side),
            steps=self._settings.default_steps or call["num_inference_steps"].default,
            guidance=self._settings.default_guidance,
            generates="generate" in self._pipes,
            edits="edit" in self._pipes,
            masks="inpaint" in self._pipes,
            strength=strength,
            # Beside another guidance it counts only where that is set.
            negative_prompts="negative_prompt" in call and (true or "true_cfg_scale" not in call),
            pictures_max=next(
                (most for name, most in _SEVERAL.items() if self._name.startswith(name)), 1
            ),
        )


def _folder(weights: Path) -> Path:
    """Of a part of a repository, the folder it came in."""
    if (weights / "model_index.json").is_file():
        return weights
    found = sorted(weights.rglob("model_index.json"), key=lambda file: len(file.parts))
    if not found:
        raise Unusable("there is no model_index.json in it")
    return found[0].parent


def _load(folder: Path, settings: Settings, device: str) -> Any:
    index = json.loads((folder / "model_index.json").read_bytes())
    has_checker = (index.get("safety_checker") or [None])[0] is not None
    if settings.safety_checker == "on" and not has_checker:
        raise Unusable("--safety-checker=on, and the model has none")
    given: dict[str, Any] = {}
    # The log is for people who look for a reason.
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if settings.safety_checker == "off" and "safety_checker" in index:
        given = {"safety_checker": None, "requires_safety_checker": False}
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    kind = kinds.get(settings.dtype)
    if kind is None:
        half = torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else None
        # Processors are slow at halves; those that are not are few.
        kind = torch.float32 if device == "cpu" else half or torch.float16
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            str(folder),
            dtype=kind,
            variant=_variant(folder),
            # Pickles are programs.
            use_safetensors=True,
            local_files_only=True,
            **given,
        )
    except (torch.OutOfMemoryError, MemoryError):
        # There may be more of it another time.
        raise
    except Exception as problem:
        raise Unusable(f"{type(problem).__name__}: {problem}") from problem
    pipe.set_progress_bar_config(disable=True)
    if hasattr(getattr(pipe, "vae", None), "enable_slicing"):
        # One picture of a batch after the other: decoding takes the most memory. Attention needs
        # no slices: PyTorch's own takes memory in proportion to the picture.
        pipe.vae.enable_slicing()
    return pipe


def _variant(folder: Path) -> str | None:
    """The one that weights are in which are there in no other."""
    for component in sorted(folder.iterdir()):
        names = [file.stem for file in component.glob("*.safetensors")]
        marks = [match[1] if (match := _VARIANT.fullmatch(name)) else None for name in names]
        if marks and None not in marks:
            return min(mark for mark in marks if mark is not None)
    return None


def _by_task(pipe: Any) -> dict[Task, Any]:
    """Raises `Unusable` where it makes no pictures."""
    unet: Any = getattr(pipe, "unet", None)
    vae: Any = getattr(pipe, "vae", None)
    # Made to be given a mask and a picture beside the latents, it can do nothing else.
    masks_only = unet is not None and unet.config.in_channels == 2 * vae.config.latent_channels + 1
    found: dict[Task, Any] = {}
    tasks: tuple[Task, ...] = ("inpaint",) if masks_only else ("generate", "edit", "inpaint")
    for task in tasks:
        try:
            made = _AUTO[task].from_pipe(pipe)
        except ValueError:
            # There is no such pipeline in the library.
            continue
        made.set_progress_bar_config(disable=True)
        found[task] = pipe if type(made) is type(pipe) else made
    if not found:
        raise Unusable(f"{type(pipe).__name__} makes no pictures that OpenAI's API could ask for")
    return found


def _offload(settings: Settings, pipe: Any, device: str) -> str:
    if device == "cpu":
        return "off"
    if settings.offload != "auto":
        return settings.offload
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    weights = sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    )
    free, _ = torch.cuda.mem_get_info()
    # What is computed needs room too.
    return "model" if weights * 1.2 > free else "off"


@contextmanager
def _drawing_on_its_own_latents(pipe: Any, task: Task) -> Iterator[None]:
    """The library's pipelines of masks take a denoiser with four channels for one that draws on
    the latents of the picture alone, and know no other such: of one with as many as its latents
    have, they are told the same.
    """
    unet: Any = getattr(pipe, "unet", None)
    channels = None if unet is None else unet.config.in_channels
    if task != "inpaint" or channels in (None, 4) or channels != pipe.vae.config.latent_channels:
        yield
        return
    unet.register_to_config(in_channels=4)
    try:
        yield
    finally:
        unet.register_to_config(in_channels=channels)


def _one_or_all(pictures: tuple[Picture, ...]) -> Any:
    return pictures[0] if len(pictures) == 1 else list(pictures)


def _finished(picture: Picture, draft: Draft) -> Picture:
    if draft.mask is None or picture.size != draft.size:
        return picture
    return keep_outside(picture, draft.pictures[0], draft.mask)
