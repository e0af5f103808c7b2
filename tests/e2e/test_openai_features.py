"""What chats can be asked for, by the OpenAI library for Python, whole and streamed, against the
real engine. Each answer is held against OpenAI's types as well.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.support.instance import Instance
from tests.support.strict import strict

Json: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[..., Any]

HI = [{"role": "user", "content": "Say hi"}]
HELLO = "19556"
"""The token "Hello" of SmolLM2."""


def function(name: str, description: str) -> Json:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    told = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": told}


def call(id: str, city: str) -> Json:
    arguments = json.dumps({"city": city})
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


TOOLS = [function("weather", "The weather in a city."), function("time", "The time in a city.")]
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
# A model this small calls by itself, and several at once, where it did so before.
CALLED_BEFORE = [
    {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
    {"role": "assistant", "tool_calls": [call("call_1", "Oslo"), call("call_2", "Rome")]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    {"role": "tool", "tool_call_id": "call_2", "content": "Sun."},
    {"role": "user", "content": "What is the weather in Paris and in Berlin?"},
]

ROOM_FOR_SEVERAL = 600
"""Tokens with which there is sure to be room for a list of calls."""


@pytest.fixture
def openai(shared: Instance, demo_key: str) -> Iterator[OpenAI]:
    with shared.openai(demo_key) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def ask(openai: OpenAI, demo_path: str, request: pytest.FixtureRequest) -> Ask:
    """Asks for an answer. Of a stream it is what the library puts together."""

    def ask(**more: Any) -> Any:
        asked: Json = {"model": demo_path, "messages": HI, "max_tokens": 64, "temperature": 0}
        asked |= more
        if not request.param:
            raw = openai.chat.completions.with_raw_response.create(**asked)
            assert strict(ChatCompletion, raw.http_response.json()) == []
            return raw.parse()
        with openai.chat.completions.stream(**asked) as stream:
            for event in stream:
                if event.type == "chunk":
                    assert strict(ChatCompletionChunk, event.chunk.to_dict()) == []
            # Unlike the final completion, this one may be cut.
            return stream.current_completion_snapshot

    return ask


def calls(choice: Any) -> list[tuple[str, Json]]:
    made = choice.message.tool_calls or []
    assert len({each.id for each in made}) == len(made)
    assert {each.type for each in made} <= {"function"}
    return [(each.function.name, json.loads(each.function.arguments)) for each in made]


def test_a_call_that_is_required_comes(ask: Ask) -> None:
    answer = ask(messages=QUESTION, tools=TOOLS, tool_choice="required")
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    ((name, arguments),) = calls(choice)
    assert name in ("weather", "time")
    assert list(arguments) == ["city"]
    assert isinstance(arguments["city"], str)


@pytest.mark.parametrize("name", ["weather", "time"])
def test_the_function_that_is_named_is_called(ask: Ask, name: str) -> None:
    named = {"type": "function", "function": {"name": name}}
    (choice,) = ask(messages=QUESTION, tools=TOOLS, tool_choice=named).choices
    assert choice.finish_reason == "tool_calls"
    ((called, arguments),) = calls(choice)
    assert called == name
    assert list(arguments) == ["city"]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}], ids=["unsaid", "auto"])
def test_a_model_may_call_or_speak(ask: Ask, choice: Json) -> None:
    (spoken,) = ask(messages=QUESTION, tools=TOOLS, **choice).choices
    assert spoken.message.content
    assert calls(spoken) == []
    (called,) = ask(
        messages=CALLED_BEFORE, tools=TOOLS, max_tokens=ROOM_FOR_SEVERAL, **choice
    ).choices
    assert called.finish_reason == "tool_calls"
    assert {name for name, _ in calls(called)} <= {"weather", "time"}


def test_where_no_call_is_wanted_none_comes(ask: Ask) -> None:
    (choice,) = ask(messages=CALLED_BEFORE, tools=TOOLS, tool_choice="none").choices
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.content
    assert calls(choice) == []


def test_several_functions_are_called_at_once_unless_that_is_unwanted(ask: Ask) -> None:
    asked = {
        "messages": CALLED_BEFORE,
        "tools": TOOLS,
        "tool_choice": "required",
        "max_tokens": ROOM_FOR_SEVERAL,
    }
    (several,) = ask(**asked).choices
    assert len(calls(several)) > 1
    (one,) = ask(**asked, parallel_tool_calls=False).choices
    assert len(calls(one)) == 1


def test_several_answers_have_a_call_each(ask: Ask) -> None:
    answer = ask(messages=QUESTION, tools=TOOLS, tool_choice="required", n=2, temperature=1)
    made = [each for choice in answer.choices for each in choice.message.tool_calls]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len({each.id for each in made}) == len(made) >= 2


def test_a_call_comes_in_pieces(openai: OpenAI, demo_path: str) -> None:
    asked: Json = {"messages": CALLED_BEFORE, "tools": TOOLS, "tool_choice": "required"}
    with openai.chat.completions.create(
        model=demo_path, max_tokens=ROOM_FOR_SEVERAL, temperature=0, stream=True, **asked
    ) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    assert [choice.finish_reason for choice in choices][-1] == "tool_calls"
    assert {choice.finish_reason for choice in choices[:-1]} == {None}
    assert not [choice for choice in choices if choice.delta.content]
    pieces = [each for choice in choices for each in choice.delta.tool_calls or []]
    assert sorted(piece.index for piece in pieces) == [piece.index for piece in pieces]
    assert {piece.index for piece in pieces} >= {0, 1}
    for index in {piece.index for piece in pieces}:
        first, *rest = [piece for piece in pieces if piece.index == index]
        assert first.id
        assert first.type == "function"
        assert first.function is not None
        assert first.function.name == "weather"
        # Who and which is said once; arguments come as they are made.
        assert len(rest) > 1
        assert not [piece for piece in rest if piece.id or (piece.function and piece.function.name)]
        texts = [piece.function.arguments or "" for piece in (first, *rest) if piece.function]
        assert list(json.loads("".join(texts))) == ["city"]


class Person(BaseModel):
    name: str
    age: int


def test_json_is_an_object(ask: Ask) -> None:
    question = 'What is the capital of France? Answer as JSON: {"capital": "…"}'
    (choice,) = ask(
        messages=[{"role": "user", "content": question}],
        max_tokens=200,
        response_format={"type": "json_object"},
    ).choices
    assert choice.finish_reason == "stop"
    assert isinstance(json.loads(choice.message.content), dict)


def test_json_is_of_its_schema(ask: Ask, openai: OpenAI, demo_path: str) -> None:
    schema = {**Person.model_json_schema(), "additionalProperties": False}
    wanted = {"name": "person", "schema": schema, "strict": True}
    question: Any = [{"role": "user", "content": "Ada is 36 years old."}]
    (choice,) = ask(
        messages=question, response_format={"type": "json_schema", "json_schema": wanted}
    ).choices
    Person.model_validate_json(choice.message.content, strict=True)
    parsed = openai.chat.completions.parse(
        model=demo_path, messages=question, max_tokens=64, response_format=Person
    )
    assert isinstance(parsed.choices[0].message.parsed, Person)


def test_log_probabilities_are_those_of_the_answer(ask: Ask) -> None:
    (choice,) = ask(max_tokens=6, logprobs=True, top_logprobs=3).choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token
        likeliest = [each.logprob for each in token.top_logprobs]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        # Nothing was left to chance.
        assert token.logprob == likeliest[0] <= 0


def test_several_answers_come_where_they_are_asked_for(ask: Ask) -> None:
    answer = ask(n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


@pytest.mark.parametrize("stop", ["!", ["nothing of the kind", "!"]], ids=["one", "several"])
def test_an_answer_ends_before_what_it_is_to_stop_at(ask: Ask, stop: str | list[str]) -> None:
    asked = {"logit_bias": {HELLO: 3}}
    (whole,) = ask(**asked).choices
    assert "!" in whole.message.content
    (cut,) = ask(**asked, stop=stop).choices
    assert cut.finish_reason == "stop"
    assert cut.message.content == whole.message.content.partition("!")[0]


def test_a_seed_repeats_an_answer(ask: Ask) -> None:
    def said(seed: int) -> str:
        return str(ask(seed=seed, temperature=1, max_tokens=16).choices[0].message.content)

    first = said(7)
    assert said(7) == first
    assert {said(seed) for seed in (8, 9)} != {first}


def test_a_bias_makes_tokens_come_or_stay_away(ask: Ask) -> None:
    (always,) = ask(max_tokens=4, logit_bias={HELLO: 100}).choices
    assert always.message.content == "Hello" * 4
    (never,) = ask(max_tokens=24, logit_bias={HELLO: -100}).choices
    assert "Hello" not in never.message.content
