"""Anthropic's Messages API through a gateway: to its engines, every call is a chat."""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from modelry.routing.messages import Limits
from tests.support.data_plane import Plane, Replica
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HI: list[Any] = [{"role": "user", "content": "hi"}]
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
}
BASE = {"id": "chatcmpl-1", "created": 7, "model": "m"}
WHOLE = {
    **BASE,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Grüße"},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}


def frame(**fields: Any) -> str:
    return f"data: {json.dumps({**BASE, 'object': 'chat.completion.chunk', **fields})}\n\n"


def said(text: str) -> str:
    return frame(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


ROLE = frame(choices=[{"index": 0, "delta": {"role": "assistant", "content": None}}])
LAST = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
FRAMES = [ROLE, said("Grü"), said("ße"), LAST, frame(choices=[], usage=USAGE), "data: [DONE]\n\n"]


def asking(path: str, **fields: Any) -> dict[str, Any]:
    return {"model": path, "max_tokens": 9, "messages": HI, **fields}


def ask(plane: Plane, body: Any, key: str = "", path: str = MESSAGES) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, key or plane.owner_key, body))


def chats(replica: Replica) -> list[dict[str, Any]]:
    """What it was asked, every time at a chat's address."""
    for request in replica.requests:
        assert request["head"].startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    return [json.loads(request["body"].encode("latin-1")) for request in replica.requests]


def events(body: bytes) -> list[dict[str, Any]]:
    frames = body.decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(frame.partition("\ndata: ")[2]) for frame in frames]


@pytest.fixture
def claude(plane: Plane) -> Iterator[Anthropic]:
    options: Any = {"base_url": plane.gateway.url, "api_key": plane.owner_key}
    with Anthropic(**options, max_retries=0, timeout=15) as client:
        yield client


def service(plane: Plane, kind: str, **do: Any) -> tuple[str, Replica]:
    """A service of one fake engine. `kind`: how a gateway asks it for whole answers."""
    if kind == "elsewhere":
        replica = plane.replica(tcp=True, **do)
        return plane.service(endpoints=(plane.endpoint(replica, model="theirs"),)), replica
    replica = plane.replica(**do)
    return plane.service(replica, collect=kind == "collect"), replica


# -- whole answers -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "elsewhere", "collect"])
def test_a_message_is_a_chat_to_the_engine(plane: Plane, claude: Anthropic, kind: str) -> None:
    do = {"do": "stream", "frames": FRAMES} if kind == "collect" else {"text": json.dumps(WHOLE)}
    path, replica = service(plane, kind, **do)
    message = claude.messages.create(
        model=path, max_tokens=9, messages=HI, system="Be brief.", metadata={"user_id": "u"}
    )
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Grüße", "citations": None}
    ]
    assert message.stop_reason == ("max_tokens" if kind == "collect" else "end_turn")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 4)
    assert message.usage.output_tokens == 3
    assert message.model == (path if kind == "elsewhere" else "m")
    (asked,) = chats(replica)
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, *HI]
    assert asked["model"] == ("theirs" if kind == "elsewhere" else path)
    assert asked.get("stream") == (True if kind == "collect" else None)
    assert set(asked) <= {"model", "messages", "max_tokens", "stream", "stream_options"}


def test_keys_come_in_anthropic_s_header_too(plane: Plane) -> None:
    path, _ = service(plane, "plain", text=json.dumps(WHOLE))
    headers = (
        f"x-api-key: {plane.owner_key}",
        "anthropic-version: 2023-06-01",
        "anthropic-beta: a,b",
    )
    with plane.wire() as wire:
        assert wire.ask(post(MESSAGES, None, asking(path), headers)).status == 200


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 7}}]}', "no"]
)
@pytest.mark.parametrize("kind", ["plain", "elsewhere"])
def test_an_answer_that_is_none_is_an_error(plane: Plane, kind: str, text: str) -> None:
    path, _ = service(plane, kind, text=text)
    answer = ask(plane, asking(path))
    assert answer.status == 502
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


