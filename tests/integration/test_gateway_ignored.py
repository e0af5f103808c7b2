"""What a call asks for and does not get is told, whole and streamed; a strict key's is refused."""

import json
from typing import Any

import pytest

from tests.support.data_plane import Plane
from tests.support.wire import Answer, post

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
FRAMES = [
    'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": '
    '{"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}\n\n',
    "data: [DONE]\n\n",
]
WHOLE = json.dumps(
    {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)
TOLD = "x-modelry-ignored"


def ask(plane: Plane, path: str, key: str = "", **body: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, key or plane.owner_key, body))


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_names_what_had_no_effect(plane: Plane, collect: bool, stream: bool) -> None:
    streams = stream or collect
    replica = plane.replica(
        **({"do": "stream", "frames": FRAMES} if streams else {"do": "answer", "text": WHOLE})
    )
    model = plane.service(replica, dialect="llama.cpp", collect=collect)
    answer = ask(plane, CHAT, model=model, messages=HI, stream=stream, temprature=1, store=True)
    assert answer.status == 200
    assert answer.headers[TOLD] == "temprature,store"
    # It is passed on all the same: a newer engine may know it.
    assert '"temprature"' in replica.requests[0]["body"]
    plain = ask(plane, CHAT, model=model, messages=HI, stream=stream, temperature=1, store=False)
    assert plain.status == 200
    assert TOLD not in plain.headers


def test_of_an_endpoint_elsewhere_nothing_is_told(plane: Plane) -> None:
    replica = plane.replica(tcp=True, do="answer", text=WHOLE)
    model = plane.service(endpoints=(plane.endpoint(replica),))
    answer = ask(plane, CHAT, model=model, messages=HI, temprature=1)
    assert (answer.status, answer.headers.get(TOLD)) == (200, None)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/responses", {"input": "hi", "seed": 3}, "seed"),
        ("/v1/messages", {"max_tokens": 5, "messages": HI, "speed": "fast"}, "speed"),
    ],
)
def test_the_other_apis_tell_it_too(
    plane: Plane, path: str, body: dict[str, Any], told: str
) -> None:
    model = plane.service(plane.replica(do="answer", text=WHOLE), dialect="vllm")
    answer = ask(plane, path, model=model, **body)
    assert (answer.status, answer.headers[TOLD]) == (200, told)
    strict = ask(plane, path, plane.key(strict=True), model=model, **body)
    assert strict.status == 400
    assert told in strict.json()["error"]["message"]


def test_a_strict_key_s_call_is_refused_before_anybody_works(plane: Plane) -> None:
    replica = plane.replica(do="answer", text=WHOLE)
    model = plane.service(replica, dialect="llama.cpp")
    key = plane.key(strict=True)
    answer = ask(plane, CHAT, key, model=model, messages=HI, temprature=1, audio={})
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (400, "unsupported_parameter")
    assert error["param"] == "temprature"
    assert "temprature, audio" in error["message"]
    assert replica.requests == []
    assert ask(plane, CHAT, key, model=model, messages=HI, user="me").status == 200
    plane.change_key(key, strict=False)
    assert ask(plane, CHAT, key, model=model, messages=HI, temprature=1).status == 200
