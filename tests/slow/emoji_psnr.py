"""How well a pipeline's autoencoder gives pictures back: `emoji_psnr.py WEIGHTS PICTURES`.

PICTURES: N x H x W x 3 bytes in a row, 64 x 64 each. Prints the mean PSNR in dB. Runs with the
Python of the diffusers runtime.
"""

import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from diffusers import AutoencoderKL  # type: ignore[import-not-found]

weights, pictures = Path(sys.argv[1]), bytearray(Path(sys.argv[2]).read_bytes())
own = torch.frombuffer(pictures, dtype=torch.uint8).reshape(-1, 64, 64, 3)
own = own.permute(0, 3, 1, 2).float() / 127.5 - 1
model = AutoencoderKL.from_pretrained(weights / "vae", torch_dtype=torch.float32)
with torch.no_grad():
    back = model.decode(model.encode(own).latent_dist.mean).sample.clamp(-1, 1)
errors = ((back - own) / 2).square().mean(dim=(1, 2, 3))
print(float((-10 * errors.log10()).mean()))
