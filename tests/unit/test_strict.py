"""The validator that the tests hold answers against finds what is wrong with them."""

from collections.abc import Callable
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from tests.support.strict import strict

Json = dict[str, Any]


def answer() -> Json:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "u-1/x",
        "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def test_an_answer_that_is_right_has_no_problems() -> None:
    assert strict(ChatCompletion, answer()) == []


Change = Callable[[Json], object]

CHANGES: list[tuple[Change, str]] = [
    (lambda a: a.update(timings={}), "timings: unknown field"),
    (lambda a: a.pop("id"), "id: missing"),
    (lambda a: a.update(id=None), "id: null where str is due"),
    (lambda a: a.update(created=1.5), "created: a number where int is due"),
    (lambda a: a.update(choices={}), "choices: an object where an array is due"),
    (lambda a: a["choices"][0].pop("logprobs"), "choices[0].logprobs: missing, null is due"),
]
OF_USAGE: list[tuple[object, str]] = [
    ("3", "usage.total_tokens: a string where int is due"),
    (True, "usage.total_tokens: a boolean where int is due"),
    (None, "usage.total_tokens: null where int is due"),
]
OF_A_MESSAGE: list[tuple[Change, str]] = [
    (lambda m: m.pop("refusal"), "refusal: missing, null is due"),
    (lambda m: m.update(role="user"), "role: 'user' is none of 'assistant'"),
    (lambda m: m["tool_calls"][0].update(index=0), "tool_calls[0].index: unknown field"),
    (
        lambda m: m["tool_calls"][0].update(type="fn"),
        "tool_calls[0].type: 'fn' is none of custom, function",
    ),
    (
        lambda m: m["tool_calls"][0]["function"].pop("arguments"),
        "tool_calls[0].function.arguments: missing",
    ),
]


@pytest.mark.parametrize(("change", "problem"), CHANGES)
def test_what_is_wrong_is_named_by_its_path(change: Change, problem: str) -> None:
    wrong = answer()
    change(wrong)
    assert strict(ChatCompletion, wrong) == [problem]


@pytest.mark.parametrize(("total", "problem"), OF_USAGE)
def test_nothing_is_taken_for_a_number_that_is_none(total: object, problem: str) -> None:
    wrong = answer()
    wrong["usage"]["total_tokens"] = total
    assert strict(ChatCompletion, wrong) == [problem]


@pytest.mark.parametrize(("change", "problem"), OF_A_MESSAGE)
def test_what_is_wrong_deep_within_is_found_too(change: Change, problem: str) -> None:
    wrong = answer()
    change(wrong["choices"][0]["message"])
    assert strict(ChatCompletion, wrong) == [f"choices[0].message.{problem}"]


def test_a_finish_reason_that_openai_does_not_have_is_none() -> None:
    wrong = answer()
    wrong["choices"][0]["finish_reason"] = "eos"
    (problem,) = strict(ChatCompletion, wrong)
    assert problem.startswith("choices[0].finish_reason: 'eos' is none of 'stop', 'length'")


def test_a_field_beyond_the_type_may_be_allowed_wherever_it_stands() -> None:
    more = answer()
    more["choices"][0]["message"]["reasoning_content"] = "hm"
    assert strict(ChatCompletion, more) != []
    allow = frozenset({"choices[].message.reasoning_content"})
    assert strict(ChatCompletion, more, allow=allow) == []
    assert strict(ChatCompletion, {**more, "more": 1}, allow=allow) == ["more: unknown field"]


def test_a_member_of_a_union_is_told_by_its_type() -> None:
    event = {"type": "response.output_text.delta", "delta": "a", "content_index": 0}
    assert sorted(strict(ResponseStreamEvent, event)) == [
        "item_id: missing",
        "logprobs: missing",
        "output_index: missing",
        "sequence_number: missing",
    ]
    (problem,) = strict(ResponseStreamEvent, {"type": "response.nothing"})
    assert problem.startswith("type: 'response.nothing' is none of ")


def test_what_is_no_object_at_all_is_told() -> None:
    assert strict(ChatCompletionChunk, None) == [".: null where ChatCompletionChunk is due"]
    assert strict(Completion, []) == [".: an array where Completion is due"]
