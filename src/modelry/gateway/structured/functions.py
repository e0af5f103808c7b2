"""The functions that a chat offers, and which of them it wants called: OpenAI's `tools`,
`tool_choice` and `parallel_tool_calls`
(https://platform.openai.com/docs/api-reference/chat/create).
"""

import re
from dataclasses import dataclass, field
from typing import Any

from modelry.gateway.replies import Reply, bad_request, shown

FUNCTIONS_MOST = 128
_NAME = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_OPEN = frozenset({"properties", "required", "additionalProperties", "patternProperties"})
"""One of these, with something in it, has a function take arguments."""
_PLAIN = _OPEN | {"type", "title", "description", "$schema", "$defs"}
"""A schema of these alone says no more of them."""


@dataclass(frozen=True)
class Function:
    """`parameters`: a JSON Schema of an object. `strict`: all of it has to be held to."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: _NOTHING)
    strict: bool = False
    index: int = 0
    """Its place among the tools of the request."""


@dataclass(frozen=True)
class Offer:
    """`must`: at least one has to be called; otherwise the model may answer in words as well."""

    functions: tuple[Function, ...]
    must: bool
    several: bool

    @property
    def named(self) -> Function | None:
        """The one that has to be called, if the choice is made."""
        return self.functions[0] if self.must and len(self.functions) == 1 else None


def offer_of(tools: Any, choice: Any, parallel: Any) -> Offer | None:
    """None where no function may be called. Raises a 400 for what is none of OpenAI's."""
    functions = _functions(tools)
    if not isinstance(parallel, bool | None):
        raise bad_request("'parallel_tool_calls' is true or false.", "parallel_tool_calls")
    if not functions and choice in (None, "auto", "none", "required"):
        # Some libraries ask for a call without saying of what.
        return None
    several = parallel is not False
    match choice:
        case None | "auto":
            return Offer(functions, must=False, several=several)
        case "none":
            return None
        case "required":
            return Offer(functions, must=True, several=several)
        case {"type": "function", "function": {"name": str(name)}}:
            return Offer((_named(functions, name),), must=True, several=False)
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(allowed)}} if (
            mode in ("auto", "required")
        ):
            names = [_allowed_name(each) for each in allowed]
            some = tuple(_named(functions, name) for name in dict.fromkeys(names))
            return Offer(some, must=mode == "required", several=several) if some else None
    raise bad_request(
        "'tool_choice' is auto, none, required, or {'type': 'function', 'function': {'name': …}}.",
        "tool_choice",
    )


def _functions(tools: Any) -> tuple[Function, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise bad_request("'tools' is a list.", "tools")
    if len(tools) > FUNCTIONS_MOST:
        message = f"The request has {len(tools)} tools; {FUNCTIONS_MOST} are taken at most."
        raise bad_request(message, "tools")
    functions = tuple(_function(each, at) for at, each in enumerate(tools))
    names = [each.name for each in functions]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise bad_request(f"Two tools are called '{name}'.", f"tools[{at}].function.name")
    return functions


def _function(tool: Any, at: int) -> Function:
    where = f"tools[{at}]"
    if not isinstance(tool, dict):
        raise bad_request(f"{where} is an object.", where)
    kind = tool.get("type", "function")
    if kind != "function":
        message = f"{where}: tools of type {shown(str(kind))} are not taken here; 'function' is."
        raise bad_request(message, f"{where}.type")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise bad_request(f"{where} lacks 'function': an object.", f"{where}.function")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"{where}: 'name' is up to 128 of letters, digits, and any of _ - . :"
        raise bad_request(message, f"{where}.function.name")
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        message = f"{where}: 'description' is a text."
        raise bad_request(message, f"{where}.function.description")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = _NOTHING
    if not isinstance(parameters, dict):
        message = f"{where}: 'parameters' is a JSON Schema."
        raise bad_request(message, f"{where}.function.parameters")
    of_objects = parameters.get("type", "object") == "object" and set(parameters) <= _PLAIN
    if of_objects and not any(parameters.get(each) for each in _OPEN):
        # Of a function that names no arguments, a model would make some up.
        parameters = _NOTHING
    strict = function.get("strict")
    if not isinstance(strict, bool | None):
        raise bad_request(f"{where}: 'strict' is true or false.", f"{where}.function.strict")
    return Function(name, description or "", parameters, strict is True, at)


def _named(functions: tuple[Function, ...], name: str) -> Function:
    for each in functions:
        if each.name == name:
            return each
    raise _unknown(name)


def _allowed_name(tool: Any) -> str:
    match tool:
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
    raise bad_request("'allowed_tools' names functions of 'tools'.", "tool_choice")


def _unknown(name: str) -> Reply:
    message = f"'tool_choice' names '{shown(name)}', which is none of 'tools'."
    return bad_request(message, "tool_choice")
