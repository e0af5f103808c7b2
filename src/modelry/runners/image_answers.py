"""The shapes that pictures go out in: OpenAI's whole answer, and its events."""

import time
from typing import Any

from modelry.runners.image_requests import ImageRequest

_EVENTS = {"generate": "image_generation", "edit": "image_edit", "inpaint": "image_edit"}


def answer(
    request: ImageRequest, size: tuple[int, int], pictures: list[str], tokens: int
) -> dict[str, Any]:
    """`pictures`: in base64. `tokens`: of the prompt."""
    return {
        "created": int(time.time()),
        "background": "opaque",
        "data": [{"b64_json": picture} for picture in pictures],
        "output_format": request.format,
        "size": _size(size),
        "usage": _usage(tokens),
    }


def partial_image(
    request: ImageRequest, size: tuple[int, int], picture: str, index: int
) -> dict[str, Any]:
    return {
        "type": f"{_EVENTS[request.task]}.partial_image",
        "partial_image_index": index,
        **_told(request, size, picture),
    }


def completed(
    request: ImageRequest, size: tuple[int, int], picture: str, tokens: int
) -> dict[str, Any]:
    return {
        "type": f"{_EVENTS[request.task]}.completed",
        **_told(request, size, picture),
        "usage": _usage(tokens),
    }


def _told(request: ImageRequest, size: tuple[int, int], picture: str) -> dict[str, Any]:
    return {
        "b64_json": picture,
        "created_at": int(time.time()),
        "size": _size(size),
        "quality": "auto",
        "background": "opaque",
        "output_format": request.format,
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _usage(tokens: int) -> dict[str, Any]:
    """Pictures have no tokens here: what they cost is counted in pictures and pixels."""
    return {
        "input_tokens": tokens,
        "input_tokens_details": {"text_tokens": tokens, "image_tokens": 0},
        "output_tokens": 0,
        "total_tokens": tokens,
    }
