"""A PEFT adapter made into a GGUF adapter, by `python -m modelry.catalog.adapter_conversion`.

A process of its own, with a bound on its memory: it takes `{"adapter", "base", "out"}`,
three paths, as JSON on standard input, and writes the file or says on one line of its
output, as JSON, why it cannot. Of the base it reads the header alone. The same input
gives the same bytes.

No numbers are computed but one: rows change places, and BF16 becomes F32 by two zero
bytes, so that it needs neither PyTorch nor NumPy. What llama.cpp expects:
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp
"""

import contextlib
import fcntl
import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modelry.catalog.adapter_fit import (
    MisfitAdapter,
    check_adapter_fits,
    gguf_names,
    known_architecture,
    read_base,
)
from modelry.catalog.adapter_names import is_rotary
from modelry.catalog.adapters import WEIGHTS, Adapter, UnusableAdapter, read_adapter
from modelry.catalog.headers import Header, read_safetensors
from modelry.errors import ModelryError

EXIT_REFUSED = 65  # EX_DATAERR of sysexits.h
_MEMORY_MAX = 2 * 1024**3
_BLOCK = 1024 * 1024
_ALIGNMENT = 32
_F32, _F16 = 0, 1
_STRING_KIND, _FLOAT_KIND = 8, 6


@dataclass(frozen=True)
class _Tensor:
    """One to be written. `shape`: its fastest dimension first. `head_rows`: how many rows a head
    has, where they must change places.
    """

    name: str
    shape: tuple[int, int]
    span: tuple[int, int]
    dtype: str
    head_rows: int | None = None

    @property
    def kind(self) -> int:
        return _F16 if self.dtype == "F16" else _F32

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * (2 if self.kind == _F16 else 4)


def convert(adapter: Path, base: Path, out: Path) -> None:
    """Write the adapter in the folder as a GGUF file for this base. Raises `ModelryError`."""
    read = read_adapter(adapter)
    if read.kind != "peft":
        raise UnusableAdapter("the adapter is a GGUF file already")
    header = read_base(base)
    check_adapter_fits(read, header)
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise MisfitAdapter("the base's weights are no GGUF", param="model")
    tensors = list(_tensors(read, header, architecture))
    # A rank-stabilised scale is alpha over the rank's root; llama.cpp divides by the rank.
    alpha = read.alpha * read.rank**0.5 if read.rslora else read.alpha
    with _draft(out) as draft, (read.path / WEIGHTS).open("rb") as weights:
        draft.write(_head(architecture, alpha, tensors))
        for tensor in tensors:
            _copy(weights, tensor, draft)
            draft.write(bytes(-tensor.size_bytes % _ALIGNMENT))
        draft.flush()
        # Whoever loads it next has no better look at it than this.
        check_adapter_fits(read_adapter(Path(draft.name)), header)


def _tensors(adapter: Adapter, base: Header, architecture: str) -> Iterator[_Tensor]:
    """In the order of their names, as the pairs are."""
    known = known_architecture(architecture)
    names = gguf_names(adapter, known)
    told = read_safetensors(adapter.path / WEIGHTS)
    for name, pair in adapter.pairs.items():
        module, made = f"base_model.model.{name.removesuffix('.weight')}", names[name]
        head_rows = None
        if known.permuted and is_rotary(made):
            head_rows = _head_rows(base, architecture, made, pair.outputs)
        for half, shape, rows in (
            ("A", (pair.inputs, pair.rank), None),
            ("B", (pair.rank, pair.outputs), head_rows),
        ):
            source = f"{module}.lora_{half}.weight"
            ending = f"{made}.lora_{half.lower()}"
            yield _Tensor(ending, shape, told.spans[source], told.dtypes[source], rows)


def _head_rows(base: Header, architecture: str, name: str, outputs: int) -> int:
    heads = base.metadata.get(f"{architecture}.attention.head_count")
    if name.endswith(".attn_k.weight"):
        heads = base.metadata.get(f"{architecture}.attention.head_count_kv", heads)
    if not isinstance(heads, int) or heads < 1 or outputs % (2 * heads):
        raise MisfitAdapter(
            f"the adapter cannot be converted: the base does not say how many heads {name} has",
            hint="give a GGUF adapter instead",
            param="adapter",
        )
    return outputs // heads


