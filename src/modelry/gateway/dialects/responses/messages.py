"""A conversation of items as a chat's messages."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from modelry.gateway.dialects.responses.reading import Json


@dataclass
class _Turn:
    """What the model said in a row: a message of a chat has all of that."""

    thoughts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)

    def message(self) -> list[Json]:
        """As a list; an empty one where it only thought, which is no turn of its own."""
        if not self.texts and not self.calls:
            return []
        message: Json = {"role": "assistant", "content": None}
        if self.texts:
            message["content"] = "\n\n".join(self.texts)
        if self.thoughts:
            message["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = self.calls
        return [message]


def chat_messages(items: Iterable[Json], instructions: str | None) -> list[Json]:
    """`items` as `items.py` has them, and those of outputs."""
    messages: list[Json] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    turn = _Turn()
    for item in items:
        if _add(turn, item):
            continue
        messages += turn.message()
        turn = _Turn()
        messages.append(_message(item))
    messages += turn.message()
    return _with_one_system(messages)


def _add(turn: _Turn, item: Json) -> bool:
    """Whether an item is of the model's own turn; then it is in it."""
    kind = item["type"]
    if kind == "reasoning":
        thoughts = item.get("content") or item["summary"]
        turn.thoughts += [each["text"] for each in thoughts]
    elif kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        turn.calls.append({"id": item["call_id"], "type": "function", "function": function})
    elif kind == "message" and item["role"] == "assistant":
        parts = item["content"]
        turn.texts.append("".join(each.get("text") or each.get("refusal", "") for each in parts))
    else:
        return False
    return True


def _message(item: Json) -> Json:
    if item["type"] == "function_call_output":
        output = item["output"]
        if not isinstance(output, str):
            output = "\n".join(part["text"] for part in output)
        return {"role": "tool", "tool_call_id": item["call_id"], "content": output}
    parts = item["content"]
    if item["role"] != "user":
        # Most models know no developer: to them it is the system that says it.
        return {"role": "system", "content": "\n".join(part["text"] for part in parts)}
    if len(parts) == 1 and parts[0]["type"] == "input_text":
        return {"role": "user", "content": parts[0]["text"]}
    return {"role": "user", "content": [_part(part) for part in parts]}


def _part(part: Json) -> Json:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    image = {"url": part["image_url"]}
    if part["detail"] != "auto":
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def _with_one_system(messages: list[Json]) -> list[Json]:
    """Those of the system at the start made one: many templates take one alone."""
    leading = 0
    while leading < len(messages) and messages[leading]["role"] == "system":
        leading += 1
    if leading < 2:
        return messages
    texts = [message["content"] for message in messages[:leading]]
    return [{"role": "system", "content": "\n\n".join(texts)}, *messages[leading:]]
