"""What a picture has become so far: latents on their way, decoded as a pipeline does at its end.

Families of pipelines keep latents in different shapes. One that is not known here has no previews.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from modelry.runners.image_drafts import Picture

log = logging.getLogger("runner")

Decode = Callable[[Any, Any, int, int], Picture]
"""Of a pipeline, the latents of one picture, and its width and height."""

_FAMILIES = (
    "StableDiffusion", "LatentConsistency", "PixArt", "Flux", "QwenImage", "ZImage", "Chroma",
    "CogView4", "Sana",
)  # fmt: skip
_OTHER = ("Flux2", "QwenImageLayered", "QwenImage21")
"""Of these families by name, and yet with latents of another kind."""


def decoder_of(pipe: Any) -> Decode | None:
    name = type(pipe).__name__
    if not name.startswith(_FAMILIES) or name.startswith(_OTHER):
        return None
    return _decode


def _decode(pipe: Any, latents: Any, width: int, height: int) -> Picture:
    vae = pipe.vae
    if latents.dim() == 3:
        latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
    latents = latents.to(vae.dtype)
    config = vae.config
    mean, spread = (getattr(config, f"latents_{each}", None) for each in ("mean", "std"))
    scale = getattr(config, "scaling_factor", None)
    if mean is not None and spread is not None:
        shape = (1, -1, *(1 for _ in latents.shape[2:]))
        mean, spread = (torch.tensor(each).view(shape).to(latents) for each in (mean, spread))
        latents = latents * spread / (scale or 1.0) + mean
    else:
        latents = latents / (scale or 1.0) + (getattr(config, "shift_factor", None) or 0.0)
    decoded = vae.decode(latents, return_dict=False)[0]
    if decoded.dim() == 5:
        # Of one moment, where a film could be.
        decoded = decoded[:, :, 0]
    return pipe.image_processor.postprocess(decoded, output_type="pil")[0]
