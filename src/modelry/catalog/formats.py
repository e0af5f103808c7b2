"""What files weights are made of, and which of them are data alone.

A pickle runs whatever program its maker put into it when it is opened. So weights in
such files are refused, unless the operator allows it for a model. What a format's
files are named follows the hubs' customs.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Literal

from modelry.catalog.pipelines import is_pipeline, pipeline_files
from modelry.errors import InvalidRequest

Format = Literal["gguf", "safetensors", "ctranslate2", "onnx", "lora", "pytorch", "diffusers"]
"""`lora`: an adapter as PEFT saves it; one in GGUF is `gguf`: only its header tells it apart.
`pytorch` is weights in pickles, as PyTorch saves them: only where they are allowed.
`diffusers` is a folder with a `model_index.json` and safetensors.
"""


Quantisation = Literal["F32", "F16", "BF16", "Q8_0"]
"""What a conversion to GGUF can make."""


@dataclass(frozen=True)
class Allowed:
    """What an operator allows a model, although it can run a program: its weights to be in
    pickles, and its repository's own Python files to come along.
    """

    pickles: bool = False
    programs: bool = False


NOTHING = Allowed()

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.npy", "*.npz")
"""Files that may hold a program. CTranslate2's `model.bin` is data, known by its neighbours."""

_BESIDE = (
    "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md", "LICENSE*", "NOTICE*", "*.spm",
)  # fmt: skip
"""What a model needs beside its weights: configuration, tokenizers, templates, licences."""

_VOICES = "voices/*.bin"
"""Of a model that speaks: plain numbers, for each voice a file."""

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_BESIDE_ADAPTER = ("README*", "LICENSE*", "NOTICE*")
_COPIES = ("consolidated*.safetensors", "model.fp16*.safetensors", "model.fp32*.safetensors")
"""Safetensors that hold once more what others hold: in their makers' layout, or in more bits."""

_MARKS: tuple[tuple[Format, str], ...] = (
    ("gguf", "*.gguf"),
    ("safetensors", "*.safetensors"),
    ("onnx", "*.onnx"),
)


_TORCH = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt")
"""The first of these that there are any of is a model's weights."""
_TRAINING = ("training_args.bin", "optimizer*", "scheduler*", "rng_state*")
"""What a training leaves beside them."""


def format_of(names: Sequence[str], allowed: Allowed = NOTHING) -> Format:
    """The format of a model made of these files. Raises `InvalidRequest` that says why none is."""
    bases = [PurePosixPath(name).name for name in names]
    if "model.bin" in bases and any(base.startswith("vocabulary.") for base in bases):
        return "ctranslate2"
    if is_pipeline(bases):
        return "diffusers"
    if _is_adapter(bases):
        return "lora"
    for format, mark in _MARKS:
        if any(fnmatchcase(base.lower(), mark) for base in bases):
            return format
    pickles = [name for name in names if is_pickle(name)]
    if allowed.pickles and _torch_weights(names):
        return "pytorch"
    if pickles:
        raise InvalidRequest(
            f"source: its weights are in {pickles[0]}, which can run a program when it is opened",
            hint="choose a revision or a conversion of the model with safetensors or GGUF files; "
            "an operator can allow it for one model, with --allow-pickles",
            param="source",
            code="unsafe_weights",
        )
    raise InvalidRequest(
        "source: there are no weights in it",
        hint="weights are GGUF, safetensors, ONNX or CTranslate2 files, or a diffusers pipeline",
        param="source",
    )


def quantisation_of(source: str) -> str | None:
    """What the name of a GGUF file says of its quantisation, as llama.cpp's tools name them."""
    base = source.rpartition("/")[2].upper()
    found = re.search(r"(?:^|[.-])((?:UD-)?I?Q[1-8](?:_[A-Z0-9]+)*|B?F16|F32)\b", base)
    return found[1] if found and base.endswith(".GGUF") else None


def is_pickle(name: str) -> bool:
    base = PurePosixPath(name).name.lower()
    return any(fnmatchcase(base, pattern) for pattern in PICKLES)


def is_program(name: str) -> bool:
    return name.lower().endswith(".py")


def _torch_weights(names: Iterable[str]) -> list[str]:
    bases = {name: PurePosixPath(name).name.lower() for name in names}
    candidates = [
        name
        for name, base in bases.items()
        if not any(fnmatchcase(base, pattern) for pattern in _TRAINING)
    ]
    for pattern in _TORCH:
        found = [name for name in candidates if fnmatchcase(bases[name], pattern)]
        if found:
            return found
    return []


def needed(names: Iterable[str], allowed: Allowed = NOTHING) -> list[str]:
    """Of a repository's files, those that a model is made of: its weights in the best format it
    has them in, and what belongs to them. Raises as `format_of`.

    GGUF repositories hold one file for each quantisation: which one must be said.
    """
    every = [name for name in names if not name.startswith(".")]
    # Other frameworks' copies lie in folders: `onnx/`, `openvino/`, `original/`.
    top = [name for name in every if "/" not in name] or every
    format = format_of(top, allowed)
    if format == "diffusers":
        return pipeline_files(every)
    if format == "ctranslate2":
        return [name for name in top if allowed.programs or not is_program(name)]
    if format == "lora":
        kept = (*_ADAPTER, *_BESIDE_ADAPTER)
        return sorted(name for name in top if any(fnmatchcase(name, each) for each in kept))
    if format == "pytorch":
        weights = _torch_weights(top)
    else:
        mark = next(pattern for known, pattern in _MARKS if known == format)
        weights = [name for name in top if fnmatchcase(name.lower(), mark)]
    if format == "gguf":
        # All that a model needs is in it.
        if len(weights) == 1 or are_parts(weights):
            return sorted(weights)
        raise InvalidRequest(
            f"source: it holds {len(weights)} GGUF files",
            hint="name one of them, such as " + min(weights, key=_preferred),
            param="source",
        )
    copies = [name for name in weights if any(fnmatchcase(name, copy) for copy in _COPIES)]
    if len(copies) < len(weights):
        weights = [name for name in weights if name not in copies]
    beside = {
        name
        for name in top
        if any(fnmatchcase(name, each) for each in _BESIDE)
        # Of weights that are left out.
        and (not name.endswith(".index.json") or name.endswith(_INDEXES.get(format, _INDEX)))
    }
    if "modules.json" in top:
        beside.update(name for name in every if fnmatchcase(name, _MODULE))
    if format == "onnx":
        beside.update(name for name in every if fnmatchcase(name, _VOICES))
    if allowed.programs:
        beside.update(name for name in top if is_program(name))
    return sorted({*weights, *beside})


def _is_adapter(bases: Sequence[str]) -> bool:
    """Whether all the weights among these files are PEFT's."""
    weights = [base for base in bases if any(fnmatchcase(base.lower(), mark) for _, mark in _MARKS)]
    return set(_ADAPTER) <= set(bases) and set(weights) == {_ADAPTER[1]}


_MODULE = "[0-9]_*/config.json"
"""Of Sentence Transformers: how tokens' vectors become one, in a folder of its own."""

_INDEX = ".safetensors.index.json"
_INDEXES = {"pytorch": ".bin.index.json"}


def are_parts(names: Sequence[str]) -> bool:
    """Whether these are the parts of one GGUF file, as llama.cpp splits them."""
    return len({name.rpartition("-of-")[2] for name in names}) == 1 and all(
        fnmatchcase(name, "*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].gguf")
        for name in names
    )


def _preferred(name: str) -> tuple[bool, str]:
    return "q4_k_m" not in name.lower(), name
