"""Answers of chats, and the messages of Anthropic's API that they become."""

import json
from contextlib import suppress
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from modelry.gateway.dialects.messages.answers import MessagesAnswer, TokenCount
from modelry.gateway.replies import error

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": [1]}'}}
USE = {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": [1]}}
_event = TypeAdapter[Any](RawMessageStreamEvent)


def whole(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    answer = {
        "id": "chatcmpl-x",
        "model": "u-1/m",
        "choices": [{"index": 0, "finish_reason": "stop", **choice, "message": message}],
        "usage": USAGE,
    }
    made: dict[str, Any] = json.loads(MessagesAnswer(b"req_1", "m", streams=False).whole(answer))
    return made


def events(*deltas: dict[str, Any], **choice: Any) -> list[dict[str, Any]]:
    """Of a stream of these deltas; `choice`: of its last chunk with a choice."""
    answer = MessagesAnswer(b"req_1", "m", streams=True)
    base = {"id": "chatcmpl-x", "model": "u-1/m"}
    last = {"index": 0, "delta": {}, "finish_reason": "stop", **choice}
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta}]} for delta in deltas
    ]
    chunks += [{**base, "choices": [last]}, {**base, "choices": [], "usage": USAGE}]
    return parsed(b"".join(map(answer.chunk, chunks)) + answer.end())


