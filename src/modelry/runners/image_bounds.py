"""How large the pictures of a model may be, and how much work one request may ask for. Pure."""

from dataclasses import dataclass

from modelry.runners.refusals import Refused

COUNT_MAX = 10
STEPS_MAX = 150
_SIDE = 1024
"""What a pipeline makes that does not say."""
_SIDE_MIN = 64
_SIDE_MAX = 2048
"""Models that make larger ones are few, and a picture of that size takes gigabytes."""


@dataclass(frozen=True)
class Sides:
    """Of a model's pictures, in pixels: multiples of `factor`, from `least` to `most`. `own` is
    the side it was trained for.
    """

    factor: int
    own: int
    least: int
    most: int


def sides_of(factor: int, own: int | None, asked: int | None) -> Sides:
    """`own`: as the model says, where it does. `asked`: what its owner says is the most; it is
    never less than the model's own.

    Where the owner says nothing it is twice the model's own, and 2048 for the large ones: far from
    what they were trained for models repeat what they draw, and the work of attention grows with
    the fourth power of the side.
    """
    own = max(factor, (own or _SIDE) // factor * factor)
    most = min(2 * own, _SIDE_MAX) if asked is None else asked
    return Sides(
        factor=factor,
        own=own,
        least=max(factor, min(_SIDE_MIN, own)),
        most=max(own, most // factor * factor),
    )


@dataclass(frozen=True)
class Bounds:
    """What a pipeline makes. `edits`, `masks`: whether it can."""

    sides: Sides
    steps: int
    guidance: float | None
    generates: bool = True
    edits: bool = True
    masks: bool = True
    strength: float | None = 0.8
    """How far an edit goes from the picture it is given; None where it cannot be said."""
    negative_prompts: bool = True
    pictures_max: int = 1
    """That an edit may be given."""

    @property
    def work_max(self) -> int:
        """Pixels times steps that one request may ask for, over all of its pictures: the largest
        picture in the most steps, or as many pictures as there may be where nobody says more.
        """
        largest = self.sides.most**2 * STEPS_MAX
        return max(largest, COUNT_MAX * self.sides.own**2 * self.steps)


def check_work(count: int, size: tuple[int, int], steps: int, bounds: Bounds) -> None:
    """Raises `Refused` where `count` pictures are more work than one request may ask for; one is
    never.
    """
    width, height = size
    most = bounds.work_max // (width * height)
    if count > 1 and count * steps > most:
        raise Refused(
            f"{count} pictures of {width}x{height} in {steps} steps each are too much for one "
            f"request: at that size it may ask for {most} steps in all, which is {most // steps} "
            "of them. Ask for fewer, in fewer steps, or smaller.",
            param="n",
        )
