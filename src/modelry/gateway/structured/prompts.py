"""What a model is told of functions, and of calls before, where its own template cannot."""

from collections import Counter
from typing import Any

from modelry.gateway.grammars.compiling import written
from modelry.gateway.replies import bad_request
from modelry.gateway.structured.fitting import CLOSING, CLOSING_LIST, OPENING_LIST, opening
from modelry.gateway.structured.functions import Function, Offer

Json = dict[str, Any]

_INTRODUCTION = "You can call functions. Each is given with a JSON Schema of its arguments:"
_HOW = 'To call one, answer with nothing but {"name": "…", "arguments": {…}}'
_SEVERAL = ", and to call several at once, with a JSON list of such objects"


def told(offer: Offer) -> str:
    """The functions, and how they are called."""
    lines = [_INTRODUCTION, ""]
    for function in offer.functions:
        about = {"name": function.name, "description": function.description}
        shown = {name: said for name, said in about.items() if said}
        lines.append(written({**shown, "parameters": function.parameters}))
    how = _HOW + (_SEVERAL if offer.several else "")
    if offer.named is not None:
        how += f". Call {offer.named.name} now"
    elif offer.must:
        how += ". Call the one that fits now"
    return "\n".join([*lines, "", f"{how}."])


def with_instructions(messages: list[Json], instructions: str) -> list[Json]:
    """The same conversation, whose system message says this too."""
    if messages and messages[0].get("role") in ("system", "developer"):
        first, *rest = messages
        return [{**first, "content": _joined(first.get("content"), instructions)}, *rest]
    return [{"role": "system", "content": instructions}, *messages]


def _joined(content: Any, more: str) -> Any:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": more}]
    return f"{content}\n\n{more}" if content else more


def with_calls_told(messages: list[Json]) -> list[Json]:
    """The same conversation with its calls, and what came of them, as words. Raises a 400 for what
    is no call.
    """
    made: dict[str, str] = {}
    found = []
    for message in messages:
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and isinstance(calls, list) and calls:
            told = [_call(each) for each in calls]
            made |= _names(calls)
            lines = told if len(told) == 1 else [f"{OPENING_LIST}{', '.join(told)}{CLOSING_LIST}"]
            words = message.get("content")
            if isinstance(words, str) and words:
                lines.insert(0, words)
            rest = {name: said for name, said in message.items() if name != "tool_calls"}
            found.append({**rest, "content": "\n".join(lines)})
        elif message.get("role") in ("tool", "function"):
            found.append({"role": "user", "content": _result(message, made)})
        else:
            found.append(message)
    return found


def _call(call: Any) -> str:
    match call:
        case {"function": {"name": str(name)}}:
            return f"{opening(Function(name))}{_arguments(call)}{CLOSING}"
    raise bad_request("A call in 'tool_calls' lacks its function's name.", "messages")


def _arguments(call: Json) -> str:
    arguments = call["function"].get("arguments", "")
    return (arguments if isinstance(arguments, str) else written(arguments)) or "{}"


def _names(calls: list[Json]) -> dict[str, str]:
    """What each call is called in its result, by its id: by its function and, where that is called
    twice, by its arguments. Results may come in another order.
    """
    names = [call["function"]["name"] for call in calls]
    times = Counter(names)
    return {
        call["id"]: name if times[name] == 1 else f"{name} {_arguments(call)}"
        for call, name in zip(calls, names, strict=True)
        if isinstance(call.get("id"), str)
    }


def _result(message: Json, made: dict[str, str]) -> Any:
    call = made.get(str(message.get("tool_call_id"))) or message.get("name") or "the function"
    introduction = f"Result of {call}:"
    content = message.get("content")
    if isinstance(content, list):
        return [{"type": "text", "text": introduction}, *content]
    return f"{introduction}\n{'' if content is None else content}"
