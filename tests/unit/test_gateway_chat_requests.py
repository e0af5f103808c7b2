"""What is no chat, or no completion, is refused by its field before llama.cpp takes it for one."""

import json
from typing import Any

import pytest

from modelry.gateway import chat_requests
from modelry.gateway.body import read
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.routing.messages import Route

Json = dict[str, Any]

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "add"}}


def route(collect: bool = True) -> Route:
    tasks = ("chat", "completion")
    return Route("svc_x", "u-1/x", "u-1", tasks, "running", "", 0, collect=collect)


def check(path: str, body: Json, *, collect: bool = True) -> None:
    """Raises what a call of a service gets."""
    said = json.dumps({"model": "x", **body}).encode()
    request = Request("", 0.0)
    request.body = bytearray(said)
    shape = chat_requests.shape_chat if "chat" in path else chat_requests.shape_completion
    shape(request, read(said), route(collect))


def chat(**fields: Any) -> None:
    check("/v1/chat/completions", {"messages": HI, **fields})


def completion(**fields: Any) -> None:
    check("/v1/completions", {"prompt": "a", **fields})


def refusal(reply: Reply) -> tuple[str, str]:
    """Which field it is about, and what is said of it."""
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["type"]) == (400, "invalid_request_error")
    assert error["code"] == "invalid_request_error"
    return error["param"], error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": None, "tool_choice": None, "response_format": None, "stop": None, "n": None},
        {"tools": [], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": NAMED, "parallel_tool_calls": False},
        {"tools": [{"type": "function", "function": {"name": "now", "strict": False}}]},
        # As LlamaIndex asks.
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        {"temperature": 1, "top_p": 0.5, "seed": -1, "max_tokens": 5, "max_completion_tokens": -1},
        {"stop": ["a", "b"], "stream": True, "stream_options": {"include_obfuscation": False}},
        {"logit_bias": {"5": -100, "word": False}, "logprobs": True, "top_logprobs": 0},
        {"logit_bias": [[5, 1.5], ["word", False]]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"messages": [{"role": role, "content": None} for role in ("developer", "tool", "system")]},
        {"top_k": 3, "anything": [1]},
    ],
)
def test_a_chat_that_is_one_goes_through(fields: Json) -> None:
    chat(**fields)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"max_tokens": 0}, "max_tokens", "1 at least"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "1 at least"),
        ({"messages": [*HI, {"content": "a"}]}, "messages[1].role", "is missing"),
        ({"messages": [{"role": 3}]}, "messages[0].role", "expected a text"),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role", "one of developer, system"),
        ({"n": 0}, "n", ">= 1"),
        ({"n": 1.5}, "n", "expected an integer"),
        ({"n": True}, "n", "expected an integer"),
        ({"max_tokens": "5"}, "max_tokens", "expected an integer"),
        ({"max_tokens": 2**32 + 2}, "max_tokens", "<= 2147483647"),
        ({"temperature": "hot"}, "temperature", "expected a number"),
        ({"temperature": -1}, "temperature", ">= 0"),
        ({"top_p": 2}, "top_p", "<= 1"),
        ({"seed": 1.5}, "seed", "expected an integer"),
        ({"stop": 5}, "stop", "expected a text or a list"),
        ({"stop": ""}, "stop", "length >= 1"),
        ({"stop": ["a", 5]}, "stop[1]", "expected a text"),
        ({"logit_bias": 3}, "logit_bias", "expected an object or a list"),
        ({"logit_bias": {"5": "x"}}, "logit_bias", "true or false or a number"),
        ({"logit_bias": [1]}, "logit_bias[0]", "expected a list"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": "x"}, "stream_options", "expected an object"),
        (
            {"stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "true or false",
        ),
        ({"logprobs": 3}, "logprobs", "true or false"),
        ({"top_logprobs": 21}, "top_logprobs", "<= 20"),
        ({"reasoning_effort": 3}, "reasoning_effort", "expected a text"),
    ],
)
def test_a_chat_that_is_none_is_refused_by_its_field(fields: Json, param: str, said: str) -> None:
    with pytest.raises(Reply) as raised:
        chat(**fields)
    about, message = refusal(raised.value)
    assert about == param
    assert message.startswith(f"'{param}")
    assert said in message


def test_a_chat_without_messages_is_told_what_it_lacks() -> None:
    with pytest.raises(Reply) as raised:
        check("/v1/chat/completions", {})
    assert refusal(raised.value) == (
        "messages",
        "The body lacks 'messages', the conversation so far.",
    )


@pytest.mark.parametrize("fields", [{}, {"logprobs": 0}, {"stop": "a", "n": 2, "prompt": [1, 2]}])
def test_a_completion_that_is_one_goes_through(fields: Json) -> None:
    completion(**fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"logprobs": True}, "logprobs"), ({"logprobs": -1}, "logprobs"), ({"stop": [5]}, "stop[0]")],
)
def test_a_completion_that_is_none_is_refused_by_its_field(fields: Json, param: str) -> None:
    with pytest.raises(Reply) as raised:
        completion(**fields)
    assert refusal(raised.value)[0] == param


def test_other_engines_judge_for_themselves() -> None:
    nonsense = {"messages": [{"role": "context", "content": "x"}], "n": "2", "tools": 3}
    check("/v1/chat/completions", nonsense, collect=False)
    check("/v1/completions", {"n": "2"}, collect=False)
