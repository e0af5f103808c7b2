"""Chats that bring more than text: what a service takes, and images as its engine gets them.

An engine of ours gets images in the body alone, as data URLs that were looked at here; addresses
are followed by the gateway before the call takes a slot (`picture_fetch.py`). Sound, video and
files have no engine yet.

A chat is read no further than these questions need: whatever else is in it costs nothing here,
and is never held a second time.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw

from modelry.gateway import body as bodies
from modelry.gateway.items import kind_of
from modelry.gateway.picture_urls import media_type_of
from modelry.gateway.pictures import NotAPicture
from modelry.gateway.replies import Reply, bad_request, error
from modelry.gateway.request import Request
from modelry.gateway.usage import Usage
from modelry.routing.messages import Route

IMAGES_MOST = 16
"""Of one request."""
MESSAGES_MOST = 16384
PARTS_MOST = 16384
"""Of all messages together, where their contents are lists."""
_SHORT_BYTES = 256 * 1024
"""A list of so many bytes may be read before its items are counted: they take 10 ms at most."""
_NAME_MAX = 100
"""Bytes that a part's type may take in JSON, with each letter as \\uXXXX; longer ones are none."""
_IMAGE = "image_url"

# What parts of a message may be called, or have, that no engine of ours takes → what that is.
_OTHERS = {
    "input_audio": "audio",
    "audio_url": "audio",
    "audio_embeds": "audio",
    "input_video": "video",
    "video_url": "video",
    "file": "files",
    "input_file": "files",
    "image_file": "files",
    "image_embeds": "embeddings of images",
    "image_pil": "images in memory",
    "input_image": "images under this name; call them image_url",
}
_BRACE = re.compile(rb"\{")
_NONE = Raw()
_TEXT = Raw(b'"text"')


class _Message(msgspec.Struct):
    content: Raw = Raw()


class _Address(msgspec.Struct):
    url: str


_MEDIA = (_IMAGE, *_OTHERS)
# Its fields in order: the type, the image, and what no engine takes.
_Part = msgspec.defstruct("_Part", [(name, Raw, _NONE) for name in ("type", *_MEDIA)], gc=False)
_NO_MEDIA = (_NONE,) * len(_MEDIA)

