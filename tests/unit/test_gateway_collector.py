"""Whole answers put together from a stream say what the engine would have said."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway.body import Head
from modelry.gateway.collector import Collector
from modelry.gateway.llama_answers import LlamaAnswers

HEAD = {"id": "c1", "created": 7, "model": "u-1/x", "object": "chat.completion.chunk"}


def events(*chunks: dict[str, Any], done: bool = True) -> bytes:
    lines = [f"data: {json.dumps({**HEAD, **chunk}, ensure_ascii=False)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def delta(index: int = 0, finish_reason: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": parts, "finish_reason": finish_reason}]}


CHAT, COMPLETION = b"/v1/chat/completions", b"/v1/completions"


def collector_of(path: bytes = CHAT, **asked: Any) -> Collector:
    return Collector(LlamaAnswers(path, Head(**asked), streams=False))


def collected(data: bytes, path: bytes = CHAT, **asked: Any) -> Any:
    collector = collector_of(path, **asked)
    collector.feed(data)
    assert collector.complete
    return json.loads(collector.answer())


def test_texts_are_joined_and_the_last_word_counts() -> None:
    answer = collected(
        events(
            delta(role="assistant", content=None),
            delta(content="Hel"),
            delta(content="lo"),
            delta(finish_reason="stop"),
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        )
    )
    assert answer == {
        "id": "c1",
        "created": 7,
        "model": "u-1/x",
        "object": "chat.completion",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
            }
        ],
    }


def test_several_choices_come_in_the_order_of_their_index() -> None:
    answer = collected(events(delta(1, content="b"), delta(0, content="a"), delta(1, content="B")))
    assert [each["message"]["content"] for each in answer["choices"]] == ["a", "bB"]


def test_tool_calls_are_put_together_by_their_index() -> None:
    def call(index: int, **parts: Any) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, **parts}])

    answer = collected(
        events(
            call(0, id="t0", type="function", function={"name": "add", "arguments": ""}),
            call(0, function={"arguments": '{"a":'}),
            call(1, id="t1", type="function", function={"name": "sub", "arguments": "{}"}),
            call(0, function={"arguments": "1}"}),
            delta(finish_reason="tool_calls"),
        )
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": "t1", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
    ]


def test_reasoning_stands_beside_the_answer() -> None:
    answer = collected(events(delta(reasoning_content="hm"), delta(content="yes")))
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "yes")


def test_log_probabilities_of_every_token_are_kept() -> None:
    def token(text: str) -> dict[str, Any]:
        part: dict[str, Any] = delta(content=text)
        told = {"token": text, "logprob": -1.5, "top_logprobs": []}
        part["choices"][0]["logprobs"] = {"content": [told]}
        return part

    answer = collected(events(token("a"), token("b")))
    told = answer["choices"][0]["logprobs"]
    assert [each["token"] for each in told["content"]] == ["a", "b"]
    assert told["refusal"] is None


def test_a_message_without_a_word_is_an_empty_text() -> None:
    answer = collected(events(delta(role="assistant", content=None), delta(finish_reason="stop")))
    assert answer["choices"][0]["message"]["content"] == ""


def test_a_text_completion_stays_one() -> None:
    chunk = {"object": "text_completion", "choices": [{"index": 0, "text": "once "}]}
    more = {**chunk, "choices": [{"index": 0, "text": "upon"}]}
    answer = collected(events(chunk, more), COMPLETION)
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "once upon", "logprobs": None}]


def test_an_error_in_the_stream_is_kept() -> None:
    collector = collector_of()
    collector.feed(b'data: {"error": {"code": 500, "message": "no"}}\n\n')
    assert collector.error == {"code": 500, "message": "no"}
    assert not collector.complete


def test_a_stream_that_ends_early_is_not_complete() -> None:
    collector = collector_of()
    collector.feed(events(delta(content="half"), done=False))
    assert not collector.complete


def test_an_event_that_is_no_json_is_told() -> None:
    with pytest.raises(msgspec.DecodeError):
        collector_of().feed(b"data: {\n\n")


@given(st.lists(st.integers(0, 400), max_size=12))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    data = events(delta(content="Grüße, "), delta(content="世界"), delta(finish_reason="stop"))
    collector = collector_of()
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        collector.feed(data[start:end])
    assert json.loads(collector.answer()) == collected(data)


def test_the_null_that_opens_a_list_of_prompts_says_nothing() -> None:
    chunk = {"object": "text_completion", "choices": [{"index": 1, "text": "b"}]}
    answer = collected(b"data: null\n\n" + events(chunk), COMPLETION)
    assert answer["choices"] == [{"index": 1, "text": "b", "logprobs": None}]
