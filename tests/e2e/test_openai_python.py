"""The OpenAI library for Python, unchanged, against the real engine."""

import time
from collections.abc import Iterator

import pytest
from openai import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
)
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.support.instance import Instance

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hi"}]
TIME_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "current_time",
        "description": "The time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key) as client:
        yield client


def test_a_chat_completion_has_every_field(openai: OpenAI, demo_path: str) -> None:
    before = int(time.time())
    answer = openai.chat.completions.create(model=demo_path, messages=MESSAGES, max_tokens=8)
    assert answer.id
    assert answer.object == "chat.completion"
    assert before - 1 <= answer.created <= time.time() + 1
    assert answer.model == demo_path
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_two_answers_have_two_ids(openai: OpenAI, demo_path: str) -> None:
    ids = {
        openai.chat.completions.create(model=demo_path, messages=MESSAGES, max_tokens=1).id
        for _ in range(2)
    }
    assert len(ids) == 2


def test_an_answer_that_is_cut_says_so(openai: OpenAI, demo_path: str) -> None:
    answer = openai.chat.completions.create(
        model=demo_path,
        messages=MESSAGES,
        max_tokens=3,
        extra_body={"ignore_eos": True},
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_completion_goes_on_with_its_prompt(openai: OpenAI, demo_path: str) -> None:
    answer = openai.completions.create(
        model=demo_path, prompt="Once upon a time", max_tokens=8, temperature=0
    )
    assert answer.object == "text_completion"
    assert answer.model == demo_path
    assert answer.choices[0].text.strip()
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_comes_in_chunks(openai: OpenAI, demo_path: str) -> None:
    with openai.chat.completions.create(
        model=demo_path,
        messages=MESSAGES,
        max_tokens=8,
        stream=True,
        extra_body={"ignore_eos": True},
    ) as stream:
        chunks = list(stream)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {demo_path}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == "length"
    assert set(reasons[:-1]) == {None}
    # More than one chunk with text: it did not come all at once.
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert len([text for text in texts if text]) > 1
    # Who did not ask for usage is not sent a chunk without choices.
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_when_asked(openai: OpenAI, demo_path: str) -> None:
    with openai.chat.completions.create(
        model=demo_path,
        messages=MESSAGES,
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    ) as stream:
        *chunks, last = list(stream)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 8
    assert last.usage.total_tokens == last.usage.prompt_tokens + 8
    assert not [chunk for chunk in chunks if chunk.usage is not None]


def test_a_stream_says_the_same_as_a_whole_answer(openai: OpenAI, demo_path: str) -> None:
    whole = openai.chat.completions.create(
        model=demo_path, messages=MESSAGES, max_tokens=8, temperature=0
    )
    with openai.chat.completions.create(
        model=demo_path, messages=MESSAGES, max_tokens=8, temperature=0, stream=True
    ) as stream:
        pieces = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content


def test_the_bare_name_of_an_own_service_is_enough(openai: OpenAI, demo_path: str) -> None:
    answer = openai.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=2)
    assert answer.model == demo_path


def test_models_lists_what_the_key_may_call(openai: OpenAI, demo_path: str) -> None:
    listed = {model.id: model for model in openai.models.list()}
    model = listed[demo_path]
    assert model.object == "model"
    assert model.owned_by == demo_path.partition("/")[0]


def test_a_model_is_found_by_its_path_with_a_slash(openai: OpenAI, demo_path: str) -> None:
    model = openai.models.retrieve(demo_path)
    assert model.id == demo_path
    assert 0 < model.created <= time.time()


def test_tools_are_no_error(openai: OpenAI, demo_path: str) -> None:
    answer = openai.chat.completions.create(
        model=demo_path,
        messages=[{"role": "user", "content": "What time is it in Oslo?"}],
        tools=[TIME_TOOL],
        max_tokens=32,
    )
    (choice,) = answer.choices
    assert choice.finish_reason in ("stop", "length", "tool_calls")
    assert choice.message.content or choice.message.tool_calls


def test_a_wrong_key_is_an_authentication_error(shared: Instance, demo_path: str) -> None:
    with (
        shared.openai("sk-" + "0" * 40) as stranger,
        pytest.raises(AuthenticationError) as raised,
    ):
        stranger.chat.completions.create(model=demo_path, messages=MESSAGES)
    assert raised.value.status_code == 401
    assert raised.value.code == "invalid_api_key"
    assert "not valid" in raised.value.message
    assert "0000" not in raised.value.message


def test_an_unknown_model_is_a_not_found_error(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError) as raised:
        openai.chat.completions.create(model="u-000000000000/none", messages=MESSAGES)
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    assert "u-000000000000/none" in raised.value.message
    with pytest.raises(NotFoundError):
        openai.models.retrieve("u-000000000000/none")


def test_a_request_without_messages_is_a_bad_request_error(openai: OpenAI, demo_path: str) -> None:
    with pytest.raises(BadRequestError) as raised:
        openai.post("/chat/completions", body={"model": demo_path}, cast_to=object)
    assert raised.value.status_code == 400
    assert "messages" in raised.value.message


def test_a_request_without_a_model_is_a_bad_request_error(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as raised:
        openai.post("/chat/completions", body={"messages": MESSAGES}, cast_to=object)
    assert raised.value.code == "invalid_request_error"
    assert raised.value.param == "model"


def test_a_key_for_other_services_is_refused_here(shared: Instance, demo_path: str) -> None:
    owner = demo_path.partition("/")[0]
    key = shared.key("elsewhere", services=[f"{owner}/elsewhere"])
    with (
        shared.openai(key) as client,
        pytest.raises(PermissionDeniedError) as raised,
    ):
        client.chat.completions.create(model=demo_path, messages=MESSAGES)
    assert raised.value.code == "model_access_denied"
    assert demo_path in raised.value.message


def test_a_prompt_longer_than_the_context_is_a_bad_request_error(
    openai: OpenAI, demo_path: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        openai.chat.completions.create(
            model=demo_path,
            messages=[{"role": "user", "content": "word " * 6000}],
            max_tokens=1,
        )
    assert "context" in raised.value.message
