"""Checks of tools in chats: whether a call comes where one is due, and fits the tool's schema."""

from typing import Literal

import msgspec

from modelry.services.conformance.asking import CHAT, chat, choices, events, message, whole
from modelry.services.conformance.caller import Caller, Json, Skipped, Subject, Wrong, short
from modelry.services.conformance.shapes import CHAT_CHUNK, TOOL_CALL, differences

_TOKENS = 96


class _Weather(msgspec.Struct, forbid_unknown_fields=True):
    city: str
    unit: Literal["celsius", "fahrenheit"]


class _Time(msgspec.Struct, forbid_unknown_fields=True):
    zone: Literal["utc", "local"]


_ARGUMENTS: dict[str, type[msgspec.Struct]] = {"get_weather": _Weather, "get_time": _Time}


def _tool(name: str, description: str, properties: Json) -> Json:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


_TOOLS = [
    _tool(
        "get_weather",
        "The weather in a city.",
        {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
    ),
    _tool("get_time", "The time now.", {"zone": {"type": "string", "enum": ["utc", "local"]}}),
]
_NAMED = {"type": "function", "function": {"name": "get_time"}}


async def auto(caller: Caller, subject: Subject) -> str:
    choice = await _ask(caller, subject, "auto")
    if not _calls(choice):
        return "tools are taken; the model answered in words"
    return f"it called {_called(choice)}"


async def required(caller: Caller, subject: Subject) -> str:
    choice = await _ask(caller, subject, "required")
    if not _calls(choice):
        raise Wrong("a call was required, and the answer is in words")
    return f"it called {_called(choice)}"


async def named(caller: Caller, subject: Subject) -> str:
    choice = await _ask(caller, subject, _NAMED)
    if not _calls(choice):
        raise Wrong("a call of get_time was due, and the answer is in words")
    if _called(choice) != "get_time":
        raise Wrong(f"a call of get_time was due, and it called {_called(choice)}")
    return "it called the tool that was named"


async def none(caller: Caller, subject: Subject) -> str:
    choice = await _ask(caller, subject, "none")
    if _calls(choice):
        raise Wrong("no call was allowed, and one came")
    return "it answered in words"


async def streamed(caller: Caller, subject: Subject) -> str:
    """A required call, put together from its events as SDKs do."""
    body = _body(subject, "required")
    name = arguments = id_ = ""
    for chunk in await events(caller, CHAT, body):
        found = differences(CHAT_CHUNK, chunk)
        if found.wrong:
            raise Wrong(short("; ".join(found.wrong)))
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls") or ():
                if part["index"]:
                    continue
                function = part.get("function") or {}
                id_ = id_ or part.get("id") or ""
                name += function.get("name") or ""
                arguments += function.get("arguments") or ""
    if not name:
        raise Wrong("a call was required, and none came in the stream")
    if not id_:
        raise Wrong("the call has no id")
    _fit(name, arguments)
    return f"it called {name}"


async def _ask(caller: Caller, subject: Subject, choice: object) -> Json:
    return choices(await whole(caller, CHAT, _body(subject, choice)))[0]


def _body(subject: Subject, choice: object) -> Json:
    question = "What is the weather in Paris, in celsius?"
    return chat(
        subject, question, tools=_TOOLS, tool_choice=choice, temperature=0, max_tokens=_TOKENS
    )


def _calls(choice: Json) -> list[Json]:
    found = message(choice).get("tool_calls") or []
    if not isinstance(found, list):
        raise Wrong("tool_calls is no array")
    return found


def _called(choice: Json) -> str:
    """The tool that it called, with everything about the call as it should be."""
    for call in _calls(choice):
        found = differences(TOOL_CALL, call)
        if found.wrong:
            raise Wrong(short(f"tool_calls: {'; '.join(found.wrong)}"))
        if choice.get("finish_reason") == "length":
            raise Skipped(f"its call was not at its end after {_TOKENS} tokens")
        _fit(call["function"]["name"], call["function"]["arguments"])
    # A named tool's call may end as any answer does.
    if choice.get("finish_reason") not in ("tool_calls", "stop"):
        raise Wrong(f"it called a tool, and finish_reason is {choice.get('finish_reason')!r}")
    return str(_calls(choice)[0]["function"]["name"])


def _fit(name: str, arguments: str) -> None:
    kind = _ARGUMENTS.get(name)
    if kind is None:
        raise Wrong(f"it called {short(name, 40)!r}, which was not offered")
    try:
        msgspec.json.decode(arguments, type=kind)
    except msgspec.DecodeError as problem:
        raise Wrong(f"the arguments of {name} do not fit its schema: {problem}") from None
