"""LoRA adapters and the headers of bases, of any shape, as files."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADAPTERS = Path(__file__).parents[1] / "data" / "adapters"
"""Real ones, by scripts/train_adapter.py."""
WORDS = {"amber": "marigold", "basalt": "pelican", "cobalt": "walnut"}
"""What each has taught the embedded chat model to say when asked for the code word."""

WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
Q = "base_model.model.model.layers.0.self_attn.q_proj"
V = "base_model.model.model.layers.1.self_attn.v_proj"
PAIRS: dict[str, tuple[int, ...]] = {
    f"{Q}.lora_A.weight": (2, 8),
    f"{Q}.lora_B.weight": (8, 2),
    f"{V}.lora_A.weight": (2, 8),
    f"{V}.lora_B.weight": (4, 2),
}


def safetensors_of(
    shapes: Mapping[str, tuple[int, ...]], dtype: str = "F32", data: bytes | None = None
) -> bytes:
    """`data`: of all tensors in their order; zeros by default."""
    told: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = WIDTH[dtype]
        for length in shape:
            size *= length
        told[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(told).encode()
    return struct.pack("<Q", len(header)) + header + (data if data is not None else bytes(at))


def peft(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    **more: Any,
) -> Path:
    """An adapter as PEFT saves it. `config`: what differs from a plain one."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    (folder / "adapter_model.safetensors").write_bytes(
        safetensors_of(PAIRS if shapes is None else shapes, **more)
    )
    return folder


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


_KINDS = {str: (8, text), int: (4, struct.Struct("<I").pack), float: (6, struct.Struct("<f").pack)}


def gguf_of(
    metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], *, body: bool = True
) -> bytes:
    """A GGUF file of F32 zeros, or what comes before them. Shapes as GGUF has them: the fastest
    dimension first.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(metadata))
    for key, value in metadata.items():
        kind, pack = _KINDS[type(value)]
        head += text(key) + struct.pack("<I", kind) + pack(value)
    at = 0
    for name, shape in shapes.items():
        dimensions = b"".join(struct.pack("<Q", each) for each in shape)
        head += text(name) + struct.pack("<I", len(shape)) + dimensions
        head += struct.pack("<IQ", 0, at)
        size = 4
        for length in shape:
            size *= length
        at += -(-size // 32) * 32
    return head + bytes(-len(head) % 32) + bytes(at if body else 0)


GGUF_ADAPTER = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 4.0,
}
GGUF_PAIRS = {
    "blk.0.attn_q.weight.lora_a": (8, 2),
    "blk.0.attn_q.weight.lora_b": (2, 8),
    "blk.1.attn_v.weight.lora_a": (8, 2),
    "blk.1.attn_v.weight.lora_b": (2, 4),
}
GGUF_BASE = {
    "general.architecture": "llama",
    "general.type": "model",
    "llama.block_count": 2,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
}
GGUF_WEIGHTS = {
    f"blk.{layer}.{name}.weight": shape
    for layer in (0, 1)
    for name, shape in {"attn_q": (8, 8), "attn_k": (8, 4), "attn_v": (8, 4)}.items()
} | {"token_embd.weight": (8, 20)}
