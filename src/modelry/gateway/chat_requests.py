"""What is refused of a chat or a completion before llama.cpp gets it.

It takes much that is none: a number as a text counts as none at all, so that its caller would never
know. What it refuses by itself is not looked at again here. vLLM, and endpoints elsewhere, check
all this themselves. Tools and schemas are `structured`'s.

Messages are read no further than to who speaks.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from modelry.gateway import body as bodies
from modelry.gateway import picture_parts
from modelry.gateway.replies import Reply, bad_request
from modelry.gateway.request import Request
from modelry.gateway.shaping import Shaping
from modelry.routing.messages import Route

_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_WHERE = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$")
_KINDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_NAMES = re.compile(r"`([^`]*)`")

# llama.cpp counts with 32 bits, and takes what is left of more.
_Tokens = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
_Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# It stops at once where it may stop at no text at all.
_Stop = Annotated[str, Meta(min_length=1)]
# By tokens' numbers or, as llama.cpp has it beyond OpenAI, by texts; false is never.
_Biases = dict[str, float | bool] | list[tuple[int | str, float | bool]]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Asked(msgspec.Struct):
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: _Seed | None = None
    stop: _Stop | list[_Stop] | None = None
    logit_bias: _Biases | None = None
    user: str | None = None


class _Chat(_Asked):
    messages: Raw = Raw()
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    metadata: dict[str, Raw] | None = None


class _Completion(_Asked):
    logprobs: Annotated[int, Meta(ge=0)] | None = None


class _Turn(msgspec.Struct):
    role: str


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_turns = msgspec.json.Decoder(list[_Turn]).decode


def shape_chat(request: Request, head: bodies.Head, route: Route) -> Shaping | None:
    """See `picture_parts.shape`."""
    shaping = picture_parts.shape(request, head, route)
    if route.collect:
        _check_chat(request.body)
    return shaping


def shape_completion(request: Request, head: bodies.Head, route: Route) -> Shaping | None:
    """See `picture_parts.refuse_media`."""
    shaping = picture_parts.refuse_media(request, head, route)
    if route.collect:
        try:
            asked = _decode_completion(request.body)
        except bodies.UNREADABLE as problem:
            raise _wrong(problem) from None
        _check_tokens(asked)
    return shaping


def _check_tokens(asked: _Asked) -> None:
    """Raises a 400 for an answer of no tokens: llama.cpp would write one."""
    for name in ("max_tokens", "max_completion_tokens"):
        if getattr(asked, name) == 0:
            raise bad_request(f"'{name}' must be 1 at least.", name)


def _check_chat(body: bytes | bytearray) -> None:
    """Raises a 400."""
    try:
        asked = _decode_chat(body)
    except bodies.UNREADABLE as problem:
        raise _wrong(problem) from None
    _check_tokens(asked)
    if not memoryview(asked.messages)[:1]:
        raise bad_request("The body lacks 'messages', the conversation so far.", "messages")
    try:
        turns = _decode_turns(asked.messages)
    except bodies.UNREADABLE as problem:
        raise _wrong(problem, "messages") from None
    if not turns:
        raise bad_request("'messages' is empty: give at least one message.", "messages")
    for at, turn in enumerate(turns):
        if turn.role not in _ROLES:
            where = f"messages[{at}].role"
            raise bad_request(f"'{where}' must be one of {', '.join(_ROLES)}.", where)


def _wrong(problem: Exception, field: str = "") -> Reply:
    """Of a value that is none for its field. `field`: where what was read stands in the body."""
    found = _WHERE.match(str(problem))
    assert found is not None
    # Within an object that has names of its own, msgspec tells no name.
    said, where = found[1], (found[2] or "").partition("[...]")[0]
    where = field + where if where.startswith("[") else ".".join(filter(None, (field, where)))
    missing = _MISSING.match(said)
    if missing is not None:
        where = f"{where}.{missing[1]}"
        return bad_request(f"'{where}' is missing.", where)
    said = _NAMES.sub(lambda name: _kinds(name[1]), said.partition(", got")[0])
    return bad_request(f"'{where}': {said[0].lower()}{said[1:]}.", where or None)


def _kinds(names: str) -> str:
    """msgspec's names of types, such as `int | null`, in words."""
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | ") if name != "null")
