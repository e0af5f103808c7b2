"""What of a model could run a program, and is refused unless an operator allows it for that one."""

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from modelry.catalog.cards import Variant
from modelry.catalog.formats import PICKLES, is_pickle, is_program
from modelry.catalog.pipelines import INDEX, strange_part
from modelry.errors import FetchError

_CONFIGS = (INDEX, "config.json", "tokenizer_config.json")
_CONFIG_MAX = 16 * 1024 * 1024
# Those that are opened by libraries which would run what `auto_map` names.
_OWN_PROGRAMS = ("safetensors", "pytorch", "diffusers")
# Files that are named like pickles and opened as plain numbers: CTranslate2's `model.bin`, and
# what ONNX models have beside them, such as voices.
_NUMBERS = {"ctranslate2": PICKLES, "onnx": ("*.bin",)}


class UnsafeWeights(FetchError):
    """They may run a program when they are opened."""

    code = "unsafe_weights"


def refuse_unsafe(variant: Variant, names: Iterable[str]) -> None:
    """By the names of its files. Raises `UnsafeWeights`."""
    for name in names:
        plain = any(fnmatchcase(name.lower(), each) for each in _NUMBERS.get(variant.format, ()))
        if is_pickle(name) and not (variant.allow_pickles or plain):
            raise UnsafeWeights(
                f"{name} can run a program when it is opened",
                hint="choose a model with safetensors or GGUF files; an operator can allow it "
                "for one model, with `modelry models trust --allow-pickles`",
            )
        if is_program(name) and not variant.allow_remote_code:
            raise UnsafeWeights(f"{name} is a program", hint=_ALLOW)


def is_config(name: str) -> bool:
    """Whether `check_config` has something to say of such a file: it should come first."""
    return name in _CONFIGS


def check_config(variant: Variant, name: str, path: Path) -> None:
    """Refuse a model whose configuration names a program of its own. Raises `UnsafeWeights`.

    `auto_map` is by which Hugging Face's library finds such programs; diffusers looks for classes
    that its `model_index.json` names in the repository too.
    """
    if variant.allow_remote_code or variant.format not in _OWN_PROGRAMS:
        return
    if not is_config(PurePosixPath(name).name):
        return
    if path.stat().st_size > _CONFIG_MAX:
        raise UnsafeWeights(f"{name} is far too large to be read", hint=_ALLOW)
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        # Whatever opens it will not get at a program either.
        return
    if isinstance(config, dict) and config.get("auto_map"):
        raise UnsafeWeights(f"{name} names a program of the model's own (auto_map)", hint=_ALLOW)
    if PurePosixPath(name).name == INDEX and (part := strange_part(config)) is not None:
        raise UnsafeWeights(
            f"{name} names a program of the model's own ({part})",
            hint="take a pipeline that is made of the library's own classes",
        )


_ALLOW = (
    "it would run with all that Modelry may do: read it first; an operator can then allow it "
    "for this model, with `modelry models trust --allow-remote-code`"
)
