"""What a service's owner, or a model's card, says of how pictures are made. Pure.

`engines/diffusers.py` has the same names, and the values that each takes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """None leaves it to the model. `max_batch`: pictures of the model's own size that are made at
    once. `max_side`: pixels.
    """

    max_batch: int = 4
    max_side: int | None = None
    dtype: str = "auto"
    offload: str = "auto"
    default_steps: int | None = None
    default_guidance: float | None = None
    safety_checker: str | None = None
