"""Calls in an engine's answers, as their callers get them."""

import json
from typing import Any

import pytest

from modelry.gateway.structured.chats import CallsTold
from modelry.gateway.structured.fitting import opening
from modelry.gateway.structured.functions import Function, Offer

OFFER = Offer((Function("look"), Function("listen")), must=False, several=True)


def call(name: str, arguments: str = "{}") -> str:
    return f"{opening(Function(name))}{arguments}}}"


def whole(*texts: str | None, finish: str = "stop", **more: Any) -> list[dict[str, Any]]:
    """The choices of an answer of these texts, as they are told."""
    answer = {
        "id": "x",
        "choices": [
            {"index": at, "message": {"role": "assistant", "content": text, **more}}
            | {"finish_reason": finish}
            for at, text in enumerate(texts)
        ],
        "usage": {"total_tokens": 3},
    }
    told = json.loads(CallsTold(OFFER, streams=False).whole(answer))
    assert (told["id"], told["usage"]) == ("x", {"total_tokens": 3})
    choices: list[dict[str, Any]] = told["choices"]
    return choices


def said(choice: dict[str, Any]) -> list[tuple[str, str]]:
    calls = choice["message"].get("tool_calls", [])
    assert len({each["id"] for each in calls}) == len(calls)
    assert all(each["type"] == "function" for each in calls)
    return [(each["function"]["name"], each["function"]["arguments"]) for each in calls]


def test_calls_stand_apart_from_words() -> None:
    words, one, two, none, empty = whole(
        "Hello.", call("look", '{"a": 1}'), f"[{call('look')}, {call('listen')}]", None, ""
    )
    assert words["message"] == {"role": "assistant", "content": "Hello."}
    assert words["finish_reason"] == "stop"
    assert said(one) == [("look", '{"a": 1}')]
    assert one["message"]["content"] is None
    assert one["finish_reason"] == "tool_calls"
    assert said(two) == [("look", "{}"), ("listen", "{}")]
    assert none["message"]["content"] == empty["message"]["content"] == ""
    assert none["finish_reason"] == "stop"


def test_other_fields_of_an_answer_stay() -> None:
    (choice,) = whole(call("look"), reasoning_content="Hm.", refusal=None)
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["refusal"] is None


def test_a_call_that_was_cut_is_none() -> None:
    (choice,) = whole(f"[{call('look')}, {opening(Function('listen'))}{{", finish="length")
    assert said(choice) == [("look", "{}")]
    assert choice["finish_reason"] == "length"
    (choice,) = whole(f'{opening(Function("look"))}{{"a', finish="length")
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] == ""


class Stream:
    """A stream's chunks, told one by one and put together as a caller would."""

    def __init__(self) -> None:
        self.translation = CallsTold(OFFER, streams=True)
        self.frames: list[dict[str, Any]] = []

    def chunk(self, *choices: Any, **more: Any) -> list[dict[str, Any]]:
        told = self.translation.chunk({"id": "x", "choices": list(choices), **more})
        found = [json.loads(each[6:]) for each in told.split(b"\n\n") if each]
        assert all(frame["id"] == "x" for frame in found)
        self.frames += found
        return found

    def delta(self, text: str | None, index: int = 0, **more: Any) -> list[dict[str, Any]]:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": None, **more}
        return [frame["choices"][0]["delta"] for frame in self.chunk(choice)]

    def last(self, finish: str, index: int = 0) -> list[dict[str, Any]]:
        found = self.chunk({"index": index, "delta": {}, "finish_reason": finish})
        return [frame["choices"][0] for frame in found]

    def of(self, index: int) -> tuple[str, list[tuple[str, str]], str | None]:
        words, calls, finish = "", list[tuple[str, str]](), None
        for frame in self.frames:
            for choice in frame["choices"]:
                if choice["index"] != index:
                    continue
                finish = choice["finish_reason"] or finish
                words += choice["delta"].get("content") or ""
                for each in choice["delta"].get("tool_calls", []):
                    function = each["function"]
                    if "id" in each:
                        assert each["index"] == len(calls)
                        assert each["type"] == "function"
                        calls.append((function["name"], function["arguments"]))
                    else:
                        name, text = calls[each["index"]]
                        calls[each["index"]] = (name, text + function["arguments"])
        return words, calls, finish


