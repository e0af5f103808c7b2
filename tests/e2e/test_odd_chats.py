"""Long and odd conversations, and what is no conversation, with the real model."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.support.instance import Instance
from tests.support.waiting import wait_for

Json = dict[str, Any]

HI = [{"role": "user", "content": "Say hi."}]
CONTEXT = 256
"""The least that llama.cpp gives a slot."""
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "2"}
NAMED = {"type": "function", "function": {"name": "no"}}
NO_SCHEMA = {"name": "x", "schema": {"type": "nope"}}
LONG = {"role": "user", "content": "word " * 400}


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key) as client:
        yield client


@pytest.fixture(scope="module")
def narrow(shared: Instance) -> Iterator[str]:
    """The path of a service with a context of `CONTEXT` tokens."""
    service = shared.deploy("narrow", context_tokens=CONTEXT, slots=2)
    yield str(service["access_path"])
    shared.api("DELETE", "/services/narrow")
    wait_for(lambda: shared.api("GET", "/services/narrow").status_code == 404, "its end", 60)


def chat(openai: OpenAI, path: str, messages: list[Json] = HI, **more: Any) -> Any:
    asked: Json = {"model": path, "messages": messages, "max_tokens": 8, "temperature": 0, **more}
    return openai.chat.completions.create(**asked)


# -- odd -------------------------------------------------------------------------------


TURNS: dict[str, list[Json]] = {
    "system": [{"role": "system", "content": "Be kind."}, *HI],
    "developer": [{"role": "developer", "content": "Be kind."}, *HI],
    "empty": [{"role": "user", "content": ""}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "Say"}] * 2}],
    "null": [*HI, {"role": "assistant", "content": None}, *HI],
    "begun": [*HI, {"role": "assistant", "content": "Hello, my na"}],
    "tool": [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT],
    # As LiteLLM sends it back.
    "tool, without a text": [*HI, {"role": "assistant", "tool_calls": [CALL]}, RESULT],
    "languages": [{"role": "user", "name": "ada", "content": "Grüße, 世界! مرحبا, नमस्ते 👩🏽‍🚀🙂"}],
    "controls": [{"role": "user", "content": "a\x00b\u2028c\ufffd"}],
}


@pytest.mark.parametrize("messages", TURNS.values(), ids=TURNS)
def test_an_odd_conversation_is_answered(
    openai: OpenAI, demo_path: str, messages: list[Json]
) -> None:
    answer = chat(openai, demo_path, messages)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_are_known(openai: OpenAI, demo_path: str, name: str) -> None:
    limit: Json = {name: 3}
    answer: Any = openai.chat.completions.create(
        model=demo_path,
        messages=[{"role": "user", "content": "Say hi."}],
        extra_body={"ignore_eos": True},
        **limit,
    )
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


def test_the_second_turn_tells_what_it_found_of_the_first(openai: OpenAI, narrow: str) -> None:
    story = {"role": "user", "content": "Once upon a time there was a fox who lived in a wood."}
    first = chat(openai, narrow, [story])
    turn = {"role": "assistant", "content": first.choices[0].message.content}
    second = chat(openai, narrow, [story, turn, *HI])
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert first.usage.prompt_tokens - 2 <= cached < second.usage.prompt_tokens
    options = {"include_usage": True}
    with chat(openai, narrow, [story, turn, *HI], stream=True, stream_options=options) as stream:
        (usage,) = [each.usage for each in stream if each.usage is not None]
    assert usage.prompt_tokens_details.cached_tokens >= cached


# -- long ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_a_chat_beyond_the_context_is_refused_with_both_numbers(
    openai: OpenAI, narrow: str, stream: bool, n: int
) -> None:
    with pytest.raises(BadRequestError) as raised:
        chat(openai, narrow, [LONG], stream=stream, n=n)
    assert_too_long(raised.value, "messages")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["word " * 400, ["a", "word " * 400], [5] * 400])
def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(
    openai: OpenAI, narrow: str, stream: bool, prompt: Any
) -> None:
    with pytest.raises(BadRequestError) as raised:
        openai.completions.create(model=narrow, prompt=prompt, max_tokens=4, stream=stream)
    assert_too_long(raised.value, "prompt")


def assert_too_long(refusal: BadRequestError, param: str) -> None:
    assert (refusal.status_code, refusal.code) == (400, "context_length_exceeded")
    assert refusal.param == param
    most, has = [int(word) for word in refusal.message.split() if word.isdigit()][-2:]
    assert most == CONTEXT
    assert 400 <= has < 500


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_reaches_the_context_s_end_says_so_and_loses_nothing(
    openai: OpenAI, narrow: str, stream: bool
) -> None:
    """Of the prompt, nothing is dropped to make room."""
    options: Json = {"stream_options": {"include_usage": True}} if stream else {}
    prompt = [5 + number for number in range(230)]
    answer: Any = openai.completions.create(
        model=narrow,
        prompt=prompt,
        max_tokens=500,
        stream=stream,
        extra_body={"ignore_eos": True},
        **options,
    )
    parts = list(answer) if stream else [answer]
    reasons = [choice.finish_reason for each in parts for choice in each.choices]
    usage = parts[-1].usage
    assert reasons[-1] == "length"
    assert usage.prompt_tokens == 230
    assert CONTEXT - 2 <= usage.total_tokens <= CONTEXT


# -- no conversation at all ------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages"),
        ({"messages": [*HI, {"role": "assistant", "tool_calls": "x"}, *HI]}, "messages"),
        ({"messages": [*HI, {"role": "assistant", "tool_calls": [{}]}, *HI]}, "messages"),
        ({"messages": [{"role": "user", "name": 3, "content": "x"}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"top_k": "x"}, "top_k"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"grammar": "root ::= ("}, "grammar"),
        (
            {"response_format": {"type": "json_schema", "json_schema": NO_SCHEMA}},
            "response_format.json_schema.schema",
        ),
        ({"stop": ""}, "stop"),
    ],
)  # fmt: skip
def test_what_is_no_chat_is_refused_by_its_field(
    openai: OpenAI, demo_path: str, stream: bool, fields: Json, param: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        openai.post(
            "/chat/completions",
            body={"model": demo_path, "messages": HI, "max_tokens": 4, "stream": stream, **fields},
            cast_to=object,
        )
    assert raised.value.status_code == 400
    assert (raised.value.code, raised.value.param) == ("invalid_request_error", param)
    assert "json.exception" not in raised.value.message


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udc00 x", rb"\ud83d\ud83d", b"\xff\xfe"])
def test_a_text_that_is_no_unicode_is_refused(openai: OpenAI, demo_path: str, text: bytes) -> None:
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "%s"}]}'
    with pytest.raises(BadRequestError) as raised:
        openai.post(
            "/chat/completions",
            content=body % (demo_path.encode(), text),
            cast_to=object,
            options={"headers": {"content-type": "application/json"}},
        )
    assert raised.value.code == "invalid_request_error"
