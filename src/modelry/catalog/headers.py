"""What the first bytes of a weights file say, read without trust.

Whoever made the file chose every number in it. Counts and sizes are held against the
file's own size before anything is read or kept, nothing is read twice, and whatever
does not add up is a `DamagedFile`.

GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
safetensors: https://huggingface.co/docs/safetensors/index#format
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

from modelry.errors import FetchError

_HEADER_MAX = 100 * 1024 * 1024
"""Of safetensors; the format's own bound."""
_NAMES_MAX = 1_000_000
_NAME_MAX = 64 * 1024
_TEXT_MAX = 1024 * 1024
"""Of a value; what is longer is passed over."""
_KEPT_MAX = 128 * 1024 * 1024
_DIMENSIONS_MAX = 8


class DamagedFile(FetchError):
    """It is not what its name says."""

    code = "damaged_weights"


@dataclass(frozen=True)
class Header:
    """`metadata`: what the file says of itself, arrays apart. `tensors`: name → shape, its
    fastest dimension first in GGUF and last in safetensors, as the formats have it. `dtypes`:
    name → kind of number, as the format calls it. `spans`: name → begin and end of its bytes
    in the file; of safetensors alone.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)


def check_header(name: str, path: Path) -> None:
    """Read the header of a file whose format is known by its name. Raises `DamagedFile`."""
    for ending, read in READERS.items():
        if name.lower().endswith(ending):
            try:
                read(path)
            except DamagedFile as error:
                raise DamagedFile(f"{name} is damaged: {error.message}") from None


# -- GGUF ------------------------------------------------------------------------------

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9

_KINDS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Kinds of tensors: their name, and how many elements take how many bytes."""


class _Bytes:
    """A file read once from its start, never beyond its end."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._kept = 0
        self.left = size

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise DamagedFile("it ends within its header")
        data = self._file.read(count)
        self.left -= count
        if len(data) != count:
            raise DamagedFile("it ends within its header")
        return data

    def skip(self, count: int) -> None:
        if count > self.left:
            raise DamagedFile("it ends within its header")
        self._file.seek(count, 1)
        self.left -= count

    def number(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def name(self) -> str:
        size = self.number("Q")
        if size > _NAME_MAX:
            raise DamagedFile(f"it has a name of {size} bytes")
        return self._text(size)

    def text(self) -> str | None:
        """None where it is too long to be of use."""
        size = self.number("Q")
        if size <= _TEXT_MAX:
            return self._text(size)
        self.skip(size)
        return None

    def _text(self, size: int) -> str:
        self._kept += size
        if self._kept > _KEPT_MAX:
            raise DamagedFile("its header is too large")
        return self.take(size).decode("utf-8", "replace")


def read_gguf(path: Path) -> Header:
    with path.open("rb") as file:
        data = _Bytes(file, path.stat().st_size)
        if data.take(4) != b"GGUF":
            raise DamagedFile("it does not begin as GGUF files do")
        version = data.number("I")
        if not 2 <= version <= 3:
            raise DamagedFile(f"it is of GGUF's version {version}; 2 and 3 are known")
        tensor_count, value_count = data.number("Q"), data.number("Q")
        if tensor_count > _NAMES_MAX or value_count > _NAMES_MAX:
            raise DamagedFile(f"it claims {tensor_count} tensors and {value_count} values")
        metadata: dict[str, Any] = {}
        for _ in range(value_count):
            key = data.name()
            value = _value(data, data.number("I"))
            if value is not None:
                metadata[key] = value
        tensors: dict[str, tuple[int, ...]] = {}
        dtypes: dict[str, str] = {}
        ends = []
        for _ in range(tensor_count):
            name = data.name()
            dimensions = data.number("I")
            if dimensions > _DIMENSIONS_MAX:
                raise DamagedFile(f"tensor {name!r} has {dimensions} dimensions")
            shape = tuple(data.number("Q") for _ in range(dimensions))
            # A kind that is newer than this: its size is not known, its place is.
            kind = data.number("I")
            dtype, elements, size = _KINDS.get(kind, (str(kind), 1, 0))
            offset = data.number("Q")
            ends.append(offset + prod(shape) * size // elements)
            if name in tensors:
                raise DamagedFile(f"it has two tensors {name!r}")
            tensors[name] = shape
            dtypes[name] = dtype
        if any(end > data.left for end in ends):
            raise DamagedFile("it ends before its tensors do")
    return Header(metadata, tensors, dtypes)


def _value(data: _Bytes, kind: int) -> Any:
    """A value; None for an array, which is passed over."""
    if kind in _SCALARS:
        return data.number(_SCALARS[kind])
    if kind == _STRING:
        return data.text()
    if kind != _ARRAY:
        raise DamagedFile(f"it has a value of an unknown kind {kind}")
    inner, count = data.number("I"), data.number("Q")
    if inner in _SCALARS:
        data.skip(count * struct.calcsize("<" + _SCALARS[inner]))
    elif inner == _STRING:
        # Each has its length before it.
        if count * 8 > data.left:
            raise DamagedFile(f"it claims an array of {count} texts")
        for _ in range(count):
            data.skip(data.number("Q"))
    else:
        raise DamagedFile(f"it has an array of an unknown kind {inner}")
    return None


# -- safetensors -----------------------------------------------------------------------

_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16,
    "BF16": 16, "I16": 16, "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def read_safetensors(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        data = _Bytes(file, size)
        header_size = data.number("Q")
        if header_size > min(_HEADER_MAX, data.left):
            raise DamagedFile(f"it claims a header of {header_size} bytes")
        try:
            fields = json.loads(data.take(header_size))
        except (ValueError, RecursionError):
            raise DamagedFile("its header is no JSON") from None
    if not isinstance(fields, dict):
        raise DamagedFile("its header is no JSON object")
    metadata = fields.pop("__metadata__", {})
    spans, dtypes, tensors = {}, {}, {}
    for name, told in fields.items():
        shape, begin, end = _tensor(name, told)
        tensors[name] = shape
        dtypes[name] = told["dtype"]
        spans[name] = (begin, end)
    at = 0
    for begin, end in sorted(spans.values()):
        if begin != at:
            raise DamagedFile("its tensors overlap, or leave holes")
        at = end
    if at != data.left:
        raise DamagedFile(f"its tensors take {at} bytes, and it has {data.left}")
    start = size - data.left
    places = {name: (start + begin, start + end) for name, (begin, end) in spans.items()}
    return Header(metadata if isinstance(metadata, dict) else {}, tensors, dtypes, places)


def _tensor(name: str, told: Any) -> tuple[tuple[int, ...], int, int]:
    """Shape, begin and end."""
    try:
        shape, (begin, end), bits = tuple(told["shape"]), told["data_offsets"], _BITS[told["dtype"]]
    except (KeyError, TypeError, ValueError):
        raise DamagedFile(f"tensor {name!r} is not described as it should be") from None
    numbers = (*shape, begin, end)
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise DamagedFile(f"tensor {name!r} has a shape or place that is no number")
    elements = 1
    for length in shape:
        elements *= length
    if (elements * bits + 7) // 8 != end - begin:
        raise DamagedFile(f"tensor {name!r} is not as large as its shape")
    return shape, begin, end


READERS: dict[str, Callable[[Path], Header]] = {
    ".gguf": read_gguf,
    ".safetensors": read_safetensors,
}
