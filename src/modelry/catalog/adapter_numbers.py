"""Whether the numbers of an adapter are numbers.

One infinity or NaN does not only spoil the answers of the adapter: on an engine that shares its
memory among adapters and base (seen with vLLM 0.32 on a processor), it stays in the cache of keys
and values, and everybody's answers are empty from then on.
"""

from collections.abc import Iterator
from pathlib import Path

from modelry.catalog.adapters import WEIGHTS, UnusableAdapter
from modelry.catalog.headers import read_safetensors

_BLOCK = 1024 * 1024

# By the kind of number: its bytes, which of them holds the top of the exponent, and the bits there
# that are all set for what is infinite or no number. BF16 and F32 have one more bit of exponent in
# the next byte: what lies between is beyond 10 to the 38th, which no training leaves either.
_KINDS = {"F16": (2, 1, 0x7C), "BF16": (2, 1, 0x7F), "F32": (4, 3, 0x7F)}


def refuse_no_numbers(adapter: Path) -> None:
    """Reads all of a PEFT folder's weights. Raises `UnusableAdapter` that names the tensor."""
    file = adapter / WEIGHTS
    header = read_safetensors(file)
    for name, (begin, end) in header.spans.items():
        kind = _KINDS.get(header.dtypes[name])
        if kind is None:
            continue
        size, top, mask = kind
        table = bytes(byte & mask == mask for byte in range(256))
        for block in _blocks(file, begin, end):
            # Only the bytes that matter, in C: a hundred megabytes take a fraction of a second.
            if block[top::size].translate(table).find(1) >= 0:
                raise UnusableAdapter(
                    f"{name} has values that are infinite or no numbers",
                    hint="its training has failed; take an earlier checkpoint",
                    param="adapter",
                )


def _blocks(file: Path, begin: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as data:
        data.seek(begin)
        while begin < end:
            block = data.read(min(_BLOCK, end - begin))
            if not block:
                return
            begin += len(block)
            yield block
