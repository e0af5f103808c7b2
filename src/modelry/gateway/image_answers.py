"""Answers with images: a caller who wants addresses gets signed ones, and Modelry serves them.

An engine of ours always answers with the images themselves.
"""

import base64
import binascii
from typing import Any

import msgspec

from modelry.errors import ModelryError
from modelry.gateway import forms
from modelry.gateway.body import UNREADABLE, Head
from modelry.gateway.image_files import ImageFiles
from modelry.gateway.origin import Origin
from modelry.gateway.replies import bad_request
from modelry.gateway.request import Request
from modelry.gateway.shaping import Shaping
from modelry.gateway.tasks import Shape
from modelry.gateway.usage import NOTHING, Usage
from modelry.routing.messages import Route

PATHS = (b"/v1/images/generations", b"/v1/images/edits")
_FORMATS = ("url", "b64_json")


class _Wish(msgspec.Struct):
    response_format: Any = None


_decode_wish = msgspec.json.Decoder(_Wish).decode
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


class ImageAnswers:
    """`public_url`: where callers reach this installation; None: by the name that each used.
    `plain`: what else is done to such calls.
    """

    def __init__(
        self,
        files: ImageFiles,
        origin: Origin,
        public_url: str | None,
        plain: Shape | None = None,
    ) -> None:
        self._files = files
        self._origin = origin
        self._public_url = public_url
        self._plain = plain

    def shape(self, request: Request, head: Head, route: Route) -> Shaping | None:
        """Raises a 400 for a `response_format` that there is not."""
        plain = None if self._plain is None else self._plain(request, head, route)
        wish = _wish(request)
        if wish not in (None, *_FORMATS):
            raise bad_request("'response_format' must be url or b64_json.", "response_format")
        if head.stream is True or wish == "b64_json":
            return plain
        return _Addresses(plain, self._files, self._public_url or self._origin.base(request))


class _Addresses:
    def __init__(self, plain: Shaping | None, files: ImageFiles, base: str) -> None:
        self._plain = plain
        self._files = files
        self._base = base

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        return body if self._plain is None else self._plain.request(body)

    def answer(self, answer: bytes) -> bytes:
        """Raises `ModelryError` where an image cannot be kept."""
        told = _decode_answer(answer if self._plain is None else self._plain.answer(answer))
        try:
            for image in told["data"]:
                data = base64.b64decode(image.pop("b64_json"), validate=True)
                image["url"] = self._base + self._files.keep(data)
        except (KeyError, TypeError, AttributeError, binascii.Error):
            raise ModelryError("the engine's answer holds no images") from None
        return msgspec.json.encode(told)

    def estimated(self) -> Usage:
        return NOTHING if self._plain is None else self._plain.estimated()


def _wish(request: Request) -> Any:
    """The `response_format` of a request, None where it does not say."""
    boundary = forms.boundary_of(request) if request.path in forms.ENDPOINTS else None
    if boundary is None:
        try:
            return _decode_wish(request.body).response_format
        except UNREADABLE:
            return None
    for part in forms.parts(request.body, boundary):
        if part.name == "response_format" and not part.is_file:
            return forms.text_of(request.body, part).strip()
    return None
