"""What a request of the Responses API asks for, apart from its items: checked, and as a chat's."""

from typing import Annotated, Any, Literal

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.dialects.responses.reading import Json, read, wrong
from modelry.gateway.parameters import LABELS, is_neutral
from modelry.gateway.replies import Reply, bad_request, shown

_METADATA_MOST, _KEY_MOST, _VALUE_MOST = 16, 64, 512
_LOGPROBS = "message.output_text.logprobs"
_ALLOWED = "allowed_tools"

_Plain = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: Json | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(msgspec.Struct):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(msgspec.Struct):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class _Function(msgspec.Struct):
    name: _Plain
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[Json] | None = None


class Wishes(msgspec.Struct):
    """A request's fields, as it has them."""

    model: str
    input: str | list[Json] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: Json | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    max_tool_calls: int | None = None


_decode = msgspec.json.Decoder(Wishes).decode


def read_wishes(body: bytes | bytearray) -> tuple[Wishes, tuple[str, ...]]:
    """A request's wishes, and the names of what it says that has no effect. Raises a 400."""
    bodies.read(body)
    if not bodies.is_readable(body):
        raise bad_request("The body has too many values, in lists and objects.", "input")
    fields = bodies.fields(body)
    try:
        wishes = _decode(body)
    except msgspec.ValidationError as problem:
        raise wrong(problem) from None
    except bodies.UNREADABLE as problem:
        raise bad_request(f"The body is not valid JSON: {problem}.") from None
    _refuse(wishes)
    return wishes, tuple(sorted({*_ignored(wishes, fields)}))


def _refuse(wishes: Wishes) -> None:
    """Raises a 400 for what cannot be done, and must not be left undone in silence."""
    if wishes.input is None:
        raise bad_request("'input' is missing: a text, or a list of items.", "input")
    if wishes.input == []:
        raise bad_request("'input' is empty: it needs an item at least.", "input")
    if wishes.truncation == "auto":
        message = (
            "'truncation' can be disabled alone: nothing is cut out of a conversation here. One "
            "that is too long is refused with context_length_exceeded."
        )
        raise bad_request(message, "truncation")
    if wishes.background:
        message = "Responses are not made in the background here; ask for a stream instead."
        raise bad_request(message, "background")
    if wishes.conversation is not None:
        message = "There are no conversations here; go on from a 'previous_response_id' instead."
        raise bad_request(message, "conversation")
    if wishes.prompt is not None:
        message = "There are no stored prompts here; send 'instructions' and 'input'."
        raise bad_request(message, "prompt")
    metadata = wishes.metadata or {}
    if len(metadata) > _METADATA_MOST:
        raise bad_request(f"'metadata' has more than {_METADATA_MOST} pairs.", "metadata")
    for key, value in metadata.items():
        if len(key) > _KEY_MOST or len(value) > _VALUE_MOST:
            message = (
                f"'metadata' takes keys of up to {_KEY_MOST} characters and values of "
                f"{_VALUE_MOST}; '{shown(key)}' is longer."
            )
            raise bad_request(message, "metadata")


def _ignored(wishes: Wishes, fields: dict[str, msgspec.Raw]) -> list[str]:
    known = Wishes.__struct_fields__
    ignored = [
        shown(name)
        for name, value in fields.items()
        if name not in known and name not in LABELS and not is_neutral(name, value)
    ]
    if wishes.max_tool_calls is not None:
        # Of tools that would run here, of which there are none.
        ignored.append("max_tool_calls")
    if wishes.service_tier not in (None, "auto", "default"):
        ignored.append("service_tier")
    reasoning = wishes.reasoning
    if reasoning is not None and (reasoning.summary or reasoning.generate_summary):
        # What a model thinks is told as it is, never summed up.
        ignored.append("reasoning.summary")
    if any(each != _LOGPROBS for each in wishes.include or []):
        ignored.append("include")
    if (wishes.stream_options or {}).get("include_obfuscation"):
        ignored.append("stream_options.include_obfuscation")
    return ignored


# ----------------------------------------------------------------------------


Choice = str | Json | None


class Tools(msgspec.Struct, frozen=True):
    """`shown`: as a response tells them; `offered`: as a chat has them, of which `choice` is."""

    shown: list[Json]
    offered: list[Json]
    choice: Choice


