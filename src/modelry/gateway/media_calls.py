"""Calls of images and speech: what they used, where neither engine nor endpoint says.

They are counted by what was asked for, which is what was done once the answer is a 200. What is
wrong in a request is its engine's to say: here it counts as nothing.
"""

import re
from typing import Any

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway import forms
from modelry.gateway.request import Request
from modelry.gateway.usage import NO_UNITS, Units, Usage
from modelry.routing.messages import Route

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_IMAGES_MOST = 128
"""More than any engine makes for one request."""


class MediaCall:
    """A call whose body goes through as it came, both ways; see `Shaping`."""

    changes_answer = False
    in_thread = False

    def __init__(self, units: Units) -> None:
        self._used = Usage(0, 0, units=units)

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        return body

    def answer(self, answer: bytes) -> bytes:
        return answer

    def estimated(self) -> Usage:
        return self._used


class _Size(msgspec.Struct):
    size: Any = None


class _Input(msgspec.Struct):
    input: str = ""


_decode_size = msgspec.json.Decoder(_Size).decode
_decode_input = msgspec.json.Decoder(_Input).decode


def images(request: Request, head: bodies.Head, _route: Route) -> MediaCall:
    return MediaCall(image_units(head.n, _size_of(request, head)))


def speech(request: Request, _head: bodies.Head, _route: Route) -> MediaCall:
    try:
        return MediaCall(Units(characters=len(_decode_input(request.body).input)))
    except bodies.UNREADABLE:
        return MediaCall(NO_UNITS)


def transcription(_request: Request, _head: bodies.Head, _route: Route) -> MediaCall:
    """How long a file plays is known only to who has decoded it."""
    return MediaCall(NO_UNITS)


def image_units(n: object, size: object) -> Units:
    """`n`, `size`: as the request has them; of a size that is not told there are no pixels."""
    count = min(n, _IMAGES_MOST) if type(n) is int and n > 0 else 1
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    pixels = 0 if match is None else int(match[1]) * int(match[2])
    return Units(images=count, pixels=count * pixels)


def _size_of(request: Request, head: bodies.Head) -> object:
    if isinstance(head, forms.FormHead):
        return head.size
    try:
        return _decode_size(request.body).size
    except bodies.UNREADABLE:
        return None
