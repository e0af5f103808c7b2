"""What a model card pins of its weights, held against what came."""

from modelry.catalog.cards import Variant
from modelry.catalog.download import WrongWeights


def check(variant: Variant, size: int, sha256: str, *, kept: str) -> None:
    """Raises `WrongWeights`; `kept` says what became of what came."""
    check_size(variant, size)
    if variant.sha256 is not None and sha256 != variant.sha256:
        raise WrongWeights(
            f"the weights' checksum is wrong: SHA-256 {sha256}, and the model card says "
            f"{variant.sha256}; {kept}",
            hint="the file was changed at its source, or the card is out of date",
        )


def check_size(variant: Variant, size: int) -> None:
    if variant.size_bytes is not None and size != variant.size_bytes:
        raise WrongWeights(
            f"the weights' size is wrong: {size} bytes, and the model card says "
            f"{variant.size_bytes}",
            hint="the file was changed at its source, or the card is out of date",
        )
