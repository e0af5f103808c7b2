"""What llama.cpp answers, in OpenAI's shapes: chunks as the engine sends them, held against the
types of OpenAI's library, whole and streamed.
"""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from modelry.gateway.body import Head, read
from modelry.gateway.collector import Collector
from modelry.gateway.llama_answers import LlamaAnswers, asks
from modelry.gateway.llama_stream import LlamaStream
from tests.support.strict import strict

Json = dict[str, Any]

CHAT, COMPLETION = b"/v1/chat/completions", b"/v1/completions"
TIMINGS = {"cache_n": 0, "prompt_ms": 1.5}
DONE = b"data: [DONE]\n\n"
# OpenAI departs from its type: a completion's stream has no reason to finish before its end.
NO_REASON = "choices[0].finish_reason: None is none of"


def chunk(choice: Json | None, **more: Any) -> Json:
    choices = [] if choice is None else [{"finish_reason": None, "index": 0, **choice}]
    return {
        "choices": choices,
        "created": 7,
        "id": "chatcmpl-1",
        "model": "u-1/x",
        "system_fingerprint": "b0",
        "object": "chat.completion.chunk",
        **more,
    }


def usage(completion: int, prompt: int = 33, cached: int = 32) -> Json:
    return {
        "completion_tokens": completion,
        "prompt_tokens": prompt,
        "total_tokens": completion + prompt,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def token(text: str, logprob: float, *likely: str, data: list[int] | None = None) -> Json:
    top = [{"id": 4, "token": each, "bytes": [1], "logprob": -9.5} for each in likely]
    told = {"id": 3, "token": text, "bytes": data or list(text.encode()), "logprob": logprob}
    return {**told, "top_logprobs": top}


def probabilities(*tokens: Json) -> Json:
    return {"content": list(tokens)}


def role(index: int = 0) -> Json:
    return chunk({"index": index, "delta": {"role": "assistant", "content": None}})


def word(text: str, index: int = 0, **more: Any) -> Json:
    return chunk({"index": index, "delta": {"content": text}, **more})


def last(index: int = 0) -> Json:
    return chunk({"index": index, "delta": {}, "finish_reason": "length"})


def told(completion: int, **more: Any) -> Json:
    return chunk(None, usage=usage(completion, **more), timings=TIMINGS)


def piece(text: str, index: int = 0, **more: Any) -> Json:
    choice = {"text": text, "index": index, "logprobs": None, **more}
    return chunk(choice, object="text_completion")


def end_of_completion(completion: int, index: int = 0, **more: Any) -> Json:
    return {
        **piece("", index, finish_reason="length"),
        "usage": usage(completion, **more),
        "timings": TIMINGS,
    }


ANSWER = [role(), word("Hel"), word("lo"), last(), told(2)]
ONCE = [piece("on"), piece("ce"), end_of_completion(2, prompt=1, cached=0)]


def written(chunks: list[Json]) -> bytes:
    frames = [f"data: {json.dumps(each, separators=(',', ':'))}\n\n" for each in chunks]
    return "".join(frames).encode() + DONE


def whole(path: bytes, chunks: list[Json], **asked: Any) -> Json:
    collector = Collector(LlamaAnswers(path, Head(**asked), streams=False))
    collector.feed(written(chunks))
    answer: Json = json.loads(collector.answer())
    return answer


def streamed(
    path: bytes, data: bytes, pieces: list[bytes] | None = None, *, hide: bool = False, **asked: Any
) -> tuple[LlamaStream, bytes]:
    stream = LlamaStream(LlamaAnswers(path, Head(**asked), streams=True), hide_usage=hide)
    out = b"".join([*map(stream.feed, pieces or [data]), stream.end()])
    return stream, out


def shown(out: bytes) -> list[Json]:
    assert out.endswith(DONE)
    return [json.loads(frame[6:]) for frame in out.removesuffix(DONE).split(b"\n\n")[:-1]]


# -- chats -----------------------------------------------------------------------------


def test_a_whole_chat_is_what_openai_declares() -> None:
    answer = whole(CHAT, ANSWER)
    assert strict(ChatCompletion, answer) == []
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"] == usage(2)


def test_a_stream_of_a_chat_is_what_openai_declares() -> None:
    stream, out = streamed(CHAT, written(ANSWER))
    chunks = shown(out)
    assert [strict(ChatCompletionChunk, each) for each in chunks] == [[]] * 5
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["usage"] == usage(2)
    assert stream.usage is not None
    assert (stream.usage.completion_tokens, stream.usage.cached_tokens) == (2, 32)
    assert (stream.frames, stream.done) == (4, True)


def test_what_needs_nothing_goes_on_byte_for_byte() -> None:
    stream = LlamaStream(LlamaAnswers(CHAT, Head(), streams=True), hide_usage=True)
    stream.feed(written([role()]).removesuffix(DONE))
    for text in ("a", '"content":null', '"error":{', '"usage":1', "data: null"):
        frame = written([word(text)]).removesuffix(DONE)
        assert stream.feed(frame) is frame
        assert stream.alone


def test_a_chat_begins_with_its_role_also_where_the_engine_does_not() -> None:
    stream = LlamaStream(LlamaAnswers(CHAT, Head(), streams=True), hide_usage=True)
    said = shown(stream.feed(written([word("🌟"), word("Hi")])))
    deltas = [each["choices"][0]["delta"] for each in said]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "🌟"}, {"content": "Hi"}]