def test_a_stream_s_calls_come_as_openai_s_do() -> None:
    stream = Stream()
    (role,) = stream.chunk(
        {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}
    )
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert stream.delta('{"name": "lo') == []
    first, second = stream.delta('ok", "arguments": {"a"')
    (begun,) = first["tool_calls"]
    assert begun["id"].startswith("call_")
    function = {"name": "look", "arguments": ""}
    assert begun == {"index": 0, "id": begun["id"], "type": "function", "function": function}
    assert second == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}
    assert stream.delta(": 1}}") == [
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}
    ]
    (last,) = stream.last("stop")
    assert last == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert stream.of(0) == ("", [("look", '{"a": 1}')], "tool_calls")


def test_words_are_streamed_as_they_come() -> None:
    stream = Stream()
    assert stream.delta("Hel") == [{"content": "Hel"}]
    assert stream.delta("lo {") == [{"content": "lo {"}]
    assert stream.last("stop")[0]["finish_reason"] == "stop"


def test_several_answers_of_a_stream_are_read_apart() -> None:
    stream = Stream()
    stream.delta("[" + call("look")[:20], 0)
    stream.delta("Words", 1)
    stream.delta(call("look")[20:] + ", " + call("listen") + "]", 0)
    stream.chunk(
        {"index": 1, "delta": {"content": "."}, "finish_reason": None},
        {"index": 2, "delta": {"content": call("listen")}, "finish_reason": "stop"},
    )
    stream.last("stop", 0)
    stream.last("length", 1)
    assert stream.of(0) == ("", [("look", "{}"), ("listen", "{}")], "tool_calls")
    assert stream.of(1) == ("Words.", [], "length")
    assert stream.of(2) == ("", [("listen", "{}")], "tool_calls")


def test_usage_comes_once_and_last() -> None:
    stream = Stream()
    found = stream.chunk(
        {"index": 0, "delta": {"content": call("look")}, "finish_reason": "stop"},
        usage={"total_tokens": 1},
    )
    assert [frame.get("usage") for frame in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["usage"] == {"total_tokens": 1}
    assert stream.chunk(usage={"total_tokens": 2}) == [
        {"id": "x", "choices": [], "usage": {"total_tokens": 2}}
    ]


def test_probabilities_of_tokens_come_once() -> None:
    stream = Stream()
    logprobs = {"content": [{"token": "a"}]}
    stream.chunk(
        {"index": 0, "delta": {"content": call("look")}, "logprobs": logprobs}
        | {"finish_reason": None}
    )
    told = [frame["choices"][0]["logprobs"] for frame in stream.frames]
    assert told == [logprobs, *[None] * (len(told) - 1)]
    assert len(told) > 1


def test_what_is_held_of_words_comes_at_the_end() -> None:
    stream = Stream()
    assert stream.delta('{"name": "lo') == []
    words, last = stream.last("length")
    assert words["delta"] == {"content": '{"name": "lo'}
    assert words["finish_reason"] is None
    assert last["finish_reason"] == "length"


def test_what_a_model_thinks_goes_on_by_itself() -> None:
    stream = Stream()
    (frame,) = stream.chunk(
        {"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}
    )
    assert frame["choices"][0]["delta"] == {"reasoning_content": "Hm."}


def test_a_stream_that_breaks_off_says_so() -> None:
    translation = CallsTold(OFFER, streams=True)
    assert translation.broken({"message": "gone"}) == b'data: {"error":{"message":"gone"}}\n\n'
    assert translation.end() == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "answer", [{}, {"choices": None}, {"choices": [1]}, {"choices": [{"message": None}]}]
)
def test_answers_that_are_none_raise_what_their_reader_expects(answer: Any) -> None:
    for told in (CallsTold(OFFER, streams=False).whole, CallsTold(OFFER, streams=True).chunk):
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError, IndexError)):
            told(answer)
