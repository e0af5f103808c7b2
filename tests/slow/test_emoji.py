"""The embedded image model: what it draws is what it was asked for.

Of 400 emoji it was trained on, 100 are drawn through the service; each has to be nearer to its own
picture than to the others'. Its autoencoder has to give them back sharply.
"""

import base64
import io
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.slow.conftest import SCRIPTS
from tests.support.instance import Instance

sys.path.insert(0, str(SCRIPTS))
from emoji_pictures import FONT, Pair, pairs

MODEL = "emoji-diffusion-64"
RIGHT_LEAST = 95
PSNR_LEAST_DB = 28.0


@pytest.fixture(scope="module")
def some() -> list[Pair]:
    return random.Random(3).sample(pairs(FONT), 100)


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance]) -> Instance:
    made = make_slow_instance()
    made.start()
    with made.client() as client:
        client.post("/services", {"name": "emoji", "model": MODEL})
    # Its runtime may have to be installed first.
    made.await_state("emoji", "running", 900)
    return made


def test_what_is_drawn_is_what_was_asked_for(instance: Instance, some: list[Pair]) -> None:
    client = instance.openai(instance.key())

    def drawn(at: int) -> np.ndarray:
        answer = client.images.generate(
            model="emoji",
            prompt=some[at].caption,
            response_format="b64_json",
            extra_body={"seed": at, "num_inference_steps": 20, "guidance_scale": 2.5},
        )
        assert answer.data is not None
        return np.asarray(opened(answer.data[0].b64_json or ""), dtype=np.float32)

    own = np.stack([pair.picture for pair in some]).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(drawn, range(len(some))))
    nearest = [int(((own - picture) ** 2).mean(axis=(1, 2, 3)).argmin()) for picture in pictures]
    wrong = [some[at].caption for at, found in enumerate(nearest) if found != at]
    assert len(some) - len(wrong) >= RIGHT_LEAST, wrong


def test_a_mask_says_what_is_drawn_anew(instance: Instance, some: list[Pair]) -> None:
    """Its latents have eight channels, which the library's own pipeline of masks refuses."""
    before = Image.fromarray(some[0].picture)
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    answer = instance.openai(instance.key()).images.edit(
        model="emoji",
        image=("before.png", png(before)),
        mask=("mask.png", png(mask)),
        prompt="red heart",
        response_format="b64_json",
        extra_body={"seed": 1},
    )
    assert answer.data is not None
    after = np.asarray(opened(answer.data[0].b64_json or ""))
    assert (after[:, 32:] == some[0].picture[:, 32:]).all()
    assert (after[:, :32] != some[0].picture[:, :32]).any()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def opened(b64: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(b64)))
    assert image.size == (64, 64)
    return image.convert("RGB")


def test_the_autoencoder_is_sharp(
    instance: Instance, some: list[Pair], kept: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pictures"
    file.write_bytes(b"".join(pair.picture.tobytes() for pair in some))
    (python,) = kept.glob("runtimes/diffusers-*-cpu/bin/python")
    weights = SCRIPTS.parent / "src" / "modelry" / "catalog" / "embedded" / MODEL
    program = Path(__file__).with_name("emoji_psnr.py")
    command = [str(python), str(program), str(weights), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) >= PSNR_LEAST_DB
