"""Functions that have to be called, and JSON by a schema, on the real engine."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from modelry.gateway.structured.fitting import Room, form_of
from modelry.gateway.structured.functions import Function, Offer
from tests.support.instance import Instance
from tests.support.structured_answers import (
    Came,
    Way,
    call_of,
    is_valid_call,
    is_valid_json,
    json_of,
    ways,
)
from tests.support.structured_asks import ASKS, Ask, closed

CITY = closed(city={"type": "string", "maxLength": 20})
# Seeds of their own: the slow tests begin at 0.
WAYS = [*ways(14)][11:13]


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key, timeout=300) as client:
        yield client


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("get", "is_valid"), [(call_of, is_valid_call), (json_of, is_valid_json)], ids=["calls", "json"]
)
def test_what_comes_is_valid_by_its_schema(
    openai: OpenAI,
    demo_path: str,
    get: Callable[[OpenAI, str, Ask, Way], Came],
    is_valid: Callable[[Ask, Came], bool],
) -> None:
    jobs = [(ask, way) for way in WAYS for ask in ASKS]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda job: get(openai, demo_path, *job), jobs))
    assert [
        (ask.name, way, came)
        for (ask, way), came in zip(jobs, found, strict=True)
        if not is_valid(ask, came)
    ] == []


def tools(*names: str) -> Any:
    return [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in names]


def ask(openai: OpenAI, path: str, question: str = "What is in Oslo?", **wish: Any) -> Any:
    create: Any = openai.chat.completions.create
    messages = wish.pop("messages", [{"role": "user", "content": question}])
    return create(model=path, messages=messages, **{"max_tokens": 100, "seed": 5, **wish})


def test_the_function_that_is_named_is_called(openai: OpenAI, demo_path: str) -> None:
    for name in ("look", "listen"):
        wish = {"type": "function", "function": {"name": name}}
        answer = ask(openai, demo_path, tools=tools("look", "listen"), tool_choice=wish)
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == name


def test_a_function_that_the_prompt_names_is_chosen(openai: OpenAI, demo_path: str) -> None:
    names = ("get_weather", "send_email", "play_music", "set_alarm")
    right = 0
    for at, name in enumerate(names * 2):
        answer = ask(
            *(openai, demo_path, f"Call {name} for Oslo."),
            tools=tools(*names),
            tool_choice="required",
            seed=at,
        )
        right += answer.choices[0].message.tool_calls[0].function.name == name
    assert right >= 6


def test_no_more_than_one_call_comes_where_several_are_forbidden(
    openai: OpenAI, demo_path: str
) -> None:
    for seed in range(4):
        answer = ask(
            *(openai, demo_path, "Look at Oslo, Rome and Paris, each with a call of its own."),
            tools=tools("look"),
            tool_choice="required",
            parallel_tool_calls=False,
            seed=seed,
        )
        assert len(answer.choices[0].message.tool_calls) == 1


def test_a_conversation_with_calls_goes_on(openai: OpenAI, demo_path: str) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"city": "Oslo"}'},
    }
    answer = ask(
        openai,
        demo_path,
        messages=[
            {"role": "user", "content": "What is in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "An opera."},
        ],
        tools=tools("look"),
    )
    message = answer.choices[0].message
    assert message.content or message.tool_calls


def test_several_answers_have_calls_each(openai: OpenAI, demo_path: str) -> None:
    answer = ask(openai, demo_path, tools=tools("look"), tool_choice="required", n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls


def test_what_would_spoil_json_is_left_out(openai: OpenAI, demo_path: str) -> None:
    answer = ask(
        *(openai, demo_path),
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}},
        stop=['"', "}"],
        extra_body={"ignore_eos": True},
    )
    assert list(json.loads(answer.choices[0].message.content)) == ["city"]


def test_an_object_of_any_kind_is_complete(openai: OpenAI, demo_path: str) -> None:
    for seed in range(3):
        answer = ask(
            *(openai, demo_path, "Describe Oslo as a JSON object."),
            response_format={"type": "json_object"},
            seed=seed,
            max_tokens=200,
        )
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


def test_a_schema_that_cannot_be_followed_is_refused(openai: OpenAI, demo_path: str) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}
    with pytest.raises(BadRequestError) as raised:
        ask(
            *(openai, demo_path),
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        )
    assert raised.value.param == "response_format.json_schema.schema"


LARGE: dict[str, Any] = {
    "a long text": {"type": "string", "minLength": 2000, "maxLength": 16_000},
    "many items": {
        "type": "array",
        "items": {"type": "string", "maxLength": 5000},
        "minItems": 1600,
    },
    "a wide pattern": {"type": "string", "pattern": "^((a{900}b{900})?c{900}|d){900}$"},
    "many members": {"properties": {f"p{at}": {"type": "integer"} for at in range(1000)}},
    "many values": {"enum": [f"value {at}" for at in range(3000)]},
    "many digits": {"type": "number", "minimum": -(10**30), "maximum": 10**30},
    "anything": {},
}


@pytest.mark.parametrize("room", [Room(None, False), Room(1500, False), Room(9000, True)])
def test_the_engine_takes_grammars_of_any_size(openai: OpenAI, demo_path: str, room: Room) -> None:
    for name, schema in {**LARGE, **{ask.name: ask.schema for ask in ASKS}}.items():
        is_call = schema.get("type") == "object"
        offer = Offer((Function(name, parameters=schema),), True, True) if is_call else None
        form = form_of(offer, schema, strict=False, schema_path="schema", room=room)
        answer = ask(openai, demo_path, max_tokens=3, extra_body={"grammar": form.grammar})
        assert answer.choices[0].message.content, name
