"""What an answer of a chat becomes: response objects and events in OpenAI's own shapes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.strict import strict
from tests.unit.responses import USAGE_CHUNK, Api, Caller, Json, answer, chunk

TOOL = {"type": "function", "name": "weather"}
LOGPROBS = {
    "content": [
        {
            "token": "Hi",
            "logprob": -0.5,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": None, "id": 5}],
        }
    ]
}
CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}},
    {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


WHOLE: dict[str, tuple[Json, list[str], str]] = {
    "text": (answer(content="Hi."), ["message"], "completed"),
    "nothing": (answer(content=""), ["message"], "completed"),
    "thoughts": (
        answer(content="Hi.", reasoning_content="Hm."),
        ["reasoning", "message"],
        "completed",
    ),
    "tools": (
        answer(finish="tool_calls", tool_calls=CALLS),
        ["function_call", "function_call"],
        "completed",
    ),
    "all": (
        answer(content="I look.", reasoning="Hm.", tool_calls=CALLS),
        ["reasoning", "message", "function_call", "function_call"],
        "completed",
    ),
    "refused": (answer(refusal="No."), ["message"], "completed"),
    "cut": (answer(content="Hi", finish="length"), ["message"], "incomplete"),
    "filtered": (answer(content="", finish="content_filter"), ["message"], "incomplete"),
    "logprobs": (answer(content="Hi", logprobs=LOGPROBS), ["message"], "completed"),
    "no usage": (answer(content="Hi") | {"usage": None}, ["message"], "completed"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_is_a_response_of_openais_type(api: Api, name: str) -> None:
    told, kinds, status = WHOLE[name]
    response = api.whole(told, tools=[TOOL], top_logprobs=2)
    assert strict(Response, response) == []
    assert [item["type"] for item in response["output"]] == kinds
    assert response["status"] == status
    assert response["output"][-1]["status"] == status
    assert len({item["id"] for item in response["output"]}) == len(kinds)


def test_a_response_says_what_was_asked(api: Api) -> None:
    asked: Json = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "weather"}],
        },
        "user": "anna",
        "truncation": "disabled",
        "top_logprobs": 3,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "a",
                "schema": {"type": "object"},
                "description": "What.",
                "strict": True,
            },
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": None},
    }
    response = api.whole(answer(content="{}"), tools=[TOOL], **asked)
    assert strict(Response, response) == []
    assert {name: response[name] for name in asked} == asked
    assert response["tools"] == [{**TOOL, "description": None, "parameters": None, "strict": None}]


def test_usage_and_what_cut_an_answer_are_told(api: Api) -> None:
    response = api.whole(answer(content="Hi", finish="length"))
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["completed_at"] is None
    assert response["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    }
    assert api.whole(answer(content="Hi"))["completed_at"]


def test_logprobs_come_as_they_were_asked_for(api: Api) -> None:
    def logprobs(**asked: Any) -> list[Json]:
        told = answer(content="Hi", logprobs=LOGPROBS)
        found: list[Json] = api.whole(told, **asked)["output"][0]["content"][0]["logprobs"]
        return found

    hi = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    assert logprobs(top_logprobs=1) == [{**hi, "top_logprobs": [hi]}]
    assert logprobs(include=["message.output_text.logprobs"]) == [{**hi, "top_logprobs": []}]


STREAMS: dict[str, list[Json]] = {
    "text": [chunk(role="assistant", content=""), chunk(content="Hi"), chunk("stop", content=".")],
    "nothing": [chunk(role="assistant"), chunk("stop")],
    "thoughts": [
        chunk(reasoning_content="H"),
        chunk(reasoning_content="m."),
        chunk(content="Hi."),
        chunk("stop"),
    ],
    "tools": [
        chunk(role="assistant", content=None),
        chunk(content="I look."),
        chunk(tool_calls=[{"index": 0, **CALLS[0], "function": {"name": "weather"}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        chunk(tool_calls=[{"index": 1, **CALLS[1]}]),
        chunk("tool_calls"),
    ],
    "tools of one index": [
        chunk(tool_calls=[{"index": 0, **CALLS[0]}]),
        chunk("tool_calls", tool_calls=[{"index": 0, **CALLS[1]}]),
    ],
    "tools without ids": [
        chunk("tool_calls", tool_calls=[{"function": {"name": "weather", "arguments": "{}"}}]),
    ],
    "refused": [chunk(content="Well,"), chunk(refusal=" n"), chunk("stop", refusal="o.")],
    "logprobs": [chunk("stop", content="Hi", logprobs=LOGPROBS)],
    "cut": [chunk(content="Hi"), chunk("length")],
    "cut within a tool": [chunk("length", tool_calls=[{"index": 0, **CALLS[0]}])],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_has_openais_events_and_adds_up(api: Api, name: str) -> None:
    events = api.stream(*STREAMS[name], USAGE_CHUNK, tools=[TOOL], top_logprobs=2)
    kinds: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    # As the library reads a stream; it raises where one event does not fit those before.
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=[], text_format=omit)
    for number, event in enumerate(events):
        assert strict(ResponseStreamEvent, event) == []
        assert event["sequence_number"] == number
        state.handle_event(kinds.validate_python(event))
    last = events[-1]["response"]
    assert last["status"] == ("incomplete" if "cut" in name else "completed")
    assert events[-1]["type"] == f"response.{last['status']}"
    assert last["usage"]["total_tokens"] == 16
    done = [each["item"] for each in events if each["type"] == "response.output_item.done"]
    assert done == last["output"]
    # The pieces add up to what the last event has.
    for at, item in enumerate(last["output"]):
        deltas = [each for each in events if "delta" in each]
        pieces = [each["delta"] for each in deltas if each["output_index"] == at]
        texts = [part.get("text", part.get("refusal", "")) for part in item.get("content", [])]
        assert "".join(pieces) == item.get("arguments", "".join(texts))


@pytest.mark.parametrize("name", ["text", "thoughts", "tools", "refused", "logprobs", "cut"])
def test_a_stream_ends_with_what_a_whole_answer_is(api: Api, name: str) -> None:
    whole = {
        "text": answer(content="Hi."),
        "thoughts": answer(content="Hi.", reasoning_content="Hm."),
        "tools": answer(content="I look.", tool_calls=CALLS),
        "refused": answer(content="Well,", refusal=" no."),
        "logprobs": answer(content="Hi", logprobs=LOGPROBS),
        "cut": answer(content="Hi", finish="length"),
    }[name]
    asked: Json = {"tools": [TOOL], "top_logprobs": 2}
    streamed = api.stream(*STREAMS[name], USAGE_CHUNK, **asked)[-1]["response"]
    assert _without_ids(streamed) == _without_ids(api.whole(whole, **asked))


def _without_ids(response: Json) -> Json:
    output = [{**item, "id": ""} for item in response["output"]]
    return {**response, "id": "", "created_at": 0, "completed_at": 0, "output": output}


def test_a_stream_that_breaks_off_fails_the_response(api: Api) -> None:
    problem = {"message": "It stopped.", "param": None, "code": "bad_gateway"}
    *_, failed, error = api.stream(chunk(content="Hi"), {"error": problem})
    assert strict(ResponseStreamEvent, failed) == []
    response = failed["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "Hi"
    assert strict(ResponseStreamEvent, error, allow=frozenset({"error"})) == []
    assert (error["message"], error["code"]) == ("It stopped.", "bad_gateway")


def test_a_stream_that_fails_at_once_begins_all_the_same(api: Api) -> None:
    events = api.stream({"error": {"message": "no"}})
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.failed",
        "error",
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"number": 1},
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"delta": 5}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]},
        {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{}]}}]},
    ],
)
def test_chunks_that_are_none_end_a_stream(api: Api, bad: Json) -> None:
    events = api.stream(chunk(content="Hi"), bad, chunk(content="more"))
    assert events[-1]["type"] == "error"
    assert not any(event.get("delta") == "more" for event in events)


@pytest.mark.parametrize(
    "bad",
    [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": 5}]},
     {"choices": [{"message": {"tool_calls": [{}]}}]},
     {"choices": [{"message": {"content": [1]}}]}],
)  # fmt: skip
def test_answers_that_are_none_are_a_502(api: Api, bad: Json) -> None:
    caller = Caller()
    call = {"model": "demo", "input": "hi", "store": False}
    api.call(call, caller)[1].respond_whole(200, b"", json.dumps(bad).encode())
    assert caller.refusal is not None
    assert caller.refusal.status == 502


_NAMES = (
    "choices delta message content refusal reasoning_content tool_calls function name arguments "
    "index id logprobs token logprob top_logprobs bytes usage prompt_tokens finish_reason error"
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES.split()), inner, max_size=4)
    ),
    max_leaves=10,
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES.split()), _VALUES, max_size=3)
_CHUNKS = st.one_of(
    st.builds(lambda delta: chunk(**delta), _OBJECTS),
    st.builds(lambda call: chunk(tool_calls=[{"index": 0, **CALLS[0], **call}]), _OBJECTS),
    st.builds(lambda told: chunk(content="Hi", logprobs={"content": [told]}), _OBJECTS),
    _OBJECTS,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_CHUNKS, max_size=4))
def test_a_stream_of_anything_ends_well(api: Api, chunks: list[Json]) -> None:
    events = api.stream(*chunks, top_logprobs=1)
    assert events[-1]["type"] in ("response.completed", "response.incomplete", "error")
    for event in events:
        if event["type"] != "error":
            assert strict(ResponseStreamEvent, event) == []