# Text alone must cost nothing: this reads no more than where each message's content begins.
_decode_contents = msgspec.json.Decoder(list[_Message]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_address = msgspec.json.Decoder(_Address).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Image:
    """One of a chat: the part `column` of the message `row`. `link` is its address where it is
    not here yet; else `media_type` says what it is.
    """

    __slots__ = ("column", "link", "media_type", "row", "url")

    def __init__(self, row: int, column: int) -> None:
        self.row, self.column = row, column
        self.link: str | None = None
        self.media_type = ""
        self.url: Raw | None = None
        """What stands in place of its address, as a JSON string."""

    def look(self, field: Raw) -> None:
        """Learn what it is. `field`: what stands under `image_url`. Raises a 400."""
        try:
            url = _decode_address(field).url
        except bodies.UNREADABLE:
            raise self.invalid("is missing: give 'image_url': {'url': …}") from None
        try:
            media_type = media_type_of(url)
        except NotAPicture as problem:
            raise self.invalid(str(problem)) from None
        if media_type is None:
            self.link = url
        else:
            self.media_type = media_type

    def bring(self, media_type: str, url: Raw) -> None:
        self.media_type, self.url = media_type, url

    def invalid(self, why: str) -> Reply:
        """What is wrong with it, or with its address."""
        told = f"{_where(self.row, self.column)}: the image {why}."
        return error(400, "invalid_image_url", told, param="messages")


class Pictures:
    """The shaping of a chat with images. It may be sent once every one of `links` was brought."""

    changes_answer = False
    in_thread = False

    def __init__(self, messages: Raw, images: list[Image], tokens: int) -> None:
        self._messages = messages
        self._images = images
        self.links = [image for image in images if image.link is not None]
        self._tokens = tokens + bodies.IMAGE_TOKENS * len(self.links)

    def routed(self, route: Route) -> None:
        """Raises a 400 where the service does not take these images. What it takes may be known
        only once its weights are here, which calls wait for: ask again before it is sent.
        """
        if not route.images:
            raise _no_images(self._images[0], route)
        types = route.image_types
        for image in self._images:
            if types and image.media_type and image.media_type not in types:
                raise image.invalid(f"is {image.media_type}; this service takes {', '.join(types)}")

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        # Each object anew, so that a name that comes twice is what was looked at.
        messages: list[dict[str, Any]] = [
            _decode_fields(each) for each in _decode_list(self._messages)
        ]
        for row in {image.row for image in self._images}:
            messages[row]["content"] = _decode_list(messages[row]["content"])
        for image in self._images:
            parts = messages[image.row]["content"]
            part: dict[str, Any] = dict(_decode_fields(parts[image.column]))
            fields = _decode_fields(part[_IMAGE])
            part[_IMAGE] = fields if image.url is None else {**fields, "url": image.url}
            parts[image.column] = part
        return bodies.edited(body, messages=messages)

    def answer(self, answer: bytes) -> bytes:
        return answer

    def estimated(self) -> Usage:
        return Usage(self._tokens, 0)


def shape(request: Request, head: bodies.Head, route: Route) -> Pictures | None:
    """None for a chat of text, and for endpoints elsewhere. Raises a 400 for what no engine of
    ours should get to see.
    """
    if route.endpoints or not memoryview(head.messages)[:1]:
        return None
    try:
        found = list(_images(head.messages))
    except bodies.UNREADABLE:
        raise bad_request("'messages' must be a list of objects.", "messages") from None
    if not found:
        return None
    if not route.images:
        raise _no_images(found[0][0], route)
    if len(found) > IMAGES_MOST:
        told = f"The request has {len(found)} images; {IMAGES_MOST} are taken at most."
        raise bad_request(told, "messages")
    for image, field in found:
        image.look(field)
    tokens = bodies.prompt_tokens(request.body, request.unread_bytes)
    shaping = Pictures(head.messages, [image for image, _ in found], tokens)
    shaping.routed(route)
    return shaping


def refuse_media(request: Request, head: bodies.Head, route: Route) -> Pictures | None:
    """For completions, whose prompts llama.cpp lets bring files. Raises a 400."""
    if not route.endpoints and _has_objects(head.prompt):
        raise _unsupported("A prompt is text here, or tokens; images belong into chats.", "prompt")
    return None


def refuse_images(messages: Raw, why: str) -> None:
    """Raises a 400 where a chat brings anything but text."""
    try:
        found = next(_images(messages), None)
    except bodies.UNREADABLE:
        raise bad_request("'messages' must be a list of objects.", "messages") from None
    if found is not None:
        raise _unsupported(f"{_where(found[0].row, found[0].column)}: {why}")


def _images(messages: Raw) -> Iterator[tuple[Image, Raw]]:
    """Each with what stands under its `image_url`. Raises a 400 for parts that no engine takes,
    and what `bodies.UNREADABLE` names where there is no list of messages.
    """
    require_few(messages, MESSAGES_MOST, "messages")
    contents = _decode_contents(messages)
    if len(contents) > MESSAGES_MOST:
        raise _too_many(MESSAGES_MOST, "messages")
    left = PARTS_MOST
    for row, message in enumerate(contents):
        if bytes(memoryview(message.content)[:1]) != b"[":
            continue
        require_few(message.content, PARTS_MOST, "parts of messages")
        parts = _decode_list(message.content)
        left -= len(parts)
        if left < 0:
            raise _too_many(PARTS_MOST, "parts of messages")
        for column, part in enumerate(parts):
            if bytes(memoryview(part)[:1]) == b"{":
                fields = msgspec.structs.astuple(_decode_part(part))
                kind = _kind(fields)
                if kind in _OTHERS:
                    where = _where(row, column)
                    raise _unsupported(f"{where}: no service here takes {_OTHERS[kind]} in chats.")
                if kind == _IMAGE:
                    yield Image(row, column), fields[1]


def _kind(fields: tuple[Raw, ...]) -> str:
    """What a part is, by the fields of `_Part`. Engines go by its type or, where that is missing,
    by what it has: what it has counts here.
    """
    type_ = fields[0]
    named = "" if type_ is _NONE or type_ == _TEXT else _name(type_)
    if fields[1:] == _NO_MEDIA:
        return named if named in _MEDIA else ""
    if named in _OTHERS:
        return named
    has = [name for name, value in zip(_MEDIA, fields[1:], strict=True) if value != _NONE]
    # What no engine takes counts before an image.
    return has[-1]


def _name(value: Raw) -> str:
    """A short string; empty for everything else."""
    view = memoryview(value)
    if bytes(view[:1]) != b'"' or len(view) > _NAME_MAX:
        return ""
    return str(bodies.decode_any(value))


def require_few(items: Raw, most: int, what: str, param: str = "messages") -> None:
    """Refuse a long list of too many items before anything is made of them. Raises a 400, and what
    `bodies.UNREADABLE` names where there is no list.
    """
    if len(memoryview(items)) > _SHORT_BYTES:
        try:
            _counter(most)(items)
        except msgspec.ValidationError:
            if bytes(memoryview(items)[:1]) == b"[":
                raise _too_many(most, what, param) from None
            raise


@cache
def _counter(most: int) -> Callable[[Raw], object]:
    """Fails at once where a list has more items, and makes nothing of those it has. Made once,
    when it is first needed: that takes 30 ms.
    """
    fields = [(f"item_{number}", Raw, _NONE) for number in range(most)]
    items = msgspec.defstruct("_Items", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(items).decode


def _has_objects(prompt: Raw) -> bool:
    kind = kind_of(prompt)
    if kind != b"[" or not _BRACE.search(memoryview(prompt)):
        # A list of tokens may be long.
        return kind == b"{"
    return any(kind_of(each) == b"{" for each in bodies.prompts_of(prompt))


def _where(row: int, column: int) -> str:
    return f"messages[{row}].content[{column}]"


def _too_many(most: int, what: str, param: str = "messages") -> Reply:
    return bad_request(f"The request has too many {what}; {most} are taken at most.", param)


def _no_images(image: Image, route: Route) -> Reply:
    where = _where(image.row, image.column)
    return _unsupported(f"{where}: {route.access_path} takes no images, it reads text alone.")


def _unsupported(message: str, param: str = "messages") -> Reply:
    return error(400, "unsupported_content", message, param=param)