def read_tools(wishes: Wishes) -> Tools:
    """Raises a 400 for tools that are no functions, and for a choice of none of them."""
    told: list[Json] = []
    offered: dict[str, Json] = {}
    for at, tool in enumerate(wishes.tools or []):
        here = f"tools[{at}]"
        kind = tool.get("type")
        if kind != "function":
            message = (
                f"Tools of type '{shown(str(kind))}' are not run here: 'tools' takes functions, "
                "which the caller runs itself."
            )
            raise bad_request(message, f"{here}.type")
        function = read(tool, _Function, here)
        if function.name in offered:
            raise bad_request(f"There are two tools named '{shown(function.name)}'.", here)
        plain = {
            "name": function.name,
            "description": function.description,
            "parameters": function.parameters,
            "strict": function.strict,
        }
        told.append({"type": "function", **plain})
        known = {name: value for name, value in plain.items() if value is not None}
        offered[function.name] = {"type": "function", "function": known}
    choice, names = _choice(wishes.tool_choice, offered)
    return Tools(told, [offered[name] for name in names], choice)


def _choice(given: Choice, offered: dict[str, Json]) -> tuple[Choice, list[str]]:
    """As a chat has it, and the names of the tools that it may be."""
    names = list(offered)
    if given is None or given == "auto":
        return None, names
    if isinstance(given, str):
        if given not in ("none", "required"):
            message = "'tool_choice' must be auto, none, required, or an object that names a tool."
            raise bad_request(message, "tool_choice")
        if not names and given == "required":
            raise bad_request("'tool_choice' is required, and there are no 'tools'.", "tool_choice")
        return (given if names else None), names
    choice = read(given, _Choice, "tool_choice")
    if choice.type == "function":
        name = _of_tools(choice.name, offered, "tool_choice.name")
        return {"type": "function", "function": {"name": name}}, names
    if choice.type != _ALLOWED:
        message = f"'tool_choice' of type '{shown(choice.type)}' is none for functions."
        raise bad_request(message, "tool_choice.type")
    allowed = []
    for at, each in enumerate(choice.tools or []):
        here = f"tool_choice.tools[{at}]"
        tool = read(each, _Choice, here)
        allowed.append(_of_tools(tool.name, offered, f"{here}.name"))
    if not allowed:
        raise bad_request("'tool_choice.tools' allows no tool.", "tool_choice.tools")
    # Engines know no such choice: they are offered no others.
    return (None if choice.mode == "auto" else "required"), list(dict.fromkeys(allowed))


def _of_tools(name: str | None, offered: dict[str, Json], at: str) -> str:
    if name is None or name not in offered:
        raise bad_request(f"'{at}' must be the name of one of the 'tools'.", at)
    return name


def chat_fields(wishes: Wishes, tools: Tools) -> Json:
    """All fields of the chat but its model, its messages and how it is streamed. Raises a 400."""
    reasoning = wishes.reasoning
    chat: Json = {
        "max_completion_tokens": wishes.max_output_tokens,
        "temperature": wishes.temperature,
        "top_p": wishes.top_p,
        "reasoning_effort": None if reasoning is None else reasoning.effort,
        "verbosity": None if wishes.text is None else wishes.text.verbosity,
        "response_format": _response_format(wishes),
    }
    if tools.offered:
        chat["tools"] = tools.offered
        chat["tool_choice"] = tools.choice
        chat["parallel_tool_calls"] = wishes.parallel_tool_calls
    if wants_logprobs(wishes):
        # llama.cpp tells none at all where none besides the token's own are asked for.
        chat["logprobs"] = True
        chat["top_logprobs"] = max(1, wishes.top_logprobs or 0)
    return {name: value for name, value in chat.items() if value is not None}


def wants_logprobs(wishes: Wishes) -> bool:
    return bool(wishes.top_logprobs) or _LOGPROBS in (wishes.include or [])


def _response_format(wishes: Wishes) -> Json | None:
    form = None if wishes.text is None else wishes.text.format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "json_object"}
    if form.schema is None:
        raise _missing("text.format.schema")
    if not form.name:
        raise _missing("text.format.name")
    schema: Json = {"name": form.name, "schema": form.schema}
    if form.strict is not None:
        schema["strict"] = form.strict
    if form.description is not None:
        schema["description"] = form.description
    return {"type": "json_schema", "json_schema": schema}


def _missing(at: str) -> Reply:
    return bad_request(f"'{at}' is missing.", at)
