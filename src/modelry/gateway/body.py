"""What the gateway reads of a request's body, and the little it changes in it."""

import hashlib
import re
from typing import Any

import msgspec

from modelry.gateway import items
from modelry.gateway.replies import Reply, bad_request
from modelry.gateway.request import CHAT, COMPLETION

# Deep nesting ends in a RecursionError.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

STREAMS_USAGE = frozenset({CHAT, COMPLETION})
"""Endpoints whose streams bring usage where they are asked for it."""
_TOKENS_ASSUMED = 256
"""Of an answer whose request does not say how long it may be."""
_BYTES_PER_TOKEN = 4
_TOKENS_MOST = 1 << 30
IMAGE_TOKENS = 1000
"""About what an image is to an engine, whatever its size as a file."""
_LOOK_FOR_IMAGES_BYTES = IMAGE_TOKENS * _BYTES_PER_TOKEN
"""In a body of fewer bytes, an image counts for less."""
_CODED = b";base64,"
_IMAGES_COUNTED = 1024
"""More than any request may have; each is looked for."""
_SHORT_BYTES = 1024 * 1024
_VALUES_MOST = 1024 * 1024

decode_any = msgspec.json.Decoder(Any).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Head(msgspec.Struct):
    """The fields that matter here; what they hold is checked by the engine."""

    model: str = ""
    stream: Any = None
    stream_options: Any = msgspec.UNSET
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    timings_per_token: Any = None
    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    response_format: msgspec.Raw = msgspec.Raw()


_decode_head = msgspec.json.Decoder(Head).decode


def read(body: bytes | bytearray) -> Head:
    """Raises a 400 that says what is wrong with the body."""
    try:
        head = _decode_head(body)
    except UNREADABLE:
        raise _explained(body) from None
    if not head.model:
        raise bad_request("The body lacks 'model': name a service, like 'u-…/name'.", "model")
    return head


def prompt_tokens(body: bytes | bytearray, unread_bytes: int = 0) -> int:
    """About how many tokens a prompt has, by its bytes; an image in it by none of them. Without
    `unread_bytes`: see `Request`.
    """
    size = len(body) - unread_bytes
    if size < _LOOK_FOR_IMAGES_BYTES:
        return size // _BYTES_PER_TOKEN
    images, at = 0, body.find(_CODED)
    while at >= 0 and images < _IMAGES_COUNTED:
        end = body.find(b'"', at)
        if end < 0:
            break
        images += 1
        size -= end - at
        at = body.find(_CODED, end)
    return size // _BYTES_PER_TOKEN + IMAGE_TOKENS * images


_ANSWERS_MOST = 1 << 20


def answers(head: Head) -> tuple[int, int]:
    """How many prompts a request has, and how many answers it asks for: `n` to each. Raises a 400
    where there are too many.
    """
    each = head.n if type(head.n) is int and head.n > 0 else 1
    prompts = 1
    # A list of numbers is one prompt, of tokens.
    if items.kind_of(head.prompt) == b"[" and items.first_of(head.prompt) in (b'"', b"["):
        prompts = len(prompts_of(head.prompt))
    return prompts, min(prompts * each, _ANSWERS_MOST)


def prompts_of(given: msgspec.Raw) -> list[msgspec.Raw]:
    """Each prompt of a list of them, as it came. Raises a 400."""
    try:
        return items.items_of(given, items.MOST)
    except items.TooMany:
        told = f"'prompt' is a list of more than {items.MOST} items: send them in several calls."
        raise bad_request(told, "prompt") from None
    except UNREADABLE:
        raise bad_request("'prompt' is no valid JSON.", "prompt") from None


def expected_tokens(head: Head, body: bytes | bytearray, unread_bytes: int = 0) -> int:
    """About how many tokens a request uses, prompt and answer together. See `prompt_tokens`."""
    most = head.max_completion_tokens or head.max_tokens
    if most is None or type(most) is not int or most <= 0:
        most = _TOKENS_ASSUMED
    if head.n is not None or len(memoryview(head.prompt)):
        most *= answers(head)[1]
    return prompt_tokens(body, unread_bytes) + min(most, _TOKENS_MOST)


