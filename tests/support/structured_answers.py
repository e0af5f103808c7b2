"""What comes of an `Ask`, as a call or as JSON, and whether it is valid."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
from openai import OpenAI

from tests.support.structured_asks import Ask


@dataclass(frozen=True)
class Way:
    """How it is asked for."""

    seed: int
    max_tokens: int | None
    stream: bool
    named: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return {"seed": self.seed} | (
            {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        )


def ways(count: int) -> Iterator[Way]:
    """Every combination in turn."""
    for seed in range(count):
        yield Way(seed, 200 if seed & 1 else None, bool(seed & 2), bool(seed & 4))


@dataclass(frozen=True)
class Came:
    """An answer. `calls`: names and arguments, as they came."""

    finish: str | None
    content: str
    calls: tuple[tuple[str, str], ...]


def _is_valid(ask: Ask, text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    validator = jsonschema.Draft202012Validator
    return validator(ask.schema, format_checker=validator.FORMAT_CHECKER).is_valid(value)


def is_valid_call(ask: Ask, came: Came) -> bool:
    return (
        came.finish == "tool_calls"
        and bool(came.calls)
        and all(name == ask.name and _is_valid(ask, text) for name, text in came.calls)
    )


def is_valid_json(ask: Ask, came: Came) -> bool:
    return came.finish == "stop" and not came.calls and _is_valid(ask, came.content)


def call_of(openai: OpenAI, model: str, ask: Ask, way: Way) -> Came:
    """What comes where a call of its function has to."""
    function = {"name": ask.name, "description": ask.description, "parameters": ask.schema}
    choice: Any = "required"
    if way.named:
        choice = {"type": "function", "function": {"name": ask.name}}
    return _came(
        openai,
        model,
        ask,
        way,
        tools=[{"type": "function", "function": function}],
        tool_choice=choice,
    )


def json_of(openai: OpenAI, model: str, ask: Ask, way: Way) -> Came:
    """What comes where the answer has to be JSON by its schema."""
    said = {"name": "answer", "schema": ask.schema, "strict": way.named}
    return _came(
        openai, model, ask, way, response_format={"type": "json_schema", "json_schema": said}
    )


def _came(openai: OpenAI, model: str, ask: Ask, way: Way, **wish: Any) -> Came:
    create: Any = openai.chat.completions.create
    asked = {"model": model, "messages": [{"role": "user", "content": ask.question}], **wish}
    if not way.stream:
        (choice,) = create(**asked, **way.options).choices
        calls = choice.message.tool_calls or []
        return Came(
            choice.finish_reason,
            choice.message.content or "",
            tuple((each.function.name, each.function.arguments) for each in calls),
        )
    content, finish, names, texts = "", None, list[str](), list[str]()
    with create(**asked, **way.options, stream=True) as stream:
        for chunk in stream:
            (choice,) = chunk.choices
            finish = choice.finish_reason or finish
            content += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                if call.index == len(names):
                    names.append(call.function.name)
                    texts.append("")
                texts[call.index] += call.function.arguments
    return Came(finish, content, tuple(zip(names, texts, strict=True)))
