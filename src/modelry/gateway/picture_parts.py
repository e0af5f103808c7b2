"""Chats that bring more than text: what a service takes, and images as its engine gets them.

An engine of ours gets images in the body alone, as data URLs that were looked at here; addresses
are followed by the gateway before the call takes a slot (`picture_fetch.py`). Sound, video and
files have no engine yet.
"""

import binascii
from dataclasses import dataclass
from typing import Any

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway import pictures
from modelry.gateway.pictures import NotAPicture
from modelry.gateway.replies import Reply, bad_request, error
from modelry.gateway.request import Request
from modelry.gateway.usage import Usage
from modelry.routing.messages import Route

IMAGES_MOST = 16
"""Of one request."""
_ADDRESS_MAX = 8192
_CODED_MOST = -(-pictures.BYTES_MOST // 3) * 4
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
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


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()


# Text alone must cost nothing: this reads no more than where each message's content begins.
_decode_contents = msgspec.json.Decoder(list[_Message]).decode
_decode_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode


@dataclass(frozen=True)
class Link:
    """An image by its address. `where`: in the body, for people. `types`: those that it may be
    of; empty for any.
    """

    image: dict[str, Any]
    where: str
    types: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return str(self.image["url"])

    def bring(self, data_url: str) -> None:
        self.image["url"] = data_url


class Pictures:
    """The shaping of a chat with images. It may be sent once every one of `links` was brought."""

    changes_answer = False
    in_thread = False

    def __init__(self, messages: list[dict[str, Any]], links: list[Link], tokens: int) -> None:
        self._messages = messages
        self._tokens = tokens
        self.links = links

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        return bodies.edited(body, messages=self._messages)

    def answer(self, answer: bytes) -> bytes:
        return answer

    def estimated(self) -> Usage:
        return Usage(self._tokens, 0)


def shape(request: Request, head: bodies.Head, route: Route) -> Pictures | None:
    """None for a chat of text, and for endpoints elsewhere. Raises a 400 for what no engine of
    ours should get to see.
    """
    if route.endpoints or not _has_parts(head.messages):
        return None
    try:
        messages = _decode_messages(head.messages)
    except bodies.UNREADABLE:
        raise _no_messages() from None
    images: list[tuple[Any, str]] = []
    for row, message in enumerate(messages):
        content = message.get("content")
        for column, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict):
                where = f"messages[{row}].content[{column}]"
                kind = _kind(part)
                if kind in _OTHERS:
                    raise _unsupported(f"{where}: no service here takes {_OTHERS[kind]} in chats.")
                if kind == _IMAGE:
                    images.append((part.get(_IMAGE), where))
    if not images:
        return None
    if not route.images:
        raise _unsupported(
            f"{images[0][1]}: {route.access_path} takes no images, it reads text alone."
        )
    if len(images) > IMAGES_MOST:
        told = f"The request has {len(images)} images; {IMAGES_MOST} are taken at most."
        raise bad_request(told, "messages")
    checked = [_checked(*each, route.image_types) for each in images]
    links = [link for link in checked if link is not None]
    tokens = bodies.prompt_tokens(request.body) + bodies.IMAGE_TOKENS * len(links)
    return Pictures(messages, links, tokens)


def refuse_media(request: Request, head: bodies.Head, route: Route) -> Pictures | None:
    """For completions, whose prompts llama.cpp lets bring files. Raises a 400."""
    begins = bytes(memoryview(head.prompt)[:1])
    if not route.endpoints and begins in (b"{", b"[") and _has_objects(head.prompt):
        raise _unsupported("A prompt is text here, or tokens; images belong into chats.", "prompt")
    return None


def require_type(media_type: str, types: tuple[str, ...]) -> None:
    """Raises `NotAPicture` for one that the service's engine cannot open."""
    if types and media_type not in types:
        raise NotAPicture(f"is {media_type}; this service takes {', '.join(types)}")


