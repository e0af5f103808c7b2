"""Which files a pipeline of Hugging Face's diffusers is made of.

Its folder has a `model_index.json`, which names its components and their classes, and a folder for
each: weights with their configuration, a tokenizer, a scheduler. Repositories hold much beside
that: the same weights in one file, for other frameworks, in other precisions, and pictures.
Layout: https://huggingface.co/docs/diffusers/using-diffusers/other-formats
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from modelry.errors import InvalidRequest

INDEX = "model_index.json"

_TOP = ("README*", "LICENSE*", "NOTICE*")
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "*.spm", "*.tiktoken")
_MARKS = ("*config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
"""A folder is a component's where it has one of these."""

_WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-\d{5})?\.safetensors"
)
_WEIGHTS_INDEX = re.compile(
    r"(?:model|diffusion_pytorch_model)\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json"
)
_PICKLED = re.compile(r"(?:pytorch_model|diffusion_pytorch_model)[\w.-]*\.bin")
_PREFERRED = ("fp16", "bf16")

# The libraries whose classes a pipeline may be made of. The others that diffusers takes are parts
# of its own, such as the safety checkers, or a program of the repository's.
_LIBRARIES = frozenset({"diffusers", "transformers"})
_PARTS = frozenset(
    {"stable_diffusion", "latent_diffusion", "deepfloyd_if", "flux", "kolors", "wuerstchen"}
)
_CLASS = re.compile(r"[A-Z]\w*")


def is_pipeline(bases: Iterable[str]) -> bool:
    return INDEX in bases


def pipeline_files(names: Iterable[str]) -> list[str]:
    """Those of a repository's files that a pipeline is made of: of each component's weights the
    plain ones, or one variant where there are only such.

    Raises `InvalidRequest` where a component's weights are in pickles alone.
    """
    kept, folders = [INDEX], defaultdict[str, list[str]](list)
    for name in names:
        folder, slash, base = name.rpartition("/")
        if slash and "/" not in folder and not folder.startswith("."):
            folders[folder].append(base)
        elif not slash and any(fnmatchcase(name, each) for each in _TOP):
            kept.append(name)
    for folder, bases in folders.items():
        if any(fnmatchcase(base, mark) for base in bases for mark in _MARKS):
            kept += [f"{folder}/{base}" for base in _component_files(folder, bases)]
    return sorted(kept)


def strange_part(index: Any) -> str | None:
    """What a `model_index.json` names that is no class of the libraries', and so could be a program
    of the repository's own. None where there is nothing of the kind.
    """
    if not isinstance(index, dict):
        return "no JSON object"
    name = index.get("_class_name")
    if not (isinstance(name, str) and _CLASS.fullmatch(name)):
        return f"the pipeline {name!r}"
    for component, told in index.items():
        if component.startswith("_") or not isinstance(told, list):
            continue
        if all(isinstance(each, int | float) for each in told):
            # A setting.
            continue
        if len(told) != 2:
            return f"{component}: {told!r}"
        library, kind = told
        if library is None and kind is None:
            continue
        known = library in _LIBRARIES or library in _PARTS if isinstance(library, str) else False
        if not (known and isinstance(kind, str) and _CLASS.fullmatch(kind)):
            return f"{component}: {library}.{kind}"
    return None


def _component_files(folder: str, bases: list[str]) -> list[str]:
    variants = {base: match["variant"] for base in bases if (match := _WEIGHTS.fullmatch(base))}
    pickled = sorted(base for base in bases if _PICKLED.fullmatch(base))
    if not variants and pickled:
        raise InvalidRequest(
            f"source: its weights are in {folder}/{pickled[0]}, which can run a program when it is "
            "opened",
            hint="choose a revision or a conversion of the model with safetensors files",
            param="source",
            code="unsafe_weights",
        )
    if not variants and any(base.endswith((".onnx", ".onnx_data")) for base in bases):
        # Made for another framework alone.
        return []
    chosen = min(variants.values(), key=_rank, default=None)
    kept = [base for base, variant in variants.items() if variant == chosen]
    for base in bases:
        index = _WEIGHTS_INDEX.fullmatch(base)
        if index is not None:
            wanted = index["variant"] == chosen and len(kept) > 1
        else:
            wanted = not base.endswith(".index.json") and any(
                fnmatchcase(base, each) for each in _BESIDE
            )
        if wanted:
            kept.append(base)
    return kept


def _rank(variant: str | None) -> tuple[int, str]:
    """The plain weights first."""
    if variant is None:
        return 0, ""
    return (1 + _PREFERRED.index(variant) if variant in _PREFERRED else 9), variant