def asks_for_usage(head: Head) -> bool:
    options = head.stream_options
    return isinstance(options, dict) and options.get("include_usage") is True


def with_usage(head: Head, body: bytes | bytearray) -> bytes:
    """The same request for a stream, asking for usage."""
    if head.stream_options is msgspec.UNSET:
        start = body.index(b"{") + 1
        rest = bytes(body) if start == 1 else bytes(body[start - 1 :])
        return b'{"stream_options":{"include_usage":true},' + rest[1:]
    options = head.stream_options if isinstance(head.stream_options, dict) else {}
    return edited(body, stream_options={**options, "include_usage": True})


def edited(body: bytes | bytearray, **fields: object) -> bytes:
    """The same object with `fields` set; every other field as it came."""
    known: dict[str, Any] = dict(_decode_fields(body))
    known.update(fields)
    return msgspec.json.encode(known)


def for_model(body: bytes | bytearray, model: str) -> bytes:
    """The same object for another model, named once: some readers take `Model` for it too, or the
    first of several.
    """
    rest = {name: value for name, value in _decode_fields(body).items() if name.lower() != "model"}
    return msgspec.json.encode({"model": model, **rest})


def fields(body: bytes | bytearray) -> dict[str, msgspec.Raw]:
    """Of an object, each as it came. Raises a 400 where a name cannot be read."""
    try:
        return _decode_fields(body)
    except UNREADABLE:
        raise bad_request("The body is not valid JSON: a name in it is no UTF-8.") from None


def value(fields: dict[str, msgspec.Raw], name: str) -> Any:
    """None where there is no such field. Raises a 400 where it cannot be read."""
    try:
        return decode_any(fields.get(name, b"null"))
    except UNREADABLE:
        raise bad_request(f"'{name}' is not valid JSON.", name) from None


def is_readable(data: bytes | bytearray | memoryview) -> bool:
    """Whether JSON has few enough values to be made objects of.

    64 MiB of brackets would be gigabytes and seconds. What counts as a value here may as well be a
    comma in a text; but a text with a million of them is longer than any model reads, and the code
    of an image has none.
    """
    if len(data) <= _SHORT_BYTES:
        return True
    plain = bytes(data)
    return sum(plain.count(mark) for mark in (b",", b"[", b"{")) <= _VALUES_MOST


class _Prompt(msgspec.Struct):
    messages: list[msgspec.Raw] = []


class _Role(msgspec.Struct):
    role: str = ""


# RFC 8259, 7: a letter beyond \uffff is two of these, one of each range.
_HALF_A_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_decode_prompt = msgspec.json.Decoder(_Prompt).decode
_decode_role = msgspec.json.Decoder(_Role).decode


def conversation(body: bytes | bytearray, model: str) -> bytes | None:
    """What stays the same over a chat's turns: its messages up to the first of the user's.

    A digest of them and of `model`, the access path, so that adapters of one
    base model do not share a cache. None where there is none, such as in a body
    that is no chat.
    """
    try:
        digest = hashlib.blake2b(model.encode(), digest_size=16)
        for message in _decode_prompt(body).messages:
            digest.update(message)
            if _decode_role(message).role == "user":
                return digest.digest()
    except UNREADABLE:
        pass
    return None


def _explained(body: bytes | bytearray) -> Reply:
    try:
        value = decode_any(body)
    except UNREADABLE as problem:
        if _HALF_A_PAIR.search(body):
            return bad_request(
                "The body is not valid JSON: a text in it has half a surrogate pair."
            )
        return bad_request(f"The body is not valid JSON: {problem}.")
    if not isinstance(value, dict):
        return bad_request("The body must be a JSON object.")
    return bad_request("'model' must be a string: a service's access path.", "model")