@pytest.mark.parametrize("asked", [True, False])
def test_who_asks_for_the_engine_s_timings_gets_them(asked: bool) -> None:
    chunks = [role(), {**word("a"), "timings": TIMINGS}, last(), told(1)]
    assert ("timings" in whole(CHAT, chunks, timings_per_token=asked)) is asked
    _, out = streamed(CHAT, written(chunks), timings_per_token=asked)
    assert ["timings" in each for each in shown(out)] == [False, asked, False, asked]


def test_a_caller_who_did_not_ask_is_not_told_of_usage() -> None:
    stream, out = streamed(CHAT, written(ANSWER), hide=True)
    assert len(shown(out)) == 4
    assert b"usage" not in out
    assert stream.usage is not None


def test_an_answer_of_tool_calls_alone_has_no_text() -> None:
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    answer = whole(CHAT, [role(), chunk({"delta": {"tool_calls": [call]}}), last(), told(2)])
    assert strict(ChatCompletion, answer) == []
    assert answer["choices"][0]["message"]["content"] is None


def test_log_probabilities_have_no_ids_and_as_many_others_as_were_asked_for() -> None:
    logged = word("a", logprobs=probabilities(token("a", -0.5, "a", "b", "c")))
    chunks = [role(), logged, last(), told(1)]
    answer = whole(CHAT, chunks, logprobs=True, top_logprobs=2)
    assert strict(ChatCompletion, answer) == []
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    assert [each["token"] for each in entry["top_logprobs"]] == ["a", "b"]
    _, out = streamed(CHAT, written(chunks), logprobs=True)
    assert [strict(ChatCompletionChunk, each) for each in shown(out)] == [[]] * 4
    assert shown(out)[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_probabilities_after_sampling_which_openai_does_not_have_stay_as_they_are() -> None:
    entry = {"id": 3, "token": "a", "bytes": [97], "prob": 0.5, "top_probs": []}
    answer = whole(CHAT, [word("a", logprobs={"content": [entry]}), last()], logprobs=True)
    assert answer["choices"][0]["logprobs"] == {"content": [entry]}


# -- completions -----------------------------------------------------------------------


def test_a_whole_completion_is_what_openai_declares() -> None:
    answer = whole(COMPLETION, ONCE)
    assert strict(Completion, answer) == []
    assert (answer["id"], answer["choices"][0]["text"]) == ("cmpl-1", "once")


def test_a_stream_of_a_completion_tells_its_usage_at_last() -> None:
    stream, out = streamed(COMPLETION, written(ONCE))
    *chunks, told = shown(out)
    assert {each["id"] for each in [*chunks, told]} == {"cmpl-1"}
    problems = [problem for each in [*chunks, told] for problem in strict(Completion, each)]
    assert [problem for problem in problems if not problem.startswith(NO_REASON)] == []
    assert (told["choices"], told["usage"]) == ([], usage(2, 1, 0))
    assert [each.get("usage") for each in chunks] == [None] * 3
    assert stream.frames == 3
    _, hidden = streamed(COMPLETION, written(ONCE), hide=True)
    assert shown(hidden) == chunks


def test_the_null_that_opens_a_list_of_prompts_goes_no_further() -> None:
    _, out = streamed(COMPLETION, b"data: null\n\n" + written(ONCE))
    assert len(shown(out)) == 4


def test_log_probabilities_of_a_completion_come_as_lists() -> None:
    chunks = [
        piece("on", logprobs=probabilities(token("on", -0.5, "on", "in"))),
        piece("🙂", logprobs=probabilities(token("", -1.5, "a", "b", data=[0xF0, 0x9F]))),
        piece("ce", logprobs=probabilities(token("ce", -2.5, "se", "a"))),
        end_of_completion(3),
    ]
    wanted = {
        "tokens": ["on", "bytes:\\xf0\\x9f", "ce"],
        "token_logprobs": [-0.5, -1.5, -2.5],
        "top_logprobs": [
            {"on": -0.5},
            {"a": -9.5, "bytes:\\xf0\\x9f": -1.5},
            {"se": -9.5, "ce": -2.5},
        ],
        "text_offset": [0, 2, 2],
    }
    answer = whole(COMPLETION, chunks, logprobs=1)
    assert strict(Completion, answer) == []
    assert answer["choices"][0]["logprobs"] == wanted
    _, out = streamed(COMPLETION, written(chunks), logprobs=1)
    pieces = [each["choices"][0]["logprobs"] for each in shown(out)[:3]]
    assert {name: [each[name][0] for each in pieces] for name in wanted} == wanted


# -- several answers -------------------------------------------------------------------


@pytest.mark.parametrize("hide", [False, True])
def test_the_usage_of_several_answers_is_that_of_all(hide: bool) -> None:
    chunks = [role(), role(1), last(1), told(3), word("b"), last(), told(4)]
    wanted = usage(7)
    assert whole(CHAT, chunks, n=2)["usage"] == wanted
    stream, out = streamed(CHAT, written(chunks), n=2, hide=hide)
    assert [each["usage"] for each in shown(out) if "usage" in each] == ([] if hide else [wanted])
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.completion_tokens) == (33, 7)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_several_answers_begin_in_their_order_whichever_the_engine_begins_with(first: int) -> None:
    order = [(first + step) % 3 for step in range(3)]
    words = [word(f"{index}", index) for index in order]
    ends = [each for index in order for each in (last(index), told(1))]
    begins = [role(index) for index in order]
    # One has said a word before another has begun.
    sent = [begins[0], words[0], begins[1], begins[2], *words[1:], *ends]
    _, passed = streamed(CHAT, written(sent), n=3)
    choices = [choice for each in shown(passed) for choice in each["choices"]]
    assert [each["index"] for each in choices[:3]] == [0, 1, 2]
    assert [each["delta"] for each in choices[:3]] == [{"role": "assistant", "content": ""}] * 3
    assert [each["delta"].get("content") for each in choices[3:6]] == [str(each) for each in order]
    assert [each["index"] for each in choices[3:6]] == order
    assert len(choices) == 9
    assert not [problem for each in shown(passed) for problem in strict(ChatCompletionChunk, each)]


