"""Requests of Anthropic's Messages API as those of a chat."""

from typing import Any, NamedTuple

import msgspec

from modelry.gateway.dialects.messages.conversation import Conversation
from modelry.gateway.dialects.messages.reading import (
    Auto,
    Format,
    MessagesRequest,
    Named,
    Never,
    Some,
    Tool,
    is_absent,
    object_of,
    read_request,
    tools_of,
    unknown_fields,
    unsupported,
)
from modelry.gateway.replies import bad_request, shown

Json = dict[str, Any]

# Its steps beyond what engines know.
_EFFORTS = {"xhigh": "high", "max": "high"}
_THINKS = {"enabled": True, "adaptive": True, "disabled": False}


class Chat(NamedTuple):
    """`body`: a chat's. `ignored`: names of what the request has and engines do not know, as its
    caller wrote them.
    """

    model: str
    streams: bool
    body: bytes
    ignored: tuple[str, ...]


def chat_of(body: bytes | bytearray) -> Chat:
    """Raises a 400 for what cannot be asked of a chat."""
    request = read_request(body)
    if request.max_tokens is None:
        raise bad_request("'max_tokens' is missing: say how long the answer may be.", "max_tokens")
    ignored = unknown_fields(body)
    streams = request.stream is True
    chat = {**_asked(request, ignored), "max_tokens": request.max_tokens}
    for name in ("temperature", "top_p", "top_k"):
        value = getattr(request, name)
        if value is not None:
            chat[name] = value
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    if streams:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return Chat(request.model, streams, msgspec.json.encode(chat), tuple(ignored))


def prompt_of(body: bytes | bytearray) -> Chat:
    """The same without what concerns the answer alone: what is counted as its prompt."""
    request = read_request(body)
    ignored = unknown_fields(body)
    asked = _asked(request, ignored)
    return Chat(request.model, False, msgspec.json.encode(asked), tuple(ignored))


# ----------------------------------------------------------------------------


def _asked(request: MessagesRequest, ignored: list[str]) -> Json:
    """What makes the prompt. Adds to `ignored`."""
    _refuse_servers(request)
    conversation = Conversation(request.system, request.messages)
    chat: Json = {"model": request.model, "messages": conversation.messages}
    tools = tools_of(request.tools)
    if tools:
        chat["tools"] = [_tool(tool, at) for at, tool in enumerate(tools)]
    chat |= _choice(request, tools)
    chat |= _thinking(request, ignored)
    form = request.output_format
    if request.output_config is not None and request.output_config.format is not None:
        form = request.output_config.format
    if form is not None:
        chat["response_format"] = _format(form)
    if conversation.is_continued:
        if form is not None:
            raise bad_request(
                "The last message is the assistant's, which an answer would go on with, and one "
                "that has a format cannot: leave one of both out.",
                "messages",
            )
        # As vLLM has it, and llama.cpp too.
        chat |= {"add_generation_prompt": False, "continue_final_message": True}
    return chat


def _refuse_servers(request: MessagesRequest) -> None:
    if not is_absent(request.mcp_servers) and bytes(request.mcp_servers).strip(b"[] \t\r\n"):
        raise unsupported("No MCP servers are called from here; call them yourself.", "mcp_servers")
    if not is_absent(request.container):
        raise unsupported("There are no containers here.", "container")


def _tool(tool: Tool, at: int) -> Json:
    where = f"tools[{at}]"
    if tool.type not in (None, "custom"):
        raise unsupported(
            f"'{where}': '{shown(tool.type)}' is a tool of Anthropic's own; those of yours have an "
            "'input_schema'.",
            "tools",
        )
    if not tool.name:
        raise bad_request(f"'{where}.name' is missing.", "tools")
    if is_absent(tool.input_schema):
        raise bad_request(f"'{where}.input_schema' is missing.", "tools")
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = object_of(tool.input_schema, f"{where}.input_schema")
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(request: MessagesRequest, tools: list[Tool]) -> Json:
    choice = request.tool_choice
    if choice is None:
        return {}
    if not tools:
        if isinstance(choice, (Auto, Never)):
            return {}
        raise bad_request("'tool_choice' demands a tool, and there are no 'tools'.", "tool_choice")
    if isinstance(choice, Never):
        return {"tool_choice": "none"}
    chat: Json = {}
    if choice.disable_parallel_tool_use is not None:
        chat["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if isinstance(choice, Named):
        if all(tool.name != choice.name for tool in tools):
            told = f"'tool_choice': there is no tool '{shown(choice.name)}' in 'tools'."
            raise bad_request(told, "tool_choice")
        return {"tool_choice": {"type": "function", "function": {"name": choice.name}}, **chat}
    return {"tool_choice": "required" if isinstance(choice, Some) else "auto", **chat}


def _thinking(request: MessagesRequest, ignored: list[str]) -> Json:
    """How much the model is to think, in what templates of engines go by."""
    chat: Json = {}
    wish = request.thinking
    if wish is not None:
        thinks = _THINKS.get(wish.type)
        if thinks is None:
            ignored.append("thinking")
        else:
            chat["chat_template_kwargs"] = {"enable_thinking": thinks}
        if wish.budget_tokens is not None:
            ignored.append("thinking.budget_tokens")
        if wish.display is not None:
            ignored.append("thinking.display")
    effort = None if request.output_config is None else request.output_config.effort
    if effort is not None:
        chat["reasoning_effort"] = _EFFORTS.get(effort, effort)
    return chat


def _format(form: Format) -> Json:
    schema = object_of(form.schema, "output_config.format.schema")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