# -- streams -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "elsewhere", "collect"])
def test_a_stream_is_one_of_anthropic_s(plane: Plane, claude: Anthropic, kind: str) -> None:
    path, replica = service(plane, kind, do="stream", frames=FRAMES)
    with claude.messages.stream(model=path, max_tokens=9, messages=HI) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert texts == ["Grü", "ße"]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 4)
    assert message.model == (path if kind == "elsewhere" else "m")
    (asked,) = chats(replica)
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}


def test_a_stream_comes_as_it_is_made(plane: Plane) -> None:
    path, replica = service(plane, "plain", do="stream", frames=FRAMES, gated=True)
    with plane.wire() as wire:
        wire.send(post(MESSAGES, plane.owner_key, asking(path, stream=True)))
        replica.go()
        head = wire.head()
        assert head.headers["content-type"].startswith("text/event-stream")
        (start, ping) = events(wire.chunk())
        assert (start["type"], ping["type"]) == ("message_start", "ping")
        replica.go()
        assert [event["type"] for event in events(wire.chunk())] == [
            "content_block_start",
            "content_block_delta",
        ]


def test_an_endpoint_that_knows_no_streams_gives_one_anyway(
    plane: Plane, claude: Anthropic
) -> None:
    path, _ = service(plane, "elsewhere", text=json.dumps(WHOLE))
    with claude.messages.stream(model=path, max_tokens=9, messages=HI) as stream:
        assert stream.get_final_text() == "Grüße"


def test_many_streams_at_a_time_are_kept_apart(plane: Plane) -> None:
    replica = plane.replica(slots=64, do="stream", frames=FRAMES, pace_s=0.01)
    path = plane.service(replica)

    def stream(number: int) -> list[dict[str, Any]]:
        answer = ask(plane, asking(path, stream=True, max_tokens=number + 1))
        assert answer.status == 200
        return events(answer.body)

    with ThreadPoolExecutor(64) as pool:
        for found in pool.map(stream, range(64)):
            deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
            assert "".join(delta["text"] for delta in deltas) == "Grüße"
            assert [found[0]["type"], found[-1]["type"]] == ["message_start", "message_stop"]


# -- what goes wrong ---------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["plain", "elsewhere", "collect"])
def test_what_an_engine_refuses_is_anthropic_s_error(
    plane: Plane, claude: Anthropic, kind: str, streams: bool
) -> None:
    told = {
        "code": 400,
        "type": "exceed_context_size_error",
        "message": "5000 tokens exceed the context of 2048",
    }
    path, _ = service(plane, kind, status=400, text=json.dumps({"error": told}))
    with pytest.raises(anthropic.BadRequestError) as raised:
        claude.messages.create(model=path, max_tokens=9, messages=HI, stream=streams)
    body: Any = raised.value.body
    assert body["error"] == {"type": "invalid_request_error", "message": told["message"]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        ({"max_tokens": 1, "messages": HI}, "lacks 'model'"),
        ({"model": "m", "max_tokens": 1, "messages": [{"role": "x"}]}, "messages[0]"),
    ],
)
@pytest.mark.parametrize("path", [MESSAGES, COUNT])
def test_a_body_that_is_none_is_anthropic_s_error(
    plane: Plane, path: str, body: Any, says: str
) -> None:
    answer = ask(plane, body, path=path)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert says in answer.json()["error"]["message"]


