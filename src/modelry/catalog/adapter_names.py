"""How the parts of a model are named by Hugging Face's library, and how in a GGUF file.

For the architectures whose adapters can be turned from the one into the other without
a guess. `permuted`: llama.cpp's own conversion of such a base changes the order of rows
of the rotary projections, so an adapter's must follow
(`undo_permute` in https://github.com/ggml-org/llama.cpp/tree/master/conversion).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SPLIT = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_FUSED = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Architecture:
    """`modules`: of a layer, by the name that Hugging Face's library has for each."""

    modules: Mapping[str, str]
    permuted: bool = False


ARCHITECTURES: Mapping[str, Architecture] = {
    # Llama 1 to 3, Mistral, SmolLM, TinyLlama, Yi and their kin.
    "llama": Architecture(_SPLIT, permuted=True),
    "mistral3": Architecture(_SPLIT, permuted=True),
    "smollm3": Architecture(_SPLIT, permuted=True),
    "granite": Architecture(_SPLIT, permuted=True),
    "qwen2": Architecture(_SPLIT),
    "qwen3": Architecture(_SPLIT),
    "gemma": Architecture(_SPLIT),
    "gemma2": Architecture(_SPLIT),
    "gemma3": Architecture(_SPLIT),
    "phi3": Architecture(_FUSED),
}
"""By what a GGUF file calls them in `general.architecture`."""

_IN_LAYER = re.compile(
    r"(?:model\.)?(?:language_model\.)?(?:model\.)?"
    r"layers\.(?P<layer>0|[1-9][0-9]{0,5})\.(?P<module>[a-z_.]+)\.weight"
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|blk)\.([0-9]{1,6})\.")


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to, in either way of naming."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def gguf_name(architecture: Architecture, name: str) -> str | None:
    """What a GGUF base calls the tensor; None where that is not known."""
    if name == "lm_head.weight":
        return "output.weight"
    match = _IN_LAYER.fullmatch(name)
    module = architecture.modules.get(match["module"]) if match else None
    return f"blk.{match['layer']}.{module}.weight" if match and module else None


def is_rotary(name: str) -> bool:
    """Whether a GGUF tensor is one of those whose rows conversion changes the order of."""
    return name.endswith((".attn_q.weight", ".attn_k.weight"))
