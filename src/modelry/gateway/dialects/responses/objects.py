"""Response objects and what they hold, in the forms that OpenAI's libraries have types of."""

import time
from typing import Any

from modelry.gateway.dialects.responses.ids import Ids, call_id
from modelry.gateway.dialects.responses.reading import Json
from modelry.gateway.dialects.responses.wishes import Tools, Wishes

_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def new_response(id_: str, path: str, wishes: Wishes, tools: Tools) -> Json:
    """A response as it begins. `path`: the service's access path."""
    reasoning, text = wishes.reasoning, wishes.text
    form: Json = {"type": "text"}
    if text is not None and text.format is not None:
        form = {"type": text.format.type}
        if form["type"] == "json_schema":
            form |= {
                "name": text.format.name,
                "schema": text.format.schema,
                "description": text.format.description,
                "strict": text.format.strict,
            }
    return {
        "id": id_,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": wishes.instructions,
        "max_output_tokens": wishes.max_output_tokens,
        "max_tool_calls": wishes.max_tool_calls,
        "model": path,
        "output": [],
        "parallel_tool_calls": wishes.parallel_tool_calls is not False,
        "previous_response_id": wishes.previous_response_id,
        "prompt_cache_key": wishes.prompt_cache_key,
        "reasoning": {
            "effort": None if reasoning is None else reasoning.effort,
            "summary": None,
        },
        "safety_identifier": wishes.safety_identifier,
        "service_tier": "default",
        "temperature": wishes.temperature,
        "text": {"format": form, "verbosity": None if text is None else text.verbosity},
        "tool_choice": "auto" if wishes.tool_choice is None else wishes.tool_choice,
        "tools": tools.shown,
        "top_logprobs": wishes.top_logprobs or 0,
        "top_p": wishes.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": wishes.user,
        "metadata": wishes.metadata or {},
        "access_programs": None,
    }


def ended(response: Json, output: list[Json], finish: str | None, usage: Any) -> Json:
    """The response once its answer is complete. `finish`: the chat's reason for its end."""
    reason = _CUT.get(finish or "")
    return {
        **response,
        "status": "completed" if reason is None else "incomplete",
        "completed_at": int(time.time()) if reason is None else None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output,
        "usage": usage_of(usage),
    }


def is_cut(finish: str | None) -> bool:
    return finish in _CUT


def usage_of(usage: Any) -> Json | None:
    """A chat's usage as a response's. None where the engine told of none."""
    if not isinstance(usage, dict):
        return None
    asked, said = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    thought = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": asked + said,
    }


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else 0


# -- items -------------------------------------------------------------------


def message_item(id_: str, status: str, parts: list[Json]) -> Json:
    return {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def reasoning_item(id_: str, status: str, text: str | None) -> Json:
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {"id": id_, "type": "reasoning", "status": status, "summary": [], "content": content}


def call_item(id_: str, status: str, call: str, name: str, arguments: str) -> Json:
    return {
        "id": id_,
        "type": "function_call",
        "status": status,
        "call_id": call,
        "name": name,
        "arguments": arguments,
    }


def text_part(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def refusal_part(text: str) -> Json:
    return {"type": "refusal", "refusal": text}


def text_of(told: Json, name: str) -> str:
    """A text that may be missing or null. Raises `TypeError` where it is none."""
    text = told.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"{name} is no text")
    return text


def name_of(function: Json) -> str:
    """Raises `ValueError` where it has none."""
    name = text_of(function, "name")
    if not name:
        raise ValueError("a tool call names no tool")
    return name


def thought_of(message: Json) -> str | None:
    """What a chat's message, or a delta of one, tells of the model's thinking."""
    for name in ("reasoning_content", "reasoning"):
        told = message.get(name)
        if isinstance(told, str) and told:
            return told
    return None


def output_of(answer: Json, ids: Ids, top: int) -> list[Json]:
    """The items of a whole chat completion. `top`: see `logprobs_of`."""
    choice = answer["choices"][0]
    message = choice["message"]
    output: list[Json] = []
    thought = thought_of(message)
    if thought is not None:
        output.append(reasoning_item(ids.item("reasoning"), "completed", thought))
    calls = message.get("tool_calls") or []
    text, refusal = text_of(message, "content"), text_of(message, "refusal")
    parts = []
    if text or not (calls or refusal):
        parts.append(text_part(text, logprobs_of(choice.get("logprobs"), top)))
    if refusal:
        parts.append(refusal_part(refusal))
    if parts:
        output.append(message_item(ids.item("message"), "completed", parts))
    for call in calls:
        function = call["function"]
        id_ = ids.item("function_call")
        told = text_of(call, "id") or call_id()
        arguments = text_of(function, "arguments")
        output.append(call_item(id_, "completed", told, name_of(function), arguments))
    if is_cut(text_of(choice, "finish_reason")):
        output[-1]["status"] = "incomplete"
    return output


# -- logprobs ----------------------------------------------------------------


def logprobs_of(logprobs: Any, top: int) -> list[Json]:
    """Those of a chat's choice. `top`: how many besides each token's own were asked for."""
    if not isinstance(logprobs, dict):
        return []
    return [
        {**_logprob(each), "top_logprobs": [_logprob(one) for one in _others(each)[:top]]}
        for each in logprobs.get("content") or []
    ]


def without_bytes(logprobs: list[Json]) -> list[Json]:
    """The same as events have them, which do not tell a token's bytes."""
    return [
        {
            "token": each["token"],
            "logprob": each["logprob"],
            "top_logprobs": [
                {"token": one["token"], "logprob": one["logprob"]} for one in each["top_logprobs"]
            ],
        }
        for each in logprobs
    ]


def _others(logprob: Json) -> list[Json]:
    others: list[Json] = logprob.get("top_logprobs") or []
    return others


def _logprob(logprob: Json) -> Json:
    token = logprob["token"]
    told = logprob.get("bytes")
    return {
        "token": token,
        "bytes": list(token.encode()) if told is None else told,
        "logprob": logprob["logprob"],
    }
