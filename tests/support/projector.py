"""A projector for the embedded chat model, with weights by chance.

No model of a few megabytes reads images, so the way that images take is tested with this one:
a genuine vision encoder of two layers and the projection onto the chat model's 576 numbers, in
the form of Gemma 3's, which llama.cpp loads and runs like any other. What a model says of an
image through it means nothing.
"""

from pathlib import Path

import gguf
import numpy as np

TOKENS = 16
"""Of an image: 128 pixels a side, in patches of 8, of which 4 x 4 become a token."""
_SIDE, _PATCH, _WIDTH, _LAYERS, _TEXT_WIDTH = 128, 8, 32, 2, 576


def write_projector(file: Path, *, text_width: int = _TEXT_WIDTH) -> Path:
    """`text_width`: the numbers to a token of the model that it is for."""
    numbers = np.random.default_rng(1)
    writer = gguf.GGUFWriter(file, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "gemma3")
    writer.add_bool("clip.use_gelu", True)
    for name, value in {
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "embedding_length": _WIDTH,
        "feed_forward_length": 2 * _WIDTH,
        "projection_dim": text_width,
        "block_count": _LAYERS,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    for name, shape in _tensors(text_width).items():
        writer.add_tensor(name, (numbers.standard_normal(shape) * 0.05).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _tensors(text_width: int) -> dict[str, tuple[int, ...]]:
    wide = 2 * _WIDTH
    found: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (_WIDTH, 3, _PATCH, _PATCH),
        "v.patch_embd.bias": (_WIDTH,),
        "v.position_embd.weight": ((_SIDE // _PATCH) ** 2, _WIDTH),
        "v.post_ln.weight": (_WIDTH,),
        "v.post_ln.bias": (_WIDTH,),
        "mm.input_projection.weight": (_WIDTH, text_width),
        "mm.soft_emb_norm.weight": (_WIDTH,),
    }
    layer: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (_WIDTH, _WIDTH)),
        "ln1": (_WIDTH,),
        "ln2": (_WIDTH,),
        "ffn_up": (wide, _WIDTH),
        "ffn_down": (_WIDTH, wide),
    }
    for number in range(_LAYERS):
        for name, shape in layer.items():
            found[f"v.blk.{number}.{name}.weight"] = shape
            found[f"v.blk.{number}.{name}.bias"] = shape[:1]
    return found