# -- writing ---------------------------------------------------------------------------


def _head(architecture: str, alpha: float, tensors: list[_Tensor]) -> bytes:
    texts = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(texts) + 1)
    for key, value in texts.items():
        head += _text(key) + struct.pack("<I", _STRING_KIND) + _text(value)
    head += _text("adapter.lora.alpha") + struct.pack("<If", _FLOAT_KIND, alpha)
    pieces, at = [head], 0
    for tensor in tensors:
        pieces.append(_text(tensor.name) + struct.pack("<IQQIQ", 2, *tensor.shape, tensor.kind, at))
        at += tensor.size_bytes + -tensor.size_bytes % _ALIGNMENT
    head = b"".join(pieces)
    return head + bytes(-len(head) % _ALIGNMENT)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _copy(source: IO[bytes], tensor: _Tensor, out: IO[bytes]) -> None:
    begin, end = tensor.span
    source.seek(begin)
    row_size = (end - begin) // tensor.shape[1]
    block = _BLOCK if tensor.head_rows is None else tensor.head_rows * row_size
    while begin < end:
        size = min(block, end - begin)
        data = source.read(size)
        if len(data) != size:
            raise UnusableAdapter(f"{WEIGHTS} became shorter while it was read")
        begin += size
        if tensor.head_rows is not None:
            data = _interleaved(data, row_size)
        out.write(_widened(data) if tensor.dtype == "BF16" else data)


def _interleaved(head: bytes, row_size: int) -> bytes:
    """Hugging Face's library turns the first half of a head's rows against the second half,
    llama.cpp each even row against the odd one after it.
    """
    rows = [head[at : at + row_size] for at in range(0, len(head), row_size)]
    half = len(rows) // 2
    pairs = zip(rows[:half], rows[half:], strict=True)
    return b"".join(row for pair in pairs for row in pair)


def _widened(data: bytes) -> bytes:
    """BF16 as F32: it is its upper half."""
    wide = bytearray(2 * len(data))
    wide[2::4] = data[0::2]
    wide[3::4] = data[1::2]
    return bytes(wide)


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[IO[bytes]]:
    """A file that gets the name `out` once all of it is on disk, or goes.

    It has one name and a lock: what a process left that was killed is written over, and
    two that make the same file do not write into each other's.
    """
    place = _draft_of(out)
    with _locked(place) as file:
        try:
            yield file
            os.fsync(file.fileno())
            place.replace(out)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _draft_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.new")


def _locked(place: Path) -> IO[bytes]:
    def created(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    while True:
        file = open(place, "r+b", opener=created)  # noqa: SIM115 - its lock outlives this
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), place.stat()):
                file.truncate()
                return file
        # Whoever held it has given it its name meanwhile.
        file.close()


# -- as a process ----------------------------------------------------------------------


def convert_apart(adapter: Path, base: Path, out: Path, *, timeout_s: float = 300.0) -> None:
    """As `convert`, in a process of its own; blocks. Raises `ModelryError`."""
    config = {"adapter": str(adapter), "base": str(base), "out": str(out)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "modelry.catalog.adapter_conversion"],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _draft_of(out).unlink(missing_ok=True)
        raise UnusableAdapter(f"the adapter's conversion took more than {timeout_s:g} s") from None
    if done.returncode == 0:
        return
    if done.returncode == EXIT_REFUSED:
        told = json.loads(done.stdout)
        raise UnusableAdapter(told["message"], hint=told.get("hint"), code=told["code"])
    _draft_of(out).unlink(missing_ok=True)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise UnusableAdapter(f"the adapter could not be converted: {last[:200]}")


def main() -> int:
    with contextlib.suppress(ValueError, OSError):
        # Not every system has this limit.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))
    config = json.load(sys.stdin)
    told: dict[str, str | None]
    try:
        convert(Path(config["adapter"]), Path(config["base"]), Path(config["out"]))
    except ModelryError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
    except OSError as error:
        told = {"code": "unusable_adapter", "message": f"{error.strerror} ({error.filename})"}
    except MemoryError:
        told = {"code": "unusable_adapter", "message": "converting it takes too much memory"}
    else:
        return 0
    print(json.dumps(told), flush=True)
    return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