def test_each_prompt_of_a_list_counts_once_however_many_answers_it_gets() -> None:
    prompts = read(b'{"model": "x", "prompt": ["a", "bc"]}').prompt
    ends = [
        end_of_completion(tokens, index, prompt=1 + index // 2, cached=0)
        for index, tokens in enumerate([2, 3, 4, 5])
    ]
    answer = whole(COMPLETION, ends, n=2, prompt=prompts)
    assert answer["usage"] == usage(14, 3, 0)


def test_of_a_stream_that_ends_before_all_have_told_what_is_known_is_told() -> None:
    stream, out = streamed(CHAT, written([role(), last(), told(3)]), n=2)
    assert shown(out)[-1]["usage"] == usage(3)
    assert stream.usage is not None


def test_what_one_of_several_told_is_no_usage_before_the_end() -> None:
    data = written([role(), last(), told(3)]).removesuffix(DONE)
    stream, out = streamed(CHAT, data, n=2)
    assert stream.usage is None
    assert b"usage" not in out


# -- what goes wrong -------------------------------------------------------------------


def test_an_error_within_a_stream_has_openais_shape() -> None:
    problem = {"code": 500, "message": "Compute error.", "type": "server_error"}
    data = written([role(), {"error": problem}])
    stream, out = streamed(CHAT, data)
    assert stream.refused is None
    assert shown(out)[1]["error"] == {
        "message": "Compute error.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }


def test_an_error_that_begins_a_stream_is_kept_to_refuse_the_call() -> None:
    stream, out = streamed(COMPLETION, b"data: null\n\n" + written([{"error": {"code": 400}}]))
    assert stream.refused == {"code": 400}
    assert out == DONE


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices": 3, "usage": 1}\n\n',
        b'data: {"usage": broken\n\n',
        b'data: ["usage"]\n\n',
        b'event: x\ndata: {"usage": null}\n\n',
        b": ping\n\n",
    ],
)
def test_what_is_no_chunk_goes_on_as_it_came(frame: bytes) -> None:
    _, out = streamed(CHAT, frame)
    assert out == frame


