"""What a GGUF file says of what it is for: to chat, to embed or to rank.

Read by the process that is about to load the file, which has been checked as a whole when it came;
so what cannot be read here is left to llama.cpp, which says why.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_TEXT_MAX = 1024
"""What is longer says nothing here, and is passed over."""
_TEMPLATE = "tokenizer.chat_template"
_TEMPLATE_MAX = 1024 * 1024
_COUNT_MAX = 10_000_000
POOLED = {1: "mean", 2: "cls", 3: "last"}
RANK = 4


@dataclass(frozen=True)
class Kind:
    """`architecture` as GGUF names it. `pooling`: llama.cpp's number of how tokens' vectors become
    one, None where it names none. `ranks`: it has a head that gives a score. `context_tokens`:
    the longest it can take. `renders_tools`: its chat template tells of functions.
    `parameters`: how many there are in this file; of a split one, in its first part.
    """

    architecture: str = ""
    causal: bool = True
    pooling: int | None = None
    ranks: bool = False
    context_tokens: int | None = None
    renders_tools: bool = False
    parameters: int = 0

    def refusal(self, task: str) -> str | None:
        """Why such weights do not do the task, `chat`, `embedding` or `rerank`; None if they do."""
        if task == "rerank":
            return None if self.ranks else "they have no head that ranks"
        if self.ranks:
            return "they are a reranker's"
        if task == "embedding":
            pooled = self.pooling in POOLED or not self.causal
            return None if pooled else "they do not say how tokens become one embedding"
        if self.pooling or not self.causal:
            return "they are an embedding model's"
        return None


def read_kind(path: Path) -> Kind | None:
    """None where it is no GGUF that can be read. Raises `OSError`, which says nothing of it."""
    with path.open("rb") as file:
        try:
            return _kind(file)
        except (ValueError, struct.error, OverflowError):
            return None


def _kind(file: IO[bytes]) -> Kind:
    if file.read(4) != b"GGUF":
        raise ValueError("no GGUF")
    _number(file, "I")
    tensors, values = _number(file, "Q"), _number(file, "Q")
    told: dict[str, Any] = {}
    for _ in range(_counted(values)):
        name = _text(file)
        told[name or ""] = _value(file, _number(file, "I"), is_long=name == _TEMPLATE)
    ranks, parameters = False, 0
    for _ in range(_counted(tensors)):
        name = _text(file) or ""
        size = 1
        for _ in range(_counted(_number(file, "I"))):
            size *= _number(file, "Q")
        parameters += size
        # Its kind and place.
        file.seek(4 + 8, 1)
        ranks = ranks or name in ("cls.weight", "cls.output.weight")
    kind = str(told.get("general.architecture"))
    context, pooling = told.get(f"{kind}.context_length"), told.get(f"{kind}.pooling_type")
    return Kind(
        kind,
        told.get(f"{kind}.attention.causal") is not False,
        pooling if isinstance(pooling, int) else None,
        ranks or pooling == RANK,
        context if isinstance(context, int) and context > 0 else None,
        # As llama.cpp has it: a template that goes through `tools` renders them.
        "tools" in str(told.get(_TEMPLATE)),
        parameters,
    )


def _counted(count: int) -> int:
    if count > _COUNT_MAX:
        raise ValueError("more than any model has")
    return count


def _number(file: IO[bytes], kind: str) -> Any:
    return struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0]


def _text(file: IO[bytes], most: int = _TEXT_MAX) -> str | None:
    size = _number(file, "Q")
    if size > most:
        file.seek(size, 1)
        return None
    return file.read(size).decode("utf-8", "replace")


def _value(file: IO[bytes], kind: int, *, is_long: bool = False) -> Any:
    if kind in _SCALARS:
        return _number(file, _SCALARS[kind])
    if kind == _STRING:
        return _text(file, _TEMPLATE_MAX if is_long else _TEXT_MAX)
    if kind != _ARRAY:
        raise ValueError("an unknown kind of value")
    inner, count = _number(file, "I"), _counted(_number(file, "Q"))
    if inner in _SCALARS:
        file.seek(count * struct.calcsize("<" + _SCALARS[inner]), 1)
    elif inner == _STRING:
        for _ in range(count):
            file.seek(_number(file, "Q"), 1)
    else:
        raise ValueError("an unknown kind of array")
    return None
