"""What a request of Anthropic's Messages API may hold, and how it is read.

Shapes: https://docs.anthropic.com/en/api/messages. What is passed on as it is stays `Raw`, and
lists are bounded before anything is made of their items.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from modelry.gateway import body as bodies
from modelry.gateway.picture_parts import MESSAGES_MOST, PARTS_MOST, require_few
from modelry.gateway.replies import Reply, bad_request, error, shown

_NONE = Raw()
Value = TypeVar("Value")


class Text(Struct, tag="text"):
    text: str


class Base64(Struct, tag="base64"):
    media_type: str
    data: str


class Link(Struct, tag="url"):
    url: str


class Image(Struct, tag="image"):
    source: Base64 | Link


class ToolUse(Struct, tag="tool_use"):
    """`input`: an object, as it came."""

    id: str
    name: str
    input: Raw = Raw(b"{}")


class ToolResult(Struct, tag="tool_result"):
    """`content`: text, or a list of blocks."""

    tool_use_id: str
    content: Raw = Raw(b'""')
    is_error: bool | None = None


class Thinking(Struct, tag="thinking"):
    thinking: str


class RedactedThinking(Struct, tag="redacted_thinking"):
    """Nobody here can read it."""


Block: TypeAlias = Text | Image | ToolUse | ToolResult | Thinking | RedactedThinking


class Message(Struct):
    """`content`: text, or a list of blocks."""

    role: Literal["user", "assistant", "system"]
    content: Raw


class Tool(Struct):
    """`type`: what it is on Anthropic's servers, if it is no tool of the caller's own."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw = _NONE
    strict: bool | None = None


class Auto(Struct, tag="auto"):
    disable_parallel_tool_use: bool | None = None


class Some(Struct, tag="any"):
    disable_parallel_tool_use: bool | None = None


class Named(Struct, tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class Never(Struct, tag="none"):
    pass


ToolChoice: TypeAlias = Auto | Some | Named | Never


class ThinkingWish(Struct):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class Format(Struct):
    """`schema`: an object, as it came."""

    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(Struct):
    format: Format | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class MessagesRequest(Struct):
    """A body. `system`: text, or a list of texts. `mcp_servers`, `container`: whether there are
    any matters here, as they are refused.
    """

    model: str
    messages: Raw
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system: Raw = _NONE
    stop_sequences: list[Annotated[str, Meta(min_length=1)]] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    tools: Raw = _NONE
    tool_choice: ToolChoice | None = None
    stream: bool | None = None
    thinking: ThinkingWish | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    mcp_servers: Raw = _NONE
    container: Raw = _NONE


WITHOUT_EFFECT = frozenset({"cache_control"})
"""Fields that need nothing done: engines keep prompts that begin alike anyway."""

_decode_request = msgspec.json.Decoder(MessagesRequest).decode
_decode_messages = msgspec.json.Decoder(list[Message]).decode
_decode_blocks = msgspec.json.Decoder(list[Block]).decode
_decode_tools = msgspec.json.Decoder(list[Tool]).decode
_decode_text = msgspec.json.Decoder(str).decode


def read_request(body: bytes | bytearray) -> MessagesRequest:
    """Raises a 400 that says what is wrong, and where."""
    try:
        return _decode_request(body)
    except msgspec.ValidationError as problem:
        # First what is wrong with bodies of every API: no object, no model.
        bodies.read(body)
        raise _explained(problem, "") from None
    except bodies.UNREADABLE as problem:
        raise bad_request(f"The body is not valid JSON: {problem}.") from None


def unknown_fields(body: bytes | bytearray) -> list[str]:
    """Names of those that `MessagesRequest` does not have, where they say anything."""
    return [
        name
        for name, value in bodies.fields(body).items()
        if name not in _KNOWN and name not in WITHOUT_EFFECT and not is_absent(value)
    ]


def messages_of(messages: Raw) -> list[Message]:
    found = _listed(_decode_messages, messages, "messages", MESSAGES_MOST)
    if not found:
        raise bad_request("'messages' is empty: give at least one.", "messages")
    return found


def tools_of(tools: Raw) -> list[Tool]:
    return [] if is_absent(tools) else _listed(_decode_tools, tools, "tools", PARTS_MOST)


def content_of(content: Raw, where: str) -> list[Block]:
    """The blocks of what is text or a list of blocks. `where`: such as `messages[0].content`."""
    begins = bytes(memoryview(content)[:1])
    if begins == b'"':
        return [Text(_read(_decode_text, content, where))]
    if begins != b"[":
        raise bad_request(f"'{where}' must be a text or a list of blocks.", _param(where))
    return _listed(_decode_blocks, content, where, PARTS_MOST)


def texts_of(content: Raw, where: str) -> list[str]:
    """The same where only text is taken."""
    found = []
    for at, block in enumerate(content_of(content, where)):
        if not isinstance(block, Text):
            raise bad_request(f"'{where}[{at}]' must be of type 'text'.", _param(where))
        found.append(block.text)
    return found


def object_of(value: Raw, where: str) -> Raw:
    """The same, known to be an object."""
    if bytes(memoryview(value)[:1]) != b"{":
        raise bad_request(f"'{where}' must be an object.", _param(where))
    return value


def is_absent(value: Raw) -> bool:
    return bytes(memoryview(value)[:4]) in (b"", b"null")


def unsupported(message: str, param: str = "messages") -> Reply:
    return error(400, "unsupported_content", message, param=param)


# ----------------------------------------------------------------------------

_KNOWN = frozenset(field.name for field in msgspec.structs.fields(MessagesRequest))
_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Invalid value '(.*)'", re.DOTALL)
_TYPE = ".type"


def _listed(decode: Callable[[Raw], list[Value]], items: Raw, where: str, most: int) -> list[Value]:
    param = _param(where)
    try:
        require_few(items, most, where, param)
    except bodies.UNREADABLE:
        raise bad_request(f"'{where}' must be a list.", param) from None
    found = _read(decode, items, where)
    if len(found) > most:
        raise bad_request(f"'{where}' has too many items; {most} are taken at most.", param)
    return found


def _read(decode: Callable[[Raw], Value], value: Raw, where: str) -> Value:
    try:
        return decode(value)
    except msgspec.ValidationError as problem:
        raise _explained(problem, where) from None
    except bodies.UNREADABLE:
        raise bad_request(f"'{where}' is not valid JSON.", _param(where)) from None


def _explained(problem: msgspec.ValidationError, where: str) -> Reply:
    """What msgspec found wrong, with the place as the caller would write it."""
    match = _PATH.fullmatch(str(problem))
    assert match is not None
    what, place = match["what"], (where + (match["path"] or "")).lstrip(".")
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        place = f"{place}.{missing[1]}".lstrip(".")
        return bad_request(f"'{place}' is missing.", _param(place))
    unknown = _UNKNOWN.fullmatch(what)
    if unknown is not None and place.endswith(_TYPE) and _param(place) == "messages":
        told = f"'{place[: -len(_TYPE)]}': '{shown(unknown[1])}' is not taken here."
        return unsupported(told)
    return bad_request(f"'{place}': {shown(what[:1].lower() + what[1:])}.", _param(place))


def _param(place: str) -> str:
    """The body's field that it lies in."""
    return re.split(r"[.\[]", place, maxsplit=1)[0]
