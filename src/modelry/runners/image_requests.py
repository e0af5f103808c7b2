"""What a caller asks of an image model: fields of a body, read and held against bounds. Pure.

A body of JSON brings values with types, a form brings texts; both are taken. Fields that OpenAI's
API has and no pipeline here can follow (`quality`, `style`, `moderation`) change nothing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelry.runners.image_bounds import COUNT_MAX, STEPS_MAX, Bounds, check_work
from modelry.runners.refusals import Refused

Task = Literal["generate", "edit", "inpaint"]
"""`edit` makes a picture from another; `inpaint` only where a mask says so."""

FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
"""Of the answer, and what Pillow calls them."""

PROMPT_MAX = 32_000
GUIDANCE_MAX = 50.0
SEED_MAX = 2**63 - 1
_PARTIAL_MAX = 3
_SIZE = re.compile(r"([0-9]{1,5})[x×]([0-9]{1,5})", re.IGNORECASE)


@dataclass(frozen=True)
class ImageRequest:
    """`size`: width and height; None leaves it to the picture that is edited. `seed` is the first
    picture's; the next has the next number. `strength`: 0 to 1. `compression`: a quality in
    percent. `partial`: pictures of each one's making that a stream is to bring.
    """

    task: Task
    prompt: str
    negative_prompt: str | None
    count: int
    size: tuple[int, int] | None
    seed: int | None
    steps: int
    guidance: float | None
    strength: float | None
    format: str
    compression: int
    stream: bool
    partial: int


def read_request(fields: Mapping[str, object], task: Task, bounds: Bounds) -> ImageRequest:
    """Raises `Refused` that names the field and says what it takes."""
    _check_task(task, bounds)
    prompt = _text(fields, "prompt")
    if prompt is None or not prompt.strip():
        raise Refused("'prompt' must say what the picture is to show.", param="prompt")
    negative = _text(fields, "negative_prompt")
    if negative and not bounds.negative_prompts:
        raise Refused("This model takes no 'negative_prompt'.", param="negative_prompt")
    _one_of(fields, "response_format", ("url", "b64_json"))
    if _one_of(fields, "background", ("auto", "opaque", "transparent")) == "transparent":
        raise Refused(
            "This model makes no transparent pictures: leave 'background' out.", param="background"
        )
    steps = _whole(fields, "num_inference_steps", 1, STEPS_MAX)
    steps = bounds.steps if steps is None else steps
    guidance = _number(fields, "guidance_scale", 0, GUIDANCE_MAX)
    strength = _strength(fields, task, bounds, steps)
    stream = asks_for_stream(fields)
    count = _whole(fields, "n", 1, COUNT_MAX) or 1
    size = _size(fields, task, bounds)
    if size is not None:
        check_work(count, size, steps, bounds)
    return ImageRequest(
        task=task,
        prompt=prompt,
        negative_prompt=negative or None,
        count=count,
        size=size,
        seed=_whole(fields, "seed", 0, SEED_MAX),
        steps=steps,
        guidance=bounds.guidance if guidance is None else guidance,
        strength=strength,
        format=_one_of(fields, "output_format", tuple(FORMATS)) or "png",
        compression=_compression(fields),
        stream=stream,
        partial=(_whole(fields, "partial_images", 0, _PARTIAL_MAX) or 0) if stream else 0,
    )


def asks_for_stream(fields: Mapping[str, object]) -> bool:
    """Raises `Refused`."""
    return _flag(fields, "stream")


def size_of_edit(
    request: ImageRequest, picture: tuple[int, int], bounds: Bounds
) -> tuple[int, int]:
    """The size of what is made of a picture: its own where nobody says, as near as can be.

    Raises `Refused`.
    """
    if request.size is not None:
        return request.size
    sides = bounds.sides
    scale = min(1.0, sides.most / max(picture))
    scale = max(scale, sides.least / min(picture))
    width, height = (
        max(sides.factor, round(side * scale / sides.factor) * sides.factor) for side in picture
    )
    if max(width, height) > sides.most:
        raise Refused(
            f"The picture is too long and narrow, {picture[0]}x{picture[1]}: say a 'size'.",
            param="image",
        )
    check_work(request.count, (width, height), request.steps, bounds)
    return width, height


def _check_task(task: Task, bounds: Bounds) -> None:
    if task == "generate" and not bounds.generates:
        raise Refused("This model only edits pictures: send one to /v1/images/edits.")
    if task == "edit" and not bounds.edits:
        raise Refused("This model edits no pictures.", param="image")
    if task == "inpaint" and not bounds.masks:
        raise Refused("This model takes no 'mask': say in the prompt what to change.", param="mask")


def _size(fields: Mapping[str, object], task: Task, bounds: Bounds) -> tuple[int, int] | None:
    said, sides = _text(fields, "size"), bounds.sides
    if said is None or said == "auto":
        return (sides.own, sides.own) if task == "generate" else None
    match = _SIZE.fullmatch(said)
    if match is None:
        example = f"{sides.own}x{sides.own}"
        raise Refused(f"'size' must be WIDTHxHEIGHT such as {example}, or auto.", param="size")
    width, height = int(match[1]), int(match[2])
    for side in (width, height):
        if side % sides.factor or not sides.least <= side <= sides.most:
            raise Refused(
                f"'size' is {width}x{height}: width and height must be multiples of "
                f"{sides.factor}, from {sides.least} to {sides.most}.",
                param="size",
            )
    return width, height


def _strength(fields: Mapping[str, object], task: Task, bounds: Bounds, steps: int) -> float | None:
    said = _number(fields, "strength", 0, 1)
    if task == "generate" or bounds.strength is None:
        if said is not None:
            told = "is for edits" if task == "generate" else "is nothing that this model takes"
            raise Refused(f"'strength' {told}: leave it out.", param="strength")
        return None
    strength = bounds.strength if said is None else said
    # So many of the steps are made, of a picture that is as far gone as that.
    if int(steps * strength) < 1:
        raise Refused(
            f"'strength' {strength:g} of {steps} steps leaves nothing to do: raise either.",
            param="strength",
        )
    return strength


def _compression(fields: Mapping[str, object]) -> int:
    said = _whole(fields, "output_compression", 0, 100)
    return 100 if said is None else said


# -- fields ----------------------------------------------------------------------------


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(f"'{name}' must be a text.", param=name)
    if len(value) > PROMPT_MAX:
        raise Refused(f"'{name}' may have {PROMPT_MAX} characters at most.", param=name)
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can spell and no tokenizer reads.
        raise Refused(f"'{name}' is no valid Unicode text.", param=name) from None
    return value


def _one_of(fields: Mapping[str, object], name: str, known: tuple[str, ...]) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in known:
        raise Refused(f"'{name}' must be one of: {', '.join(known)}.", param=name)
    return value


def _whole(fields: Mapping[str, object], name: str, lowest: int, highest: int) -> int | None:
    value = fields.get(name)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value.strip()):
        value = int(value)
    if value is None or value == "":
        return None
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if type(value) is not int or not lowest <= value <= highest:
        raise Refused(f"'{name}' must be a whole number, {lowest} to {highest}.", param=name)
    return value


def _number(fields: Mapping[str, object], name: str, lowest: float, highest: float) -> float | None:
    value = fields.get(name)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{0,9}\.?[0-9]{0,9}", value.strip()):
        try:
            value = float(value) if value.strip() else None
        except ValueError:
            pass
    if value is None:
        return None
    if type(value) not in (int, float) or not lowest <= value <= highest:  # type: ignore[operator]
        raise Refused(f"'{name}' must be a number, {lowest:g} to {highest:g}.", param=name)
    assert isinstance(value, int | float)
    assert math.isfinite(value)
    return float(value)


def _flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False, "": False}.get(value.lower())
        if value is None:
            raise Refused(f"'{name}' must be true or false.", param=name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Refused(f"'{name}' must be true or false.", param=name)
    return value
