"""What goes to a pipeline and what comes of it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Picture = Any
"""A `PIL.Image.Image`; Pillow is only where pictures are made."""


@dataclass(frozen=True)
class Draft:
    """One picture to be made. `pictures`: those to start from, each of `size`."""

    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    guidance: float | None
    strength: float | None
    size: tuple[int, int]
    pictures: tuple[Picture, ...] = ()
    mask: Picture | None = None


@dataclass(frozen=True)
class Made:
    """`flagged`: the safety checker takes exception to it, and the picture is black."""

    picture: Picture
    flagged: bool = False


Look = Callable[[int], Picture]
"""What a draft of the batch has become so far."""

Step = Callable[[int, int, Look], None]
"""Told after each step: which, from 1, of how many."""
