"""Files that are weights by their form, and hold noise."""

import json
import struct

from tests.support.package_index import noise


def gguf(size: int, seed: int = 1) -> bytes:
    """A GGUF file of so many bytes, without tensors."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    return head + noise(size - len(head), seed)


def safetensors(size: int, seed: int = 1) -> bytes:
    """A safetensors file with one tensor of so many bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + noise(size, seed)
