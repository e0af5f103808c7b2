"""The Anthropic library for Python, unchanged, against the real engine."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import Message, MessageParam, ToolParam
from pydantic import BaseModel

from tests.support.instance import Instance

HI: list[MessageParam] = [{"role": "user", "content": "Say hi"}]
TIME_TOOL: ToolParam = {
    "name": "current_time",
    "description": "The time in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
# What the newest library does not name, and Anthropic's API takes.
EXACT = {"temperature": 0}


@pytest.fixture
def claude(shared: Instance, demo_key: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=shared.url, api_key=demo_key, max_retries=0) as client:
        yield client


def chat(shared: Instance, key: str, **body: Any) -> Any:
    """The same asked as a chat."""
    answer = httpx2.post(
        f"{shared.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json=body,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_says_what_the_chat_says(
    shared: Instance, demo_key: str, claude: Anthropic, demo_path: str
) -> None:
    message = claude.messages.create(
        model=demo_path, max_tokens=12, messages=HI, system="You are a parrot.", extra_body=EXACT
    )
    same = chat(
        shared,
        demo_key,
        model=demo_path,
        max_tokens=12,
        messages=[{"role": "system", "content": "You are a parrot."}, *HI],
        **EXACT,
    )
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", demo_path)
    assert text_of(message) == same["choices"][0]["message"]["content"]
    usage = message.usage
    assert usage.cache_read_input_tokens is not None
    assert usage.input_tokens + usage.cache_read_input_tokens == same["usage"]["prompt_tokens"]
    assert usage.output_tokens == same["usage"]["completion_tokens"]


def test_a_stream_accumulates_to_the_same_message(claude: Anthropic, demo_path: str) -> None:
    whole = claude.messages.create(model=demo_path, max_tokens=12, messages=HI, extra_body=EXACT)
    with claude.messages.stream(
        model=demo_path, max_tokens=12, messages=HI, extra_body=EXACT
    ) as stream:
        events = list(stream)
        message = stream.get_final_message()
    assert text_of(message) == text_of(whole)
    assert message.stop_reason == whole.stop_reason
    assert message.usage.output_tokens == whole.usage.output_tokens
    total = message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    assert total == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    # More than one: it did not come all at once.
    assert kinds.count("text") > 1
    assert message.id.startswith("msg_")


def test_an_answer_that_is_cut_says_so(claude: Anthropic, demo_path: str) -> None:
    message = claude.messages.create(
        model=demo_path, max_tokens=3, messages=HI, extra_body={"ignore_eos": True, **EXACT}
    )
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 3


def test_a_stop_sequence_ends_an_answer(claude: Anthropic, demo_path: str) -> None:
    whole = claude.messages.create(model=demo_path, max_tokens=24, messages=HI, extra_body=EXACT)
    word = text_of(whole).split()[2]
    cut = claude.messages.create(
        model=demo_path, max_tokens=24, messages=HI, stop_sequences=[word], extra_body=EXACT
    )
    assert text_of(cut) == text_of(whole).partition(word)[0]
    assert cut.stop_reason == "end_turn"


def test_earlier_turns_are_those_of_a_chat(
    shared: Instance, demo_key: str, claude: Anthropic, demo_path: str
) -> None:
    texts = ["My name is Ada. What is yours?", "I am SmolLM, Ada.", "What is my name?"]
    roles = ["user", "assistant", "user"]
    turns: list[Any] = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in zip(roles, texts, strict=True)
    ]
    plain = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    message = claude.messages.create(
        model=demo_path, max_tokens=8, messages=turns, extra_body=EXACT
    )
    same = chat(shared, demo_key, model=demo_path, max_tokens=8, messages=plain, **EXACT)
    assert text_of(message) == same["choices"][0]["message"]["content"]


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_goes_on_with_what_the_last_message_begins(
    claude: Anthropic, demo_path: str, streams: bool
) -> None:
    turns: list[MessageParam] = [*HI, {"role": "assistant", "content": "Hello! How can"}]
    message: Message
    if streams:
        with claude.messages.stream(
            model=demo_path, max_tokens=8, messages=turns, extra_body=EXACT
        ) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(
            model=demo_path, max_tokens=8, messages=turns, extra_body=EXACT
        )
    assert text_of(message).startswith(" I ")


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_are_offered(claude: Anthropic, demo_path: str, choice: Any) -> None:
    message = claude.messages.create(
        model=demo_path,
        max_tokens=48,
        messages=[{"role": "user", "content": "What time is it in Oslo?"}],
        tools=[TIME_TOOL],
        tool_choice={"type": choice},
        extra_body=EXACT,
    )
    calls = [block for block in message.content if block.type == "tool_use"]
    assert message.content
    assert (message.stop_reason == "tool_use") == bool(calls)
    assert choice == "auto" or not calls


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "current_time"}])
def test_a_tool_that_has_to_be_used_is(
    claude: Anthropic, demo_path: str, choice: Any, streams: bool
) -> None:
    asked: Any = {
        "model": demo_path,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What time is it in Oslo?"}],
        "tools": [TIME_TOOL],
        "tool_choice": {**choice, "disable_parallel_tool_use": True},
        "extra_body": EXACT,
    }
    message: Message
    if streams:
        with claude.messages.stream(**asked) as stream:
            pieces = [event.partial_json for event in stream if event.type == "input_json"]
            message = stream.get_final_message()
        assert len(pieces) > 1
    else:
        message = claude.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    (used,) = message.content
    assert used.type == "tool_use"
    assert used.name == "current_time"
    assert list(used.input) == ["city"]
    assert isinstance(used.input["city"], str)


def test_a_tool_s_result_is_read(claude: Anthropic, demo_path: str) -> None:
    message = claude.messages.create(
        model=demo_path,
        max_tokens=24,
        tools=[TIME_TOOL],
        messages=[
            {"role": "user", "content": "What time is it in Oslo?"},
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": "toolu_1",
                        "name": "current_time",
                        "input": {"city": "Oslo"},
                    }
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:34"}],
            },
        ],
        extra_body=EXACT,
    )
    assert message.content


class Person(BaseModel):
    name: str
    age: int


def test_an_answer_has_the_form_that_was_asked_for(claude: Anthropic, demo_path: str) -> None:
    message = claude.messages.parse(
        model=demo_path,
        max_tokens=96,
        messages=[{"role": "user", "content": "Ada is 36 years old. Describe her as JSON."}],
        output_format=Person,
        extra_body=EXACT,
    )
    assert isinstance(message.parsed_output, Person)


def test_a_streamed_answer_has_it_too(claude: Anthropic, demo_path: str) -> None:
    with claude.messages.stream(
        model=demo_path,
        max_tokens=96,
        messages=[{"role": "user", "content": "Ada is 36 years old. Describe her as JSON."}],
        output_config={
            "format": {"type": "json_schema", "schema": Person.model_json_schema()},
        },
        extra_body=EXACT,
    ) as stream:
        Person.model_validate(json.loads(stream.get_final_text()))


CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one message": {"messages": HI},
    "system": {"messages": HI, "system": [{"type": "text", "text": "Be brief — and kind. 🙂"}]},
    "tools": {"messages": HI, "system": "Be brief.", "tools": [TIME_TOOL]},
    "no tool allowed": {"messages": HI, "tools": [TIME_TOOL], "tool_choice": {"type": "none"}},
    "a tool was called": {
        "tools": [TIME_TOOL],
        "messages": [
            {"role": "user", "content": "What time is it?"},
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": "t1",
                        "name": "current_time",
                        "input": {"city": "Oslo"},
                    }
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "noon"}],
            },
        ],
    },
    "a beginning": {"messages": [*HI, {"role": "assistant", "content": "Hello"}]},
    "special tokens as text": {"messages": [{"role": "user", "content": "<|im_end|> and <s>"}]},
    "a form": {
        "messages": HI,
        "output_config": {"format": {"type": "json_schema", "schema": Person.model_json_schema()}},
    },
    "many words": {"messages": [{"role": "user", "content": "straße 日本語 \n\t word " * 80}]},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_are_counted_as_the_answer_tells_them(
    claude: Anthropic, demo_path: str, name: str
) -> None:
    asked = CONVERSATIONS[name]
    counted = claude.messages.count_tokens(model=demo_path, **asked)
    message = claude.messages.create(model=demo_path, max_tokens=1, **asked)
    used = message.usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_a_wrong_key_is_an_authentication_error(shared: Instance, demo_path: str) -> None:
    with (
        Anthropic(base_url=shared.url, api_key="sk-" + "0" * 40, max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as raised,
    ):
        stranger.messages.create(model=demo_path, max_tokens=1, messages=HI)
    body: Any = raised.value.body
    assert body["error"]["type"] == "authentication_error"
    assert body["request_id"] == raised.value.response.headers["x-request-id"]


def test_an_auth_token_is_as_good(shared: Instance, demo_key: str, demo_path: str) -> None:
    with Anthropic(base_url=shared.url, api_key=None, auth_token=demo_key, max_retries=0) as client:
        assert client.messages.create(model=demo_path, max_tokens=1, messages=HI).content


def test_an_unknown_model_is_a_not_found_error(claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as raised:
        claude.messages.create(model="u-000000000000/none", max_tokens=1, messages=HI)
    body: Any = raised.value.body
    assert body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("streams", [False, True])
def test_what_a_service_cannot_take_is_a_bad_request_error(
    claude: Anthropic, demo_path: str, streams: bool
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(
            model=demo_path,
            max_tokens=1,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": "a"},
                        }
                    ],
                }
            ],
            stream=streams,
        )
    body: Any = raised.value.body
    assert body["error"]["type"] == "invalid_request_error"
    assert "messages[0].content[0]" in body["error"]["message"]


@pytest.mark.parametrize("streams", [False, True])
def test_a_conversation_longer_than_the_context_is_a_bad_request_error(
    claude: Anthropic, demo_path: str, streams: bool
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(
            model=demo_path,
            max_tokens=1,
            messages=[{"role": "user", "content": "word " * 9000}],
            stream=streams,
        )
    assert "context" in raised.value.message
