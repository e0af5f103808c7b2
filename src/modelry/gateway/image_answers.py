"""Answers with images: a caller who wants addresses gets signed ones, and Modelry serves them.

An engine of ours always answers with the images themselves.
"""

import binascii
from typing import Any

import msgspec

from modelry.errors import ModelryError
from modelry.gateway.body import UNREADABLE, Head
from modelry.gateway.forms import FormHead
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
_SLICE = 256 * 1024


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
        """Raises a 400 for a `response_format` that engines of ours do not have."""
        plain = None if self._plain is None else self._plain(request, head, route)
        if route.endpoints:
            # They get what the caller sent, and answer for what they do not know.
            return plain
        wish = _wish(request, head)
        if wish not in (None, *_FORMATS):
            raise bad_request("'response_format' must be url or b64_json.", "response_format")
        if head.stream is True or wish == "b64_json":
            return plain
        return _Addresses(
            plain, self._files, self._public_url or self._origin.base(request), _owner(request)
        )


class _Addresses:
    """`base`: what stands before addresses; `owner`: whose the images are."""

    changes_answer = True
    in_thread = True

    def __init__(self, plain: Shaping | None, files: ImageFiles, base: str, owner: str) -> None:
        self._plain = plain
        self._files = files
        self._base = base
        self._owner = owner

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        return body if self._plain is None else self._plain.request(body)

    def answer(self, answer: bytes) -> bytes:
        """Raises `ModelryError` where an image cannot be kept."""
        told = _decode_answer(answer if self._plain is None else self._plain.answer(answer))
        try:
            for image in told["data"]:
                data = _decoded(image.pop("b64_json"))
                image["url"] = self._base + self._files.keep(data, self._owner)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ModelryError("the engine's answer holds no images") from None
        return msgspec.json.encode(told)

    def estimated(self) -> Usage:
        return NOTHING if self._plain is None else self._plain.estimated()


def _decoded(text: str) -> bytes:
    """Of base64. A slice at a time, as nothing else runs while one is decoded."""
    slices = range(0, len(text), _SLICE)
    # Not `base64.b64decode`, whose check takes ten times as long.
    return b"".join(binascii.a2b_base64(text[at : at + _SLICE], strict_mode=True) for at in slices)


def _owner(request: Request) -> str:
    return "" if request.key is None else request.key.owner_id


def _wish(request: Request, head: Head) -> Any:
    """The `response_format` of a request, None where it does not say."""
    if isinstance(head, FormHead):
        return head.format
    try:
        return _decode_wish(request.body).response_format
    except UNREADABLE:
        return None
