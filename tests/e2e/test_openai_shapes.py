"""Every chat and completion of the real model is what OpenAI's types declare, whole and streamed.

Beyond the types stand `reasoning_content`, which no embedded model has, and nothing else.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.instance import Instance
from tests.support.strict import strict

Json = dict[str, Any]

MESSAGES = [{"role": "user", "content": "Say hi."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CHATS: dict[str, Json] = {
    "plain": {},
    "several": {"n": 3, "temperature": 1},
    "probabilities": {"logprobs": True},
    "likelier ones": {"logprobs": True, "top_logprobs": 3},
    "tools": {"tools": [TOOL]},
    "schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": SCHEMA},
        }
    },
    "stop": {"stop": ["e"]},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, *MESSAGES]},
    "newer limit": {"max_tokens": None, "max_completion_tokens": 4},
}
COMPLETIONS: dict[str, Json] = {
    "plain": {},
    "several": {"n": 2, "temperature": 1},
    "probabilities": {"logprobs": 0},
    "likelier ones": {"logprobs": 3},
    "prompts": {"prompt": ["Once", "Twice upon"], "n": 2, "logprobs": 1},
}
# OpenAI departs from its type: a completion's stream has no reason to finish before its end.
NO_REASON = "finish_reason: None is none of"


@pytest.fixture(scope="module")
def http(shared: Instance, demo_key: str) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {demo_key}"}
    with httpx2.Client(base_url=shared.url, headers=headers, timeout=120) as client:
        yield client


def whole(http: httpx2.Client, path: str, body: Json) -> Json:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    read: Json = answer.json()
    return read


def chunks(http: httpx2.Client, path: str, body: Json) -> list[Json]:
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    answer = http.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    *frames, done, rest = answer.content.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    # Each frame by itself is UTF-8: no letter is cut between two.
    return [json.loads(frame.decode().removeprefix("data: ")) for frame in frames]


def chat(path: str, **more: Any) -> Json:
    asked = {"model": path, "messages": MESSAGES, "max_tokens": 8, "temperature": 0, **more}
    return {name: value for name, value in asked.items() if value is not None}


def completion(path: str, **more: Any) -> Json:
    return {"model": path, "prompt": "Once", "max_tokens": 4, "temperature": 0, **more}


@pytest.mark.parametrize("more", CHATS.values(), ids=CHATS)
def test_a_chat_is_what_openai_declares(http: httpx2.Client, demo_path: str, more: Json) -> None:
    answer = whole(http, "/v1/chat/completions", chat(demo_path, **more))
    assert strict(ChatCompletion, answer) == []
    assert len(answer["choices"]) == more.get("n", 1)
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("more", CHATS.values(), ids=CHATS)
def test_a_stream_of_a_chat_is_what_openai_declares(
    http: httpx2.Client, demo_path: str, more: Json
) -> None:
    came = chunks(http, "/v1/chat/completions", chat(demo_path, **more))
    problems = [problem for each in came for problem in strict(ChatCompletionChunk, each)]
    assert problems == []
    assert came[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert came[-1]["choices"] == []
    assert [each for each in came if each.get("usage")] == came[-1:]


@pytest.mark.parametrize("more", COMPLETIONS.values(), ids=COMPLETIONS)
def test_a_completion_is_what_openai_declares(
    http: httpx2.Client, demo_path: str, more: Json
) -> None:
    body = completion(demo_path, **more)
    answer = whole(http, "/v1/completions", body)
    assert strict(Completion, answer) == []
    assert answer["id"].startswith("cmpl-")
    came = chunks(http, "/v1/completions", body)
    problems = [problem for each in came for problem in strict(Completion, each)]
    assert [problem for problem in problems if NO_REASON not in problem] == []
    assert {each["id"][:5] for each in came} == {"cmpl-"}
    assert [each for each in came if each.get("usage")] == came[-1:]
    assert came[-1]["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    probabilities = answer["choices"][0]["logprobs"]
    if "logprobs" in more:
        text = answer["choices"][0]["text"]
        starts = probabilities["text_offset"]
        assert [
            text[start:].startswith(token)
            for start, token in zip(starts, probabilities["tokens"], strict=True)
        ] == [True] * 4
        assert all(len(each) == max(1, more["logprobs"]) for each in probabilities["top_logprobs"])
    else:
        assert probabilities is None


def test_the_usage_of_several_answers_is_that_of_all(http: httpx2.Client, demo_path: str) -> None:
    body = chat(demo_path, n=3, ignore_eos=True)
    one = whole(http, "/v1/chat/completions", {**body, "n": 1})["usage"]
    usage = whole(http, "/v1/chat/completions", body)["usage"]
    assert usage["completion_tokens"] == 3 * one["completion_tokens"] == 24
    assert usage["prompt_tokens"] == one["prompt_tokens"]
    streamed = chunks(http, "/v1/chat/completions", body)[-1]["usage"]
    assert streamed["completion_tokens"] == 24
    assert streamed["total_tokens"] == 24 + one["prompt_tokens"]


def test_no_letter_is_cut_in_two(http: httpx2.Client, demo_path: str) -> None:
    """The grammar leaves the model nothing but letters of several tokens each."""
    body = chat(demo_path, max_tokens=60, grammar='root ::= ("🙂" | "世" | "é" | "👩🏽‍🚀"){6}')
    came = chunks(http, "/v1/chat/completions", body)
    text = "".join(
        choice["delta"].get("content") or "" for each in came for choice in each["choices"]
    )
    assert text
    assert not set(text) - set("🙂世é👩🏽‍🚀")
    assert text == whole(http, "/v1/chat/completions", body)["choices"][0]["message"]["content"]


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key) as client:
        yield client


@pytest.mark.parametrize("options", [{}, {"include_obfuscation": False}])
def test_usage_comes_where_it_is_asked_for_alone(
    openai: OpenAI, demo_path: str, options: Json
) -> None:
    def usages(**stream_options: bool) -> list[int]:
        asked: Json = {**chat(demo_path), "stream_options": {**stream_options, **options}}
        with openai.chat.completions.create(stream=True, **asked) as stream:
            return [each.usage.completion_tokens for each in stream if each.usage is not None]

    assert usages(include_usage=False) == []
    assert usages() == []
    assert len(usages(include_usage=True)) == 1
