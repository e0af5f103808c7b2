"""The items of an input: checked, and in the form in which they are kept and shown.

How they become a chat's messages is `messages.py`'s.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from modelry.gateway.dialects.responses.ids import Ids
from modelry.gateway.dialects.responses.reading import Json, read
from modelry.gateway.replies import bad_request, shown

_ITEMS_MOST = 16_384
_TEXTS = ("input_text", "output_text", "text")
"""Callers send back what they got, and some name a text as chats do."""


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Json]
    id: str | None = None


class _Call(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    id: str | None = None


class _Output(msgspec.Struct):
    call_id: str
    output: str | list[Json]
    id: str | None = None


class _Thought(msgspec.Struct):
    text: str = ""


class _Reasoning(msgspec.Struct):
    summary: list[_Thought] | None = None
    content: list[_Thought] | None = None
    id: str | None = None


class _Reference(msgspec.Struct):
    id: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None


Resolve = Callable[[list[str]], dict[str, Json]]
"""Items of ids, in the form in which they are kept; those that there are."""


def read_items(given: str | list[Json], ids: Ids, resolve: Resolve) -> list[Json]:
    """Raises a 400 that names the item."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if len(given) > _ITEMS_MOST:
        raise bad_request(f"'input' has more than {_ITEMS_MOST} items.", "input")
    references = {
        at: read(each, _Reference, f"input[{at}]").id
        for at, each in enumerate(given)
        if _is_reference(each)
    }
    found = resolve(list(references.values())) if references else {}
    for at, id_ in references.items():
        if id_ not in found:
            message = (
                f"There is no item '{shown(id_)}' to refer to: it was not kept, or is kept no "
                "longer. Send the item itself."
            )
            raise bad_request(message, f"input[{at}].id")
    return [
        found[references[at]] if at in references else _item(each, f"input[{at}]", ids)
        for at, each in enumerate(given)
    ]


def _is_reference(item: Json) -> bool:
    kind = item.get("type")
    # A message needs no type, and neither does a reference, which has nothing but its id.
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _item(item: Json, at: str, ids: Ids) -> Json:
    kind = item.get("type") or "message"
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        known = ", ".join((*_READERS, "item_reference"))
        message = f"Items of type '{shown(str(kind))}' are not supported here; these are: {known}."
        raise bad_request(message, f"{at}.type")
    return reader(item, at, ids)


def _message(item: Json, at: str, ids: Ids) -> Json:
    message = read(item, _Message, at)
    role = message.role
    content = message.content
    if isinstance(content, str):
        kind = "output_text" if role == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    part_of = _said if role == "assistant" else _asked
    parts = [
        part_of(read(part, _Part, f"{at}.content[{n}]"), role, f"{at}.content[{n}]")
        for n, part in enumerate(content)
    ]
    return {
        "id": message.id or ids.item("message"),
        "type": "message",
        "role": role,
        "status": "completed",
        "content": parts,
    }


def _asked(part: _Part, role: str, at: str) -> Json:
    """A part of what was said to the model."""
    if part.type in _TEXTS:
        return {"type": "input_text", "text": _text(part, at)}
    if part.type != "input_image":
        message = f"Parts of type '{shown(part.type)}' are not supported here; send text or images."
        raise bad_request(message, f"{at}.type")
    if part.file_id is not None:
        message = "There are no files here; send the image itself as 'image_url', a data URL."
        raise bad_request(message, f"{at}.file_id")
    if role != "user":
        raise bad_request(f"Images belong in messages of the user, not of {role}.", at)
    if part.image_url is None:
        raise bad_request(f"'{at}.image_url' is missing.", f"{at}.image_url")
    return {"type": "input_image", "image_url": part.image_url, "detail": part.detail or "auto"}


def _said(part: _Part, role: str, at: str) -> Json:
    """A part of what the model said."""
    if part.type in _TEXTS:
        return {"type": "output_text", "text": _text(part, at), "annotations": [], "logprobs": []}
    if part.type == "refusal":
        return {"type": "refusal", "refusal": part.refusal or ""}
    message = f"Messages of the {role} have texts, not parts of type '{shown(part.type)}'."
    raise bad_request(message, f"{at}.type")


def _text(part: _Part, at: str) -> str:
    if part.text is None:
        raise bad_request(f"'{at}.text' is missing.", f"{at}.text")
    return part.text


def _call(item: Json, at: str, ids: Ids) -> Json:
    call = read(item, _Call, at)
    return {
        "id": call.id or ids.item("function_call"),
        "type": "function_call",
        "status": "completed",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _output(item: Json, at: str, ids: Ids) -> Json:
    told = read(item, _Output, at)
    output = told.output
    if isinstance(output, list):
        parts = []
        for n, each in enumerate(output):
            here = f"{at}.output[{n}]"
            part = read(each, _Part, here)
            if part.type not in _TEXTS:
                message = f"What tools return is text here, not '{shown(part.type)}'."
                raise bad_request(message, f"{here}.type")
            parts.append({"type": "input_text", "text": _text(part, here)})
        output = parts
    return {
        "id": told.id or ids.item("function_call_output"),
        "type": "function_call_output",
        "status": "completed",
        "call_id": told.call_id,
        "output": output,
    }


def _reasoning(item: Json, at: str, ids: Ids) -> Json:
    thought = read(item, _Reasoning, at)
    return {
        "id": thought.id or ids.item("reasoning"),
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": each.text} for each in thought.summary or []],
        "content": [
            {"type": "reasoning_text", "text": each.text} for each in thought.content or []
        ],
    }


_READERS: dict[str, Callable[[Json, str, Ids], Json]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "reasoning": _reasoning,
}


def check_calls(items: list[Json], before: int) -> None:
    """Raises a 400 where a tool's output belongs to no call. Of `items`, `before` are kept ones."""
    called = set()
    for at, item in enumerate(items):
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in called:
            message = (
                f"There is no tool call '{shown(item['call_id'])}' to which this could be the "
                "output. Send the call too, or the 'previous_response_id' of the response with it."
            )
            raise bad_request(message, f"input[{max(0, at - before)}].call_id")
