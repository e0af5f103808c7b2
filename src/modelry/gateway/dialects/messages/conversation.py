"""Conversations of Anthropic's Messages API as those of a chat.

What both have goes over as it is. Results of tools are messages of their own in a chat, and bring
text alone: images among them follow in the user's message. Messages of one role that follow each
other are one, as Anthropic has it.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Raw

from modelry.gateway.dialects.messages.reading import (
    Base64,
    Block,
    Image,
    RedactedThinking,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    content_of,
    is_absent,
    messages_of,
    object_of,
    texts_of,
    unsupported,
)
from modelry.gateway.picture_parts import PARTS_MOST
from modelry.gateway.replies import bad_request

Json = dict[str, Any]

# Between what engines would join themselves; parts of an answer of their own follow each other
# as they came.
_BETWEEN = "\n"
_FAILED = "Error: "


class Conversation:
    """`messages`: a chat's. `is_continued`: the last is the beginning of the answer."""

    def __init__(self, system: Raw, messages: Raw) -> None:
        """Raises a 400 for what is no conversation, or cannot be one of a chat."""
        self.messages: list[Json] = []
        if not is_absent(system):
            texts = texts_of(system, "system")
            if texts:
                self.messages.append({"role": "system", "content": _BETWEEN.join(texts)})
        last: list[tuple[str, Block]] = []
        for role, blocks in _turns(messages):
            if role == "system":
                texts = [block.text for _, block in blocks if isinstance(block, Text)]
                self.messages.append({"role": "system", "content": _BETWEEN.join(texts)})
            elif role == "user":
                self.messages += _of_user(blocks)
            else:
                self.messages.append(_of_assistant(blocks))
            last = blocks
        self.is_continued = self.messages[-1]["role"] == "assistant"
        if self.is_continued:
            self._check_beginning(last)

    def _check_beginning(self, blocks: list[tuple[str, Block]]) -> None:
        for where, block in blocks:
            if isinstance(block, ToolUse):
                raise bad_request(
                    f"'{where}': the last message calls a tool, and nothing tells what came of "
                    "it: add a user message with a 'tool_result'.",
                    "messages",
                )
        if not self.messages[-1]["content"]:
            # The beginning of an answer that has none yet.
            self.messages.pop()
            self.is_continued = False
            if not self.messages:
                raise bad_request("'messages' says nothing: give a user's message.", "messages")


def _turns(messages: Raw) -> Iterator[tuple[str, list[tuple[str, Block]]]]:
    """Each role's turn with its blocks, each of which has its place as the caller wrote it."""
    role, left = "", PARTS_MOST
    blocks: list[tuple[str, Block]] = []
    for at, message in enumerate(messages_of(messages)):
        where = f"messages[{at}].content"
        found: list[tuple[str, Block]] = []
        if message.role == "system":
            found = [(where, Text(text)) for text in texts_of(message.content, where)]
        else:
            for number, block in enumerate(content_of(message.content, where)):
                place = f"{where}[{number}]"
                _check_role(message.role, block, place)
                found.append((place, block))
        left -= len(found)
        if left < 0:
            raise bad_request(
                f"The request has too many parts of messages; {PARTS_MOST} are taken at most.",
                "messages",
            )
        if message.role == role and role != "system":
            if role == "assistant" and blocks and found:
                blocks.append((where, Text(_BETWEEN)))
            blocks += found
            continue
        if role:
            yield role, blocks
        role, blocks = message.role, found
    yield role, blocks


_OF_USER = (Text, Image, ToolResult)
_OF_ASSISTANT = (Text, ToolUse, Thinking, RedactedThinking)


def _check_role(role: str, block: Block, where: str) -> None:
    if not isinstance(block, _OF_USER if role == "user" else _OF_ASSISTANT):
        kind = type(block).__struct_config__.tag
        raise bad_request(f"'{where}': no '{kind}' stands in a message of the {role}.", "messages")


def _of_user(blocks: list[tuple[str, Block]]) -> Iterator[Json]:
    """Results of tools first: they belong right behind the calls."""
    parts: list[Json] = []
    for where, block in blocks:
        if isinstance(block, ToolResult):
            result = _result(block, where, parts)
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": result}
        elif isinstance(block, Text):
            parts.append({"type": "text", "text": block.text})
        elif isinstance(block, Image):
            parts.append(_image(block))
    if all(part["type"] == "text" for part in parts):
        # As one text, which every template takes.
        if parts or not any(isinstance(block, ToolResult) for _, block in blocks):
            yield {"role": "user", "content": _BETWEEN.join(part["text"] for part in parts)}
    else:
        yield {"role": "user", "content": parts}


def _result(result: ToolResult, where: str, parts: list[Json]) -> str:
    """Its text. Its images become parts of the user's message."""
    texts = []
    content = [] if is_absent(result.content) else content_of(result.content, f"{where}.content")
    for at, block in enumerate(content):
        if isinstance(block, Text):
            texts.append(block.text)
        elif isinstance(block, Image):
            parts.append(_image(block))
        else:
            kind = type(block).__struct_config__.tag
            raise unsupported(f"'{where}.content[{at}]': no '{kind}' stands in a tool's result.")
    return (_FAILED if result.is_error else "") + _BETWEEN.join(texts)


def _image(block: Image) -> Json:
    source = block.source
    if isinstance(source, Base64):
        url = f"data:{source.media_type};base64,{source.data}"
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}


def _of_assistant(blocks: list[tuple[str, Block]]) -> Json:
    texts, thoughts, calls = [], [], []
    for where, block in blocks:
        if isinstance(block, Text):
            texts.append(block.text)
        elif isinstance(block, Thinking):
            thoughts.append(block.thinking)
        elif isinstance(block, ToolUse):
            arguments = bytes(object_of(block.input, f"{where}.input"))
            try:
                text = arguments.decode()
            except UnicodeDecodeError:
                raise bad_request(f"'{where}.input' is no UTF-8.", "messages") from None
            function = {"name": block.name, "arguments": text}
            calls.append({"id": block.id, "type": "function", "function": function})
    message: Json = {"role": "assistant", "content": "".join(texts)}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message
