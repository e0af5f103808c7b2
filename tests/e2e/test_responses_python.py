"""The OpenAI library for Python calls the Responses API, against the real engine."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseFunctionToolCall,
    ResponseStreamEvent,
)
from pydantic import BaseModel

from tests.support.instance import Instance
from tests.support.strict import strict

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key) as client:
        yield client


def test_a_response_has_every_field_and_no_other(openai: OpenAI, demo_path: str) -> None:
    raw = openai.responses.with_raw_response.create(
        model=demo_path, input="Say hi", max_output_tokens=64, temperature=0
    )
    assert strict(Response, raw.http_response.json()) == []
    response = raw.parse()
    assert response.model == demo_path
    assert response.output_text
    assert response.status in ("completed", "incomplete")
    usage = response.usage
    assert usage is not None
    assert usage.input_tokens > 0
    assert 0 < usage.output_tokens <= 64
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_an_answer_that_is_cut_says_so(openai: OpenAI, demo_path: str) -> None:
    response = openai.responses.create(
        model=demo_path, input="Tell me a long story.", max_output_tokens=3
    )
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 3


def test_a_stream_is_put_together_by_the_library(openai: OpenAI, demo_path: str) -> None:
    asked: Any = {"model": demo_path, "input": "Say hi", "temperature": 0}
    with openai.responses.stream(**asked) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert len(texts) > 1
    assert response.output_text == "".join(texts)
    assert response.usage is not None
    assert response.usage.output_tokens > 1
    # And it is what comes whole.
    assert openai.responses.create(**asked).output_text == response.output_text


def test_events_have_every_field_and_no_other(openai: OpenAI, demo_path: str) -> None:
    with openai.responses.create(
        model=demo_path,
        input="Say hi",
        stream=True,
        max_output_tokens=5,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    ) as stream:
        events = [event.to_dict() for event in stream]
    for number, event in enumerate(events):
        assert strict(ResponseStreamEvent, event) == []
        assert event["sequence_number"] == number
    (done,) = [each for each in events if each["type"] == "response.output_text.done"]
    logprobs: Any = done["logprobs"]
    assert len(logprobs) == 5
    assert all(each["logprob"] <= 0 and len(each["top_logprobs"]) == 2 for each in logprobs)


def test_a_conversation_goes_on_from_what_was_kept(openai: OpenAI, demo_path: str) -> None:
    first = openai.responses.create(
        model=demo_path, input="My name is Anna.", max_output_tokens=16, temperature=0
    )
    second = openai.responses.create(
        model=demo_path,
        previous_response_id=first.id,
        input="What is my name?",
        max_output_tokens=16,
        temperature=0,
    )
    by_hand = openai.responses.create(
        model=demo_path,
        input=[
            {"role": "user", "content": "My name is Anna."},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": "What is my name?"},
        ],
        max_output_tokens=16,
        temperature=0,
        store=False,
    )
    assert second.usage is not None
    assert by_hand.usage is not None
    assert second.usage.input_tokens == by_hand.usage.input_tokens
    assert second.output_text == by_hand.output_text
    # A second turn finds the first in the engine's cache.
    assert second.usage.input_tokens_details.cached_tokens > 0
    again = openai.responses.retrieve(second.id)
    assert again.to_dict() == second.to_dict()
    items = [item.to_dict() for item in openai.responses.input_items.list(second.id, order="asc")]
    assert [item["role"] for item in items] == ["user", "assistant", "user"]
    openai.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        openai.responses.retrieve(first.id)
    openai.responses.create(model=demo_path, previous_response_id=second.id, input="And?")
    with pytest.raises(BadRequestError) as refused:
        openai.responses.create(model=demo_path, previous_response_id=first.id, input="And?")
    assert refused.value.code == "previous_response_not_found"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_developers_say_what_instructions_say(openai: OpenAI, demo_path: str, role: Any) -> None:
    told: Any = {"model": demo_path, "max_output_tokens": 8, "temperature": 0}
    question: Any = {"role": "user", "content": "Say hi"}
    message: Any = {"role": role, "content": "You answer in French."}
    by_message = openai.responses.create(input=[message, question], **told)
    by_field = openai.responses.create(
        input=[question], instructions="You answer in French.", **told
    )
    assert by_message.output_text == by_field.output_text
    assert by_message.usage is not None
    assert by_field.usage is not None
    assert by_message.usage.input_tokens == by_field.usage.input_tokens


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_tools_are_offered_and_their_outputs_taken(
    openai: OpenAI, demo_path: str, choice: Any
) -> None:
    response = openai.responses.create(
        model=demo_path,
        input=[
            {"role": "user", "content": "What is the weather in Paris?"},
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city": "Paris"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "It is sunny."},
        ],
        tools=[WEATHER],
        tool_choice=choice,
        max_output_tokens=16,
    )
    assert strict(Response, response.to_dict()) == []
    assert response.tools[0].to_dict()["name"] == "weather"
    if choice == "none":
        assert response.output_text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_function_that_has_to_be_called_is(openai: OpenAI, demo_path: str, choice: Any) -> None:
    parameters: Any = WEATHER["parameters"]
    needed = {**parameters, "required": ["city"], "additionalProperties": False}
    asked: Any = {
        "model": demo_path,
        "input": "What is the weather in Paris?",
        "tools": [{**WEATHER, "parameters": needed}],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_output_tokens": 64,
        "temperature": 0,
    }
    raw = openai.responses.with_raw_response.create(**asked)
    assert strict(Response, raw.http_response.json()) == []
    with openai.responses.stream(**asked) as stream:
        events = list(stream)
        streamed = stream.get_final_response()
    pieces = [
        each.delta for each in events if each.type == "response.function_call_arguments.delta"
    ]
    assert len(pieces) > 1
    for response in (raw.parse(), streamed):
        assert response.status == "completed"
        (called,) = response.output
        assert isinstance(called, ResponseFunctionToolCall)
        assert called.name == "weather"
        assert list(json.loads(called.arguments)) == ["city"]
        assert response is not streamed or called.arguments == "".join(pieces)
        given = {"type": "function_call_output", "call_id": called.call_id, "output": "Sun."}
        more = {**asked, "tool_choice": "none", "input": [given]}
        assert openai.responses.create(**more, previous_response_id=response.id).output_text


def test_structured_output_is_of_its_schema(openai: OpenAI, demo_path: str) -> None:
    response = openai.responses.create(
        model=demo_path,
        input="Paris has 2 million people.",
        max_output_tokens=200,
        text={"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}},
    )
    assert set(json.loads(response.output_text)) == {"name", "people"}
    with openai.responses.stream(
        model=demo_path, input="Paris has 2 million people.", text_format=City, temperature=0
    ) as stream:
        parsed = stream.get_final_response().output_parsed
    assert isinstance(parsed, City)


def test_refusals_are_the_librarys_own_errors(
    openai: OpenAI, shared: Instance, demo_path: str
) -> None:
    with shared.openai("sk-wrong") as stranger, pytest.raises(AuthenticationError):
        stranger.responses.create(model=demo_path, input="hi")
    with pytest.raises(NotFoundError) as unknown:
        openai.responses.create(model="nothing", input="hi")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(BadRequestError) as refused:
        openai.responses.create(model=demo_path, input="hi", tools=[{"type": "web_search"}])
    assert refused.value.param == "tools[0].type"
    for stream in (False, True):
        with pytest.raises(BadRequestError) as too_long:
            openai.responses.create(model=demo_path, input="word " * 50_000, stream=stream)
        assert too_long.value.code == "context_length_exceeded"