def test_limits_are_anthropic_s_errors(plane: Plane) -> None:
    path, _ = service(plane, "plain", text=json.dumps(WHOLE))
    key = plane.key(limits=Limits(requests_per_minute=1))
    assert ask(plane, asking(path), key).status == 200
    refused = ask(plane, asking(path), key)
    assert (refused.status, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert refused.headers["retry-after"]


@pytest.mark.parametrize("streams", [False, True])
def test_a_replica_that_dies_before_the_answer_costs_the_caller_nothing(
    plane: Plane, streams: bool
) -> None:
    do: Any = {"do": "stream", "frames": FRAMES} if streams else {"text": json.dumps(WHOLE)}
    dying, well = plane.replica(die_after=0), plane.replica(**do)
    path = plane.service(dying, well)
    numbers = itertools.count()

    def met() -> bool:
        # Conversations of their own: one would stay where it was.
        messages = [{"role": "user", "content": f"hi {next(numbers)}"}]
        answer = ask(plane, asking(path, stream=streams, messages=messages))
        assert answer.status == 200
        assert "Gr" in answer.body.decode()
        return bool(dying.requests)

    wait_for(met, "the replica that dies to be asked")


def test_with_no_replica_left_it_is_anthropic_s_error(plane: Plane) -> None:
    path, _ = service(plane, "plain", die_after=0)
    answer = ask(plane, asking(path, stream=True))
    assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")


@pytest.mark.parametrize("die", ["exit", "close"])
def test_a_stream_whose_replica_dies_ends_with_an_error(
    plane: Plane, claude: Anthropic, die: str
) -> None:
    size = len("".join(FRAMES[:3]).encode()) + 20
    path, _ = service(plane, "plain", do="stream", frames=FRAMES, die_after=size, die=die)
    answer = ask(plane, asking(path, stream=True))
    *_, last = events(answer.body)
    assert last["type"] == "error"
    assert last["error"]["type"] == "api_error"
    assert last["request_id"] == answer.headers["x-request-id"]
    event = plane.event(answer)
    assert (event.endpoint, event.status, event.estimated) == ("messages", 502, True)


def test_the_library_raises_where_a_stream_breaks_off(plane: Plane, claude: Anthropic) -> None:
    size = len("".join(FRAMES[:3]).encode()) + 20
    path, _ = service(plane, "plain", do="stream", frames=FRAMES, die_after=size)
    with (
        pytest.raises(anthropic.APIStatusError, match="stopped before the answer was complete"),
        claude.messages.stream(model=path, max_tokens=9, messages=HI) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize("bad", ["data: no json\n\n", 'data: {"choices": 7}\n\n'])
def test_a_stream_that_is_none_ends_with_an_error(plane: Plane, bad: str) -> None:
    path, _ = service(plane, "plain", do="stream", frames=[ROLE, said("Grü"), bad, *FRAMES[2:]])
    found = events(ask(plane, asking(path, stream=True)).body)
    assert [event["type"] for event in found][-2:] == ["content_block_delta", "error"]


@pytest.mark.parametrize("kind", ["plain", "collect"])
def test_a_caller_who_hangs_up_frees_the_replica(plane: Plane, kind: str) -> None:
    path, replica = service(plane, kind, do="stream", frames=FRAMES, gated=True)
    with plane.wire() as wire:
        wire.send(post(MESSAGES, plane.owner_key, asking(path, stream=kind == "plain")))
        wait_for(lambda: replica.requests, "the request to arrive")
        replica.go()
        if kind == "plain":
            wire.head()
            wire.chunk()
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the replica to be hung up on")


def test_a_long_answer_of_an_engine_is_whole_all_the_same(plane: Plane) -> None:
    begins, ends = json.dumps(WHOLE).split("Gr\\u00fc\\u00dfe")
    size = 5 * 1024 * 1024
    length = len(begins) + size + len(ends)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    letters = {"text": "x" * 1024, "times": size // 1024}
    path, _ = service(plane, "plain", do="raw", pieces=[head, begins, letters, ends], end="next")
    answer = ask(plane, asking(path))
    assert answer.json()["content"][0]["text"] == "x" * size


# -- usage -------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", ["plain", "elsewhere", "collect"])
def test_a_message_is_metered_under_its_own_name(plane: Plane, kind: str, streams: bool) -> None:
    do: Any = {"text": json.dumps(WHOLE)}
    if streams or kind == "collect":
        do = {"do": "stream", "frames": FRAMES}
    path, _ = service(plane, kind, **do)
    event = plane.event(ask(plane, asking(path, stream=streams)))
    assert (event.endpoint, event.stream, event.status) == ("messages", streams, 200)
    assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == (11, 3, 4)
    assert not event.estimated


# -- counting ----------------------------------------------------------------


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_tokens_of_a_conversation_are_counted(plane: Plane, claude: Anthropic, engine: str) -> None:
    path = plane.service(plane.replica(do="tokens"), dialect=engine)
    counted = claude.messages.count_tokens(model=path, messages=HI, system="Be brief.")
    # The fake's template, and what llama.cpp puts before it.
    prompt = "<system>Be brief.<user>hi"
    assert counted.input_tokens == len(prompt) + (engine == "llama.cpp")


def test_a_count_is_metered_and_limited_as_a_call_without_tokens(plane: Plane) -> None:
    path = plane.service(plane.replica(do="tokens"), dialect="vllm")
    key = plane.key(limits=Limits(requests_per_minute=1, tokens_per_minute=1))
    body = {"model": path, "messages": HI}
    event = plane.event(ask(plane, body, key, COUNT))
    assert (event.endpoint, event.status, event.estimated) == (
        "messages/count_tokens",
        200,
        False,
    )
    assert (event.prompt_tokens, event.completion_tokens) == (0, 0)
    assert ask(plane, body, key, COUNT).status == 429


def test_images_are_not_counted(plane: Plane) -> None:
    path = plane.service(plane.replica(do="tokens"), dialect="vllm", images=True)
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    turns = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    answer = ask(plane, {"model": path, "messages": turns}, path=COUNT)
    assert answer.status == 400
    assert "tokens of an image" in answer.json()["error"]["message"]


def test_an_engine_s_answer_that_is_none_is_an_error(plane: Plane) -> None:
    path = plane.service(plane.replica(text='{"tokens": 7}'), dialect="vllm")
    answer = ask(plane, {"model": path, "messages": HI}, path=COUNT)
    assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")


def test_half_a_count_is_none(plane: Plane) -> None:
    path = plane.service(plane.replica(do="tokens", die_after=5), dialect="vllm")
    assert ask(plane, {"model": path, "messages": HI}, path=COUNT).status == 502


# -- what endpoints elsewhere may answer -------------------------------------


def raw(plane: Plane, content_type: str, body: str, *, chunked: bool = False) -> str:
    """A service on an endpoint that answers so, whatever it was asked for."""
    size = f"{len(body.encode()):x}\r\n"
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body.encode())}"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n"
    pieces = [head, size, body, "\r\n0\r\n\r\n"] if chunked else [head, body]
    replica = plane.replica(tcp=True, do="raw", pieces=pieces)
    return plane.service(endpoints=(plane.endpoint(replica),))


def test_a_stream_of_a_whole_answer_has_one_content_type(plane: Plane) -> None:
    path = raw(plane, "application/json; charset=utf-8", json.dumps(WHOLE))
    with plane.wire() as wire:
        wire.send(post(MESSAGES, plane.owner_key, asking(path, stream=True)))
        head = wire.until(b"\r\n\r\n")
    assert head.lower().count(b"content-type:") == 1
    assert b"\r\ncontent-type: text/event-stream" in head


@pytest.mark.parametrize("api", [MESSAGES, "/v1/responses"])
@pytest.mark.parametrize(
    ("content_type", "stream"),
    [("text/html", False), ("text/html", True), ("text/event-stream", False)],
)
def test_what_is_no_answer_to_a_chat_is_none_to_its_caller(
    plane: Plane, api: str, content_type: str, stream: bool
) -> None:
    body = "".join(FRAMES) if content_type == "text/event-stream" else "<p>Please sign in</p>"
    path = raw(plane, content_type, body, chunked=True)
    fields = {"model": path, "max_output_tokens": 9, "input": "hi", "stream": stream}
    body_of = asking(path, stream=stream) if api == MESSAGES else fields
    answer = ask(plane, body_of, path=api)
    assert answer.status == 502
    assert answer.headers["content-type"] == "application/json"
    assert plane.event(answer).status == 502
