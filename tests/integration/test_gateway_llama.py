"""Chats and completions of llama.cpp, as its frames go through a gateway: in OpenAI's shapes."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.support.data_plane import Plane
from tests.support.strict import strict
from tests.support.wire import Answer, post

Json = dict[str, Any]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
DONE = "data: [DONE]\n\n"
MESSAGES = [{"role": "user", "content": "hi"}]
# Documented beyond OpenAI's types: what a reasoning model thinks, apart from its answer.
REASONING = frozenset({"choices[].message.reasoning_content", "choices[].delta.reasoning_content"})


def frame(choice: Json | None, kind: str = "chat.completion.chunk", **more: Any) -> str:
    choices = [] if choice is None else [{"finish_reason": None, "index": 0, **choice}]
    said = {"choices": choices, "created": 7, "id": "chatcmpl-1", "model": "m", "object": kind}
    return f"data: {json.dumps({**said, **more}, separators=(',', ':'))}\n\n"


def delta(index: int = 0, reason: str | None = None, **parts: Any) -> str:
    return frame({"index": index, "delta": parts, "finish_reason": reason})


def text(said: str, **more: Any) -> str:
    return frame(
        {"text": said, "logprobs": None, **more.pop("choice", {})}, "text_completion", **more
    )


def usage(completion: int) -> Json:
    numbers = {"prompt_tokens": 5, "completion_tokens": completion}
    return {
        **numbers,
        "total_tokens": 5 + completion,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


ROLE = delta(role="assistant", content=None)
TOLD = frame(None, usage=usage(3), timings={"cache_n": 4})
WORDS = [delta(content=f"{number:02}") for number in range(20)]
TEXTS = [text(f"{number:02}") for number in range(20)]
LAST = text("", choice={"finish_reason": "length"}, usage=usage(20), timings={})


def call(plane: Plane, path: str, frames: list[str], **fields: Any) -> tuple[Answer, Json]:
    """The answer, and what the engine was asked."""
    replica = plane.replica(do="stream", frames=[*frames, DONE])
    service = plane.service(replica, collect=True)
    prompt = {"messages": MESSAGES} if path == CHAT else {"prompt": "a"}
    with plane.wire() as wire:
        answer = wire.ask(post(path, plane.owner_key, {"model": service, **prompt, **fields}))
    return answer, json.loads(replica.requests[0]["body"])


def chunks(answer: Answer) -> list[Json]:
    *frames, done, rest = answer.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(each.removeprefix("data: ")) for each in frames]


@pytest.mark.parametrize("asks", [True, False])
def test_a_stream_of_a_chat_is_what_openai_declares(plane: Plane, asks: bool) -> None:
    frames = [ROLE, *WORDS, delta(reason="stop"), TOLD]
    options = {"include_usage": asks}
    answer, _ = call(plane, CHAT, frames, stream=True, stream_options=options)
    came = chunks(answer)
    assert [problem for each in came for problem in strict(ChatCompletionChunk, each)] == []
    assert came[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["usage"] for each in came if "usage" in each] == ([usage(3)] if asks else [])
    # The rest is as the engine said it.
    assert "".join(WORDS) in answer.body.decode()
    event = plane.event(answer)
    assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == (5, 3, 4)
    assert not event.estimated


def test_a_stream_of_a_completion_gets_its_id_in_every_frame(plane: Plane) -> None:
    """Also in those that go the short way."""
    answer, _ = call(plane, COMPLETIONS, ["data: null\n\n", *TEXTS, LAST], stream=True)
    came = chunks(answer)
    assert [each["choices"][0]["text"] for each in came] == [f"{n:02}" for n in range(20)] + [""]
    assert {each["id"] for each in came} == {"cmpl-1"}
    assert not [each for each in came if "usage" in each or "timings" in each]
    assert plane.event(answer).completion_tokens == 20


def test_a_whole_completion_is_what_openai_declares(plane: Plane) -> None:
    answer, _ = call(plane, COMPLETIONS, [*TEXTS, LAST])
    assert strict(Completion, answer.json()) == []
    assert answer.json()["usage"] == usage(20)


@pytest.mark.parametrize("stream", [True, False])
def test_caller_and_meter_are_told_of_all_answers(plane: Plane, stream: bool) -> None:
    told = [frame(None, usage=usage(number), timings={}) for number in (3, 4)]
    frames = [ROLE, delta(1, content="b"), delta(reason="stop"), told[0], delta(1, "stop"), told[1]]
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer, _ = call(plane, CHAT, frames, n=2, **options)
    said = chunks(answer)[-1] if stream else answer.json()
    assert said["usage"] == usage(7)
    event = plane.event(answer)
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (5, 7, False)


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_stands_apart_from_the_answer(plane: Plane, stream: bool) -> None:
    """No embedded model reasons: these are the frames that llama.cpp sends of one that does."""
    thoughts = [delta(reasoning_content="Let me "), delta(reasoning_content="see.")]
    frames = [ROLE, *thoughts, delta(content="Four."), delta(reason="stop"), TOLD]
    answer, _ = call(plane, CHAT, frames, stream=stream)
    if stream:
        came = chunks(answer)
        problems = [
            problem
            for each in came
            for problem in strict(ChatCompletionChunk, each, allow=REASONING)
        ]
        assert problems == []
        assert "".join(thoughts) in answer.body.decode()
    else:
        assert strict(ChatCompletion, answer.json(), allow=REASONING) == []
        message = answer.json()["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Let me see.", "Four.")


@pytest.mark.parametrize("stream", [True, False])
def test_the_engine_is_asked_for_probabilities_in_its_own_way(plane: Plane, stream: bool) -> None:
    _, asked = call(plane, CHAT, [ROLE, TOLD], stream=stream, logprobs=True)
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 1)
    _, asked = call(plane, COMPLETIONS, [*TEXTS, LAST], stream=stream, logprobs=0)
    assert asked["logprobs"] == 1
    _, asked = call(plane, CHAT, [ROLE, TOLD], stream=stream, logprobs=True, top_logprobs=5)
    assert asked["top_logprobs"] == 5


def test_an_error_within_a_stream_has_openais_shape(plane: Plane) -> None:
    problem = {"code": 500, "message": "Compute error.", "type": "server_error"}
    frames = [ROLE, f"data: {json.dumps({'error': problem}, separators=(',', ':'))}\n\n"]
    answer, _ = call(plane, CHAT, frames, stream=True)
    error = json.loads(answer.body.decode().split("\n\n")[1].removeprefix("data: "))["error"]
    assert error == {
        "message": "Compute error.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }


@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_that_begins_with_a_refusal_is_one(plane: Plane, stream: bool) -> None:
    """llama.cpp begins that of a list of prompts before it has looked at them."""
    message = "request (40 tokens) exceeds the available context size (10 tokens), try increasing"
    problem = {"code": 400, "message": message, "type": "exceed_context_size_error"}
    frames = [
        "data: null\n\n",
        f"data: {json.dumps({'error': problem}, separators=(',', ':'))}\n\n",
    ]
    answer, _ = call(plane, COMPLETIONS, frames, stream=stream)
    assert (answer.status, answer.code) == (400, "context_length_exceeded")
    assert answer.json()["error"]["param"] == "prompt"
    event = plane.event(answer)
    assert (event.status, event.completion_tokens, event.estimated) == (400, 0, False)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("collect", [True, False])
@pytest.mark.parametrize(("path", "param"), [(CHAT, "messages"), (COMPLETIONS, "prompt")])
def test_a_prompt_beyond_the_context_is_a_400_with_both_numbers(
    plane: Plane, path: str, param: str, collect: bool, stream: bool
) -> None:
    """As llama.cpp says it, and as vLLM does."""
    llama = "request (40 tokens) exceeds the available context size (10 tokens), try increasing it"
    vllm = "This model's maximum context length is 10 tokens. However, your prompt has 40."
    error: Json = {"code": 400, "message": llama if collect else vllm, "param": "input_tokens"}
    if collect:
        error = {**error, "type": "exceed_context_size_error", "n_ctx": 10, "n_prompt_tokens": 40}
    replica = plane.replica(status=400, text=json.dumps({"error": error}))
    service = plane.service(replica, collect=collect)
    body = {"model": service, "messages": MESSAGES, "prompt": "a", "stream": stream}
    with plane.wire() as wire:
        answer = wire.ask(post(path, plane.owner_key, body))
    said = answer.json()["error"]
    assert answer.status == 400
    assert "10 tokens" in said["message"]
    assert "40" in said.pop("message")
    assert said == {
        "type": "invalid_request_error",
        "param": param,
        "code": "context_length_exceeded",
    }


def test_what_the_engine_calls_its_own_fault_may_be_the_caller_s(plane: Plane) -> None:
    error = {"code": 500, "message": "Error: Jinja Exception: roles must alternate"}
    service = plane.service(plane.replica(status=500, text=json.dumps({"error": error})))
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, {"model": service, "messages": MESSAGES}))
    said = answer.json()["error"]
    assert (answer.status, said["param"]) == (400, "messages")
    assert said["message"].endswith("roles must alternate")


def test_what_is_no_chat_never_reaches_the_engine(plane: Plane) -> None:
    replica = plane.replica()
    body = {"model": plane.service(replica, collect=True), "messages": []}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    assert (answer.status, answer.json()["error"]["param"]) == (400, "messages")
    assert replica.requests == []