def parsed(stream: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found


def accumulated(stream: list[dict[str, Any]]) -> Any:
    """What Anthropic's library makes of a stream."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    for event in stream:
        if event["type"] != "ping":
            message = accumulate_event(
                event=_event.validate_python(event), current_snapshot=message, json_bufs=buffers
            )
    return message


def test_a_message_has_every_field() -> None:
    assert whole({"role": "assistant", "content": "hi"}) == {
        "id": "msg_x",
        "type": "message",
        "role": "assistant",
        "model": "u-1/m",
        "content": [{"type": "text", "text": "hi", "citations": None}],
        "container": None,
        "diagnostics": None,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 7,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 2},
            "server_tool_use": None,
            "cache_creation": None,
            "inference_geo": None,
            "service_tier": None,
            "speed": None,
        },
    }


ENDINGS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"finish_reason": "stop"}, "end_turn", None),
    ({"finish_reason": None}, "end_turn", None),
    ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
    ({"finish_reason": "stop", "stop_reason": 7}, "end_turn", None),
    ({"finish_reason": "length"}, "max_tokens", None),
    ({"finish_reason": "content_filter"}, "refusal", None),
]


@pytest.mark.parametrize(("choice", "reason", "stop"), ENDINGS)
def test_why_an_answer_ended(choice: dict[str, Any], reason: str, stop: str | None) -> None:
    message = whole({"content": "hi"}, **choice)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)
    assert (message["stop_details"] is not None) == (reason == "refusal")
    delta = events({"content": "hi"}, **choice)[-2]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == (reason, stop)


@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call"])
def test_calls_are_uses_of_tools(reason: str) -> None:
    message = whole({"content": None, "tool_calls": [CALL]}, finish_reason=reason)
    assert (message["content"], message["stop_reason"]) == ([USE], "tool_use")


def test_thoughts_come_before_text_and_calls() -> None:
    said = {"content": "so", "reasoning_content": "hm", "tool_calls": [CALL]}
    kinds = [block["type"] for block in whole(said)["content"]]
    assert kinds == ["thinking", "text", "tool_use"]
    # Clients drop thoughts without a signature, and engines sign nothing.
    assert whole({"reasoning": "hm"})["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "unsigned"}
    ]


def test_a_refusal_is_text_and_says_so() -> None:
    message = whole({"content": None, "refusal": "I will not."})
    assert message["content"][0]["text"] == "I will not."
    assert message["stop_reason"] == "refusal"
    assert events({"refusal": "I will"}, {"refusal": " not."})[-2]["delta"]["stop_reason"] == (
        "refusal"
    )


def test_nothing_said_is_no_block() -> None:
    assert whole({"content": ""})["content"] == []
    kinds = [event["type"] for event in events({"role": "assistant", "content": None})]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        ("", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": ', {"INVALID_JSON": '{"a": '}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("[" * 9000, {"INVALID_JSON": "[" * 9000}),
    ],
)
def test_arguments_are_an_object_whatever_they_were(arguments: Any, input: Any) -> None:
    call = {"id": "", "function": {"name": "look", "arguments": arguments}}
    (block,) = whole({"content": None, "tool_calls": [call]})["content"]
    assert block["input"] == input
    assert block["id"].startswith("toolu_")


def test_usage_that_nobody_told_is_nothing() -> None:
    answer = MessagesAnswer(b"req_1", "m", streams=False)
    told = json.loads(answer.whole({"choices": [{"message": {"content": "hi"}}]}))
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (0, 0)
    assert (told["id"], told["model"]) == ("msg_req_1", "m")


STREAM: list[dict[str, Any]] = [
    {"role": "assistant", "content": None},
    {"reasoning_content": "h"},
    {"reasoning_content": "m"},
    {"content": "so"},
    {"content": " be it"},
    {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "look", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "[1]}"}}]},
    {"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "go", "arguments": "{}"}}]},
]


def test_a_stream_has_one_block_after_the_other() -> None:
    stream = events(*STREAM, finish_reason="tool_calls")
    shown = [
        (event["type"].removeprefix("content_block_"), event["index"])
        for event in stream
        if "index" in event
    ]
    assert shown == [
        *[("start", 0), ("delta", 0), ("delta", 0), ("delta", 0), ("stop", 0)],
        *[("start", 1), ("delta", 1), ("delta", 1), ("stop", 1)],
        *[("start", 2), ("delta", 2), ("delta", 2), ("stop", 2)],
        *[("start", 3), ("delta", 3), ("stop", 3)],
    ]
    kinds = [event["type"] for event in stream if "index" not in event]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]


def test_anthropic_s_library_reads_of_a_stream_what_the_whole_says() -> None:
    message = accumulated(events(*STREAM, finish_reason="tool_calls")).to_dict()
    said = {
        "content": "so be it",
        "reasoning_content": "hm",
        "tool_calls": [
            CALL,
            {"id": "call_2", "function": {"name": "go", "arguments": "{}"}},
        ],
    }
    assert message == whole(said, finish_reason="tool_calls")


def test_a_second_answer_is_left_out() -> None:
    answer = MessagesAnswer(b"req_1", "m", streams=True)
    chunk = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    assert b"other" not in answer.chunk(chunk)


def test_a_call_that_goes_on_behind_the_next_is_none_of_a_chat_s() -> None:
    with pytest.raises(ValueError, match="behind"):
        events(*STREAM, {"tool_calls": [{"index": 0, "function": {"arguments": " "}}]})


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ({"message": "gone", "code": "bad_gateway"}, "api_error"),
        ({"message": "gone", "code": 400}, "invalid_request_error"),
        ({"message": "gone", "code": 503}, "overloaded_error"),
    ],
)
def test_a_stream_that_broke_off_ends_with_an_error(problem: Any, kind: str) -> None:
    (event,) = parsed(MessagesAnswer(b"req_1", "m", streams=True).broken(problem))
    assert event == {
        "type": "error",
        "error": {"type": kind, "message": "gone"},
        "request_id": "req_1",
    }


def test_a_count_is_a_number() -> None:
    count = TokenCount()
    assert json.loads(count.whole({"tokens": [1, 2], "count": 2})) == {"input_tokens": 2}
    reply = error(400, "unsupported_task", "no")
    assert count.refusal(reply) is reply


NAMES = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "content",
        "reasoning_content",
        "refusal",
        "tool_calls",
        "function",
        "arguments",
        "index",
        "usage",
        "prompt_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "finish_reason",
        "stop_reason",
        "id",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


@given(st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_any_object_is_an_answer_or_malformed(told: dict[str, Any]) -> None:
    with suppress(*MALFORMED):
        json.loads(MessagesAnswer(b"req_1", "m", streams=False).whole(told))
    answer = MessagesAnswer(b"req_1", "m", streams=True)
    with suppress(*MALFORMED):
        assert accumulated(parsed(answer.chunk(told) + answer.end())).type == "message"


def test_calls_that_share_a_number_are_told_apart_by_their_ids() -> None:
    """Some engines give all of them the same."""
    calls = [
        {"index": 0, "id": f"call_{n}", "function": {"name": "look", "arguments": f'{{"a": {n}}}'}}
        for n in (1, 2)
    ]
    for deltas in ([{"tool_calls": calls}], [{"tool_calls": [each]} for each in calls]):
        found = events(*deltas, finish_reason="tool_calls")
        begun = [each["content_block"] for each in found if each["type"] == "content_block_start"]
        assert [each["id"] for each in begun] == ["call_1", "call_2"]
        parts = [each for each in found if each["type"] == "content_block_delta"]
        assert [(each["index"], each["delta"]["partial_json"]) for each in parts] == [
            (0, '{"a": 1}'),
            (1, '{"a": 2}'),
        ]