def data_url(media_type: str, coded: bytes | bytearray) -> str:
    """`coded`: the picture in base64."""
    return f"data:{media_type};base64,{coded.decode('ascii')}"


def invalid(where: str, message: str) -> Reply:
    """What is wrong with an image, or with its address."""
    told = f"{where}: the image {message}."
    return error(400, "invalid_image_url", told, param="messages")


def _has_parts(messages: msgspec.Raw) -> bool:
    """Whether any message's content is a list and no text."""
    if not memoryview(messages)[:1]:
        return False
    try:
        contents = _decode_contents(messages)
    except bodies.UNREADABLE:
        raise _no_messages() from None
    return any(bytes(memoryview(each.content)[:1]) == b"[" for each in contents)


def _has_objects(prompt: msgspec.Raw) -> bool:
    try:
        found = bodies.decode_any(prompt)
    except bodies.UNREADABLE:
        raise bad_request("'prompt' is no valid JSON.", "prompt") from None
    return any(isinstance(each, dict) for each in (found if isinstance(found, list) else [found]))


def _kind(part: dict[str, Any]) -> str:
    """What a part is. Engines go by its type or, where that is missing, by what it has: what it
    has counts here.
    """
    for kind in (*_OTHERS, _IMAGE):
        if part.get("type") == kind or kind in part:
            return kind
    return ""


def _checked(image: Any, where: str, types: tuple[str, ...]) -> Link | None:
    """None for an image that is here. Raises a 400."""
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise invalid(where, "is missing: give 'image_url': {'url': …}")
    scheme, _, rest = url[: _ADDRESS_MAX + 1].partition(":")
    match scheme.lower():
        case "http" | "https":
            if len(url) > _ADDRESS_MAX:
                raise invalid(where, f"has an address over {_ADDRESS_MAX} characters")
            return Link(image, where, types)
        case "data":
            media, comma, _ = rest[:100].partition(",")
            kind, _, coding = media.lower().partition(";")
            if not comma or coding != "base64" or kind not in pictures.MEDIA_TYPES:
                raise invalid(
                    where,
                    "needs the form data:image/png;base64,…, and image/jpeg, image/webp or "
                    "image/gif for those",
                )
            try:
                _check_data(url[len(scheme) + len(media) + 2 :], pictures.MEDIA_TYPES[kind])
                require_type(pictures.MEDIA_TYPES[kind], types)
            except NotAPicture as problem:
                raise invalid(where, str(problem)) from None
            return None
    raise invalid(where, "needs an address that begins with https:, http: or data:")


def _check_data(text: str, media_type: str) -> None:
    """Whether it is base64 of such a picture. Raises `NotAPicture`."""
    if len(text) > _CODED_MOST:
        raise NotAPicture(f"is larger than {pictures.BYTES_MOST >> 20} MiB")
    # A test of the letters takes a quarter of the time that decoding does.
    coded = text.encode("ascii", "replace")
    bare = coded.rstrip(b"=")
    if len(coded) % 4 or len(coded) - len(bare) > 2 or bare.translate(None, _ALPHABET):
        raise NotAPicture("is no valid base64")
    head = _head(coded, 16 * 1024) if len(coded) > 64 * 1024 else _head(coded, len(coded))
    try:
        picture = pictures.look(head)
    except NotAPicture:
        if not head.startswith(b"\xff\xd8"):
            raise
        # A photograph may have a preview before its size.
        picture = pictures.look(_head(coded, pictures.HEAD_BYTES))
    if picture.media_type != media_type:
        raise NotAPicture(f"is {picture.media_type}, and not {media_type} as its address says")


def _head(coded: bytes, size: int) -> bytes:
    return binascii.a2b_base64(coded[: -(-size // 3) * 4])


def _no_messages() -> Reply:
    return bad_request("'messages' must be a list of objects.", "messages")


def _unsupported(message: str, param: str = "messages") -> Reply:
    return error(400, "unsupported_content", message, param=param)
