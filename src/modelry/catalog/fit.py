"""Whether a model fits a machine: an estimate before anything is fetched. Pure.

    memory = weights × 1.1 + KV cache + 256 MiB     models of text
    memory = weights × 1.2 + 256 MiB                models of images and sound

- *Weights*: their size where it is known, otherwise parameters × bits of the quantisation / 8.
  The bits of GGUF's are what llama.cpp measured of Llama 3.1 8B (its `tools/quantize/README.md`);
  small models need up to a fifth more, since their embeddings are a larger part of them.
- *KV cache*: tokens × `kv_bytes_per_token` of the card, which is 2 (key and value) × layers ×
  key-value heads × head dimension × 2 bytes. Where the card does not say, 2 × √parameters bytes:
  179 kB for 8 billion, where Llama 3.1 8B needs 131 kB; 529 kB for 70 billion, where Llama 3.3 70B
  needs 328 kB.
- *The projector* of a model that reads images counts with its weights, once its size is known.
- *The rest*, buffers of the computation and the engine itself. The fifth for images and sound is
  EleutherAI's "Transformer Math 101" (inference needs 1.2 × the weights).

Measured with llama.cpp after a call of 3,000 words, the embedded model of 135M parameters: 276 MB
with one slot of 4096 tokens, where 471 are estimated; 560 with four, of 754; 1,696 with eight of
8192, of 1,887. What is left over is for the larger vocabularies of larger models.

A GPU is filled up to nine tenths by engines that reserve its memory (vLLM's default); what has no
GPU shares the machine's memory with everything else on it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from modelry.catalog.cards import ModelCard, Variant
from modelry.engines.inventory import Inventory

Verdict: TypeAlias = Literal["fits", "tight", "too_large", "unknown"]
Place: TypeAlias = Literal["gpu", "memory"]

DEFAULT_CONTEXT_TOKENS = 4096
DEFAULT_SLOTS = 4

_MIB = 1024 * 1024
_BASE_BYTES = 256 * _MIB
_TEXT_TASKS = frozenset({"chat", "completion", "embedding", "rerank"})

# Of a place's memory: up to the first it fits, up to the second it is tight.
_SHARES: dict[Place, tuple[float, float]] = {"gpu": (0.9, 0.97), "memory": (0.75, 0.95)}

_BITS = {
    "F32": 32.0, "FP32": 32.0,
    "F16": 16.0, "FP16": 16.0, "BF16": 16.0,
    "Q8_0": 8.5, "FP8": 8.5, "INT8": 8.5,
    "Q6_K": 6.56, "Q6_K_L": 6.7, "Q6_K_XL": 7.0,
    "Q5_K_M": 5.7, "Q5_K_S": 5.57, "Q5_1": 6.04, "Q5_0": 5.57, "Q5_K_XL": 5.8,
    "Q4_K_M": 4.89, "Q4_K_S": 4.67, "Q4_1": 5.11, "Q4_0": 4.65, "Q4_K_XL": 4.95,
    "IQ4_NL": 4.68, "IQ4_XS": 4.46,
    "AWQ": 5.0, "GPTQ": 5.0, "INT4": 5.0, "NVFP4": 5.0, "MXFP4": 4.6,
    "Q3_K_L": 4.3, "Q3_K_M": 4.0, "Q3_K_S": 3.64, "Q3_K_XL": 4.1,
    "IQ3_M": 3.76, "IQ3_S": 3.66, "IQ3_XS": 3.5, "IQ3_XXS": 3.25,
    "Q2_K": 3.16, "Q2_K_S": 2.97, "Q2_K_XL": 3.1,
    "IQ2_M": 2.93, "IQ2_S": 2.74, "IQ2_XS": 2.59, "IQ2_XXS": 2.38,
    "IQ1_M": 2.15, "IQ1_S": 2.0,
}  # fmt: skip
_BITS_IN_MEMORY = 6.6
_MOST_EFFORT = (True, 1_000_000)
# What weights of a format have where nobody says otherwise; a GGUF file can have anything.
_FORMAT_BITS = {"safetensors": 16.0, "diffusers": 16.0, "ctranslate2": 16.0, "onnx": 32.0}


@dataclass(frozen=True)
class Fit:
    """`where`: the place it was held against. `memory_bytes`: what a replica needs, about."""

    verdict: Verdict
    message: str
    where: Place | None = None
    memory_bytes: int | None = None


def bits_of(variant: Variant) -> float | None:
    """Bits a parameter; None where that cannot be told."""
    if variant.quantisation is not None:
        # `UD-`: a makers' mark, for a mixture of about the same size.
        return _BITS.get(variant.quantisation.removeprefix("UD-"))
    return _FORMAT_BITS.get(variant.format)


def weights_bytes(card: ModelCard, variant: Variant) -> int | None:
    """The size of the weights, or what it is about; None: unknown."""
    bits = bits_of(variant)
    if variant.size_bytes is not None or card.parameters is None or bits is None:
        return variant.size_bytes
    return math.ceil(card.parameters * bits / 8)


def memory_needed(
    card: ModelCard,
    variant: Variant,
    tokens: int,
    size_bytes: int | None = None,
    projector_bytes: int = 0,
) -> int | None:
    """What a replica takes that keeps `tokens` in all its slots together; None: unknown.

    `size_bytes`: of the weights, where somebody knows what the card does not say.
    `projector_bytes`: of its projector, 0 where that is not known.
    """
    weights = size_bytes or weights_bytes(card, variant)
    if weights is None:
        return None
    if _TEXT_TASKS.isdisjoint(card.tasks):
        return _BASE_BYTES + math.ceil(weights * 1.2)
    parameters = card.parameters
    if parameters is None:
        # As if in 8 bits where that is unknown too: a guess within a factor of two.
        parameters = math.ceil(weights * 8 / (bits_of(variant) or 8))
    token_bytes = card.kv_bytes_per_token or math.ceil(2 * math.sqrt(parameters))
    return _BASE_BYTES + math.ceil((weights + projector_bytes) * 1.1) + tokens * token_bytes


def estimate(
    card: ModelCard,
    variant: Variant,
    inventory: Inventory,
    *,
    tokens: int = DEFAULT_CONTEXT_TOKENS * DEFAULT_SLOTS,
    size_bytes: int | None = None,
    projector_bytes: int = 0,
) -> Fit:
    """Whether a replica fits this machine: into the largest GPU, or else into memory."""
    needed = memory_needed(card, variant, tokens, size_bytes, projector_bytes)
    if needed is None:
        return Fit("unknown", "how much memory it needs is not known before it is here")
    places: list[tuple[Place, int, str]] = []
    if inventory.gpus:
        largest = max(inventory.gpus, key=lambda gpu: gpu.memory_bytes)
        places.append(("gpu", largest.memory_bytes, f"GPU {largest.index} ({largest.name})"))
    places.append(("memory", inventory.memory_bytes, "this machine's memory"))
    fits = [_held(needed, place, has, name) for place, has, name in places]
    # The first of the best: a GPU before memory.
    return min(fits, key=lambda fit: _ORDER.index(fit.verdict))


Effort: TypeAlias = Callable[[Variant], "tuple[bool, int] | None"]
"""Of running a variant, the least is best: whether it is converted first, and its engine's
preference. None: nothing here runs it."""


def best_variant(card: ModelCard, effort: Effort, fit: Callable[[Variant], Fit]) -> Variant:
    """Of the variants that fit, one that its card prefers, or that of least effort, and of those
    the one of highest quality.

    Where none fits it is the one that needs least, and where none can be run, the same of all.
    Quality is bits a parameter; of equals, the card's order decides. In a machine's memory, where
    the time a token takes is that of reading all weights once, more than six bits cost speed
    and hardly help: the fewest above that are best.
    """
    efforts = {variant.name: effort(variant) for variant in card.variants}
    runnable = [variant for variant in card.variants if efforts[variant.name] is not None]
    fits = [(variant, fit(variant)) for variant in runnable or card.variants]
    fitting = [(variant, found) for variant, found in fits if found.verdict == "fits"]
    if not fitting:
        return min(fits, key=lambda each: each[1].memory_bytes or math.inf)[0]
    preferred = [each for each in fitting if each[0].preferred]
    if preferred:
        return preferred[0][0]
    least = min(efforts[variant.name] or _MOST_EFFORT for variant, _ in fitting)
    easiest = [each for each in fitting if (efforts[each[0].name] or _MOST_EFFORT) == least]
    return max(easiest, key=lambda each: _quality(*each))[0]


def _quality(variant: Variant, found: Fit) -> float:
    bits = bits_of(variant) or 0.0
    return -bits if found.where == "memory" and bits > _BITS_IN_MEMORY else bits


_ORDER: tuple[Verdict, ...] = ("fits", "tight", "too_large", "unknown")


def _held(needed: int, place: Place, has: int, name: str) -> Fit:
    comfortable, most = _SHARES[place]
    verdict: Verdict = "too_large"
    told = f"needs about {_gb(needed)}, and {name} has {_gb(has)} in all"
    if needed <= has * comfortable:
        verdict = "fits"
        told = f"needs about {_gb(needed)} of the {_gb(has)} of {name}"
    elif needed <= has * most:
        verdict = "tight"
        told = f"needs about {_gb(needed)}, nearly all of the {_gb(has)} of {name}"
    return Fit(verdict, told, place, needed)


def _gb(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
