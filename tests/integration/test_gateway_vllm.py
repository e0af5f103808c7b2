"""What vLLM answers, as callers get it."""

import json
from typing import Any

import pytest

from tests.support.data_plane import Plane
from tests.support.wire import post

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
SAID = 'It says "reasoning": that is text.'


def chunk(**delta: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    told = {"object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(told, separators=(',', ':'))}\n\n"


def test_what_a_model_thinks_in_a_stream_has_the_name_that_callers_know(plane: Plane) -> None:
    thoughts = [chunk(reasoning=f"thought {at}") for at in range(4)]
    frames = [chunk(role="assistant", content=""), *thoughts, chunk(content=SAID)]
    replica = plane.replica(do="stream", frames=[*frames, "data: [DONE]\n\n"])
    model = plane.service(replica, dialect="vllm")
    with plane.wire() as wire:
        body = {"model": model, "messages": HI, "stream": True}
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    told = [
        json.loads(each[6:])
        for each in answer.body.decode().split("\n\n")
        if each.startswith("data: {")
    ]
    deltas = [each["choices"][0]["delta"] for each in told]
    assert [each["reasoning_content"] for each in deltas[1:5]] == [
        f"thought {at}" for at in range(4)
    ]
    assert deltas[5] == {"content": SAID}
    assert not any("reasoning" in each for each in deltas)


@pytest.mark.parametrize(("dialect", "name"), [("vllm", "reasoning_content"), ("", "reasoning")])
def test_so_has_it_in_a_whole_answer(plane: Plane, dialect: str, name: str) -> None:
    message = {"role": "assistant", "content": SAID, "reasoning": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    text = json.dumps({"choices": [choice]}, separators=(",", ":"))
    model = plane.service(plane.replica(do="answer", text=text), dialect=dialect)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, {"model": model, "messages": HI}))
    assert answer.json()["choices"][0]["message"] == {
        "role": "assistant",
        "content": SAID,
        name: "hm",
    }