@given(
    places=st.lists(st.integers(0, 4000), max_size=8),
    path=st.sampled_from([CHAT, COMPLETION]),
    hide=st.booleans(),
)
def test_it_does_not_matter_where_the_bytes_are_cut(
    places: list[int], path: bytes, hide: bool
) -> None:
    data = written(ANSWER if path == CHAT else ONCE)
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    stream, out = streamed(path, data, pieces, hide=hide)
    plain, wanted = streamed(path, data, hide=hide)
    assert shown(out) == shown(wanted)
    assert (stream.usage, stream.frames, stream.done) == (plain.usage, plain.frames, plain.done)


def test_chunks_on_the_short_way_get_a_completion_s_id() -> None:
    sent: list[bytes] = []
    frame = written([piece("once")]).removesuffix(DONE)
    stream = LlamaStream(LlamaAnswers(COMPLETION, Head(), streams=True), hide_usage=True)
    passed = stream.feed(frame)
    assert stream.alone
    stream.writes(sent.append)(b"%x\r\n%b\r\n" % (len(frame), frame))
    assert sent == [b"%x\r\n%b\r\n" % (len(passed), passed)]
    chat = LlamaStream(LlamaAnswers(CHAT, Head(), streams=True), hide_usage=True)
    assert chat.writes(sent.append) == sent.append


# -- what the engine is asked ----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked", "more"),
    [
        (CHAT, {}, {}),
        (CHAT, {"logprobs": False}, {}),
        (CHAT, {"logprobs": True}, {"top_logprobs": 1}),
        (CHAT, {"logprobs": True, "top_logprobs": 0}, {"top_logprobs": 1}),
        (CHAT, {"logprobs": True, "top_logprobs": 3}, {}),
        (COMPLETION, {}, {}),
        (COMPLETION, {"logprobs": 0}, {"logprobs": 1}),
        (COMPLETION, {"logprobs": 2}, {}),
        (COMPLETION, {"logprobs": False}, {}),
    ],
)
def test_log_probabilities_are_asked_for_in_the_engine_s_way(
    path: bytes, asked: Json, more: Json
) -> None:
    assert asks(path, Head(**asked)) == more
