"""`/v1/responses` through a real gateway: calls are chats to replicas, and are kept."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.data_plane import STRANGER, Plane, Replica
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, post
from tests.support.wire import get as bodiless

RESPONSES = "/v1/responses"
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 4},
}
Json = dict[str, Any]


def whole(text: str | None = "Hello.", finish: str = "stop", **message: Any) -> Json:
    """A replica's order to answer a chat with this."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    answer = {"object": "chat.completion", "model": "x", "choices": [choice], "usage": USAGE}
    return {"do": "answer", "text": json.dumps(answer)}


def frame(delta: Json, finish: str | None = None) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"object": "chat.completion.chunk", "model": "x", "choices": choices}
    return f"data: {json.dumps(chunk)}\n\n"


FRAMES = [
    frame({"role": "assistant", "content": None}),
    frame({"content": "Hel"}),
    frame({"content": "lo."}),
    frame({}, "stop"),
    f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n",
    "data: [DONE]\n\n",
]
STREAM: Json = {"do": "stream", "frames": FRAMES}


def asked(replica: Replica, at: int = -1) -> Json:
    body: Json = json.loads(replica.requests[at]["body"])
    return body


def ask(plane: Plane, model: str, key: str = "", **body: Any) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(RESPONSES, key or plane.owner_key, {"model": model, **body}))


def get(plane: Plane, path: str, key: str = "", method: str = "GET") -> Answer:
    with plane.wire() as wire:
        data = bodiless(f"{RESPONSES}/{path}", key or plane.owner_key)
        return wire.ask(method.encode() + data.removeprefix(b"GET"))


def events(answer: Answer) -> list[Json]:
    found: list[Json] = []
    for text in answer.body.decode().split("\n\n")[:-1]:
        name, data = text.split("\n")
        event: Json = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        found.append(event)
    return found


@pytest.mark.parametrize("collect", [False, True])
def test_a_call_is_a_chat_to_the_replica_and_a_response_to_its_caller(
    plane: Plane, collect: bool
) -> None:
    replica = plane.replica(**(STREAM if collect else whole()))
    path = plane.service(replica, collect=collect)
    answer = ask(plane, path, input="Say hello", instructions="Be brief.", max_output_tokens=9)
    assert answer.status == 200, answer.body
    told = answer.json()
    assert (told["status"], told["model"]) == ("completed", path)
    assert told["output"][0]["content"][0]["text"] == "Hello."
    assert told["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert told["usage"]["total_tokens"] == 10
    sent = asked(replica)
    assert "/v1/chat/completions" in replica.requests[0]["head"]
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hello"},
    ]
    assert sent["max_completion_tokens"] == 9
    event = plane.event(answer)
    assert (event.endpoint, event.prompt_tokens, event.completion_tokens) == ("responses", 7, 3)


@pytest.mark.parametrize("collect", [False, True])
def test_a_stream_has_openais_events_in_openais_order(plane: Plane, collect: bool) -> None:
    replica = plane.replica(**STREAM)
    path = plane.service(replica, collect=collect)
    answer = ask(plane, path, input="Say hello", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer)
    assert [each["type"] for each in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = found[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "Hello."
    assert last["usage"]["output_tokens"] == 3
    assert asked(replica)["stream_options"] == {"include_usage": True}
    event = plane.event(answer)
    assert (event.endpoint, event.stream, event.completion_tokens) == ("responses", True, 3)
    # What was streamed is what is kept.
    assert get(plane, last["id"]).json() == last


def test_an_endpoint_elsewhere_is_asked_for_a_chat_too(plane: Plane) -> None:
    replica = plane.replica(tcp=True, **whole())
    path = plane.service(endpoints=(plane.endpoint(replica, model="theirs"),))
    answer = ask(plane, path, input="hi")
    assert (answer.status, answer.json()["model"]) == (200, path)
    assert replica.requests[0]["head"].startswith("POST /v1/chat/completions ")
    assert asked(replica)["model"] == "theirs"


def test_an_endpoint_elsewhere_that_knows_no_streams_is_streamed_all_the_same(
    plane: Plane,
) -> None:
    replica = plane.replica(tcp=True, **whole())
    path = plane.service(endpoints=(plane.endpoint(replica),))
    found = events(ask(plane, path, input="hi", stream=True))
    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "Hello."


# -- what is kept --------------------------------------------------------------


def test_a_conversation_goes_on_from_a_kept_response(plane: Plane) -> None:
    replica = plane.replica(**whole("Anna."))
    path = plane.service(replica)
    first = ask(plane, path, input="I am Anna", instructions="Be brief.").json()["id"]
    second = ask(plane, path, input="Who am I?", previous_response_id=first).json()
    assert second["previous_response_id"] == first
    # Instructions are of one call alone.
    assert asked(replica)["messages"] == [
        {"role": "user", "content": "I am Anna"},
        {"role": "assistant", "content": "Anna."},
        {"role": "user", "content": "Who am I?"},
    ]
    # Whatever becomes of the first, the second has the whole conversation.
    assert get(plane, first, method="DELETE").json()["deleted"] is True
    assert get(plane, first).status == 404
    third = ask(plane, path, input="And?", previous_response_id=second["id"])
    assert third.status == 200
    assert len(asked(replica)["messages"]) == 5


def test_a_conversation_goes_on_at_another_gateway_at_once(plane: Plane) -> None:
    other = plane.another_gateway()
    replica = plane.replica(**STREAM)
    path = plane.service(replica)
    body = {"model": path, "input": "hi", "stream": True}
    with plane.wire() as here, Wire(other.port) as there:
        for _ in range(20):
            made = events(here.ask(post(RESPONSES, plane.owner_key, body)))[-1]["response"]["id"]
            more = body | {"previous_response_id": made}
            assert there.ask(post(RESPONSES, plane.owner_key, more)).status == 200
            assert len(asked(replica)["messages"]) == 3


def test_a_call_that_says_so_leaves_nothing(plane: Plane) -> None:
    path = plane.service(plane.replica(**whole()))
    before = sorted(plane.paths.responses.glob("*"))
    id_ = ask(plane, path, input="hi", store=False).json()["id"]
    assert get(plane, id_).status == 404
    refused = ask(plane, path, input="hi", previous_response_id=id_)
    assert (refused.status, refused.code) == (400, "previous_response_not_found")
    assert refused.json()["error"]["param"] == "previous_response_id"
    assert sorted(plane.paths.responses.glob("*")) == before


def test_a_kept_response_is_its_owners_and_of_keys_that_may_call_its_service(
    plane: Plane,
) -> None:
    path = plane.service(plane.replica(**whole()))
    other = plane.service(plane.replica(**whole()))
    id_ = ask(plane, path, input="a secret").json()["id"]
    public = plane.service(plane.replica(**whole()), path="public/for-all")
    (file,) = plane.paths.responses.glob(f"*{id_[5:]}*")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    for key, model in ((plane.key(STRANGER), public), (plane.key(services=(other,)), other)):
        assert get(plane, id_, key).status == 404
        assert get(plane, f"{id_}/input_items", key).status == 404
        assert get(plane, id_, key, method="DELETE").status == 404
        refused = ask(plane, model, key, input="go on", previous_response_id=id_)
        assert refused.code == "previous_response_not_found"
        item = {"type": "item_reference", "id": f"msg_{id_[5:]}0001"}
        assert ask(plane, model, key, input=[item]).status == 400
    allowed = plane.key(services=(path,))
    assert get(plane, id_, allowed).status == 200
    assert get(plane, id_, "sk-wrong").status == 401


def test_input_items_come_in_pages(plane: Plane) -> None:
    path = plane.service(plane.replica(**whole()))
    items = [{"role": "user", "content": str(number)} for number in range(5)]
    id_ = ask(plane, path, input=items).json()["id"]

    def texts(query: str) -> tuple[list[str], Json]:
        page = get(plane, f"{id_}/input_items?{query}").json()
        return [each["content"][0]["text"] for each in page["data"]], page

    assert texts("")[0] == ["4", "3", "2", "1", "0"]
    first, page = texts("limit=2&order=asc")
    assert (first, page["has_more"]) == (["0", "1"], True)
    assert page["first_id"] == page["data"][0]["id"]
    rest, page = texts(f"limit=3&order=asc&after={page['last_id']}")
    assert (rest, page["has_more"]) == (["2", "3", "4"], False)
    for wrong in ("limit=0", "limit=101", "limit=x", "order=up", "after=msg_nothing"):
        assert get(plane, f"{id_}/input_items?{wrong}").status == 400
    with plane.openai(plane.owner_key) as client:
        listed = client.responses.input_items.list(id_, limit=2, order="asc")
        assert [item.to_dict()["content"] for item in listed] == [
            [{"type": "input_text", "text": text}] for text in "01234"
        ]


def test_items_are_found_by_their_ids(plane: Plane) -> None:
    replica = plane.replica(**whole("Anna."))
    path = plane.service(replica)
    said = ask(plane, path, input="Who?").json()["output"][0]["id"]
    reference = {"type": "item_reference", "id": said}
    again = ask(plane, path, input=[reference, {"role": "user", "content": "Sure?"}])
    assert again.status == 200
    assert asked(replica)["messages"] == [
        {"role": "assistant", "content": "Anna."},
        {"role": "user", "content": "Sure?"},
    ]
    refused = ask(plane, path, input=[{"type": "item_reference", "id": "msg_unknown"}])
    assert (refused.status, refused.json()["error"]["param"]) == (400, "input[0].id")


def test_what_is_too_old_is_gone(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(response_ttl_s="1")
    path = plane.service(plane.replica(**whole()))
    id_ = ask(plane, path, input="hi").json()["id"]
    wait_for(lambda: get(plane, id_).status == 404, "the response to be too old")


def test_what_cannot_be_kept_is_answered_all_the_same(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    plane.paths.responses.write_text("no folder")
    path = plane.service(plane.replica(**whole()))
    answer = ask(plane, path, input="hi")
    assert answer.json()["status"] == "completed"
    assert get(plane, answer.json()["id"]).status == 503


def test_what_is_held_for_an_answer_counts_as_memory(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(max_body_bytes="200000", max_buffered_bytes="350000")
    path = plane.service(plane.replica(**whole()))
    # The call, the chat that it is made, and the conversation that is to be kept.
    text = "x" * 150_000
    assert ask(plane, path, input=text, store=False).status == 200
    refused = ask(plane, path, input=text)
    assert (refused.status, refused.code) == (503, "overloaded")
    assert ask(plane, path, input=text, store=False).status == 200


# -- refusals ------------------------------------------------------------------


def test_methods_and_addresses_that_are_none_are_refused(plane: Plane) -> None:
    path = plane.service(plane.replica(**whole()))
    id_ = ask(plane, path, input="hi").json()["id"]
    assert get(plane, "", method="GET").status == 404
    assert get(plane, "../../up.lock").status == 404
    assert get(plane, "resp_0/nothing").status == 404
    assert get(plane, f"{id_}?stream=true").status == 400
    assert get(plane, f"{id_}/cancel", method="POST").status == 400
    assert get(plane, id_, method="PUT").status == 405
    with plane.wire() as wire:
        assert wire.ask(bodiless(RESPONSES, plane.owner_key)).status == 405


def test_a_chats_refusals_name_what_the_caller_sent(plane: Plane) -> None:
    problem = {"message": "too long", "type": "exceed_context_size_error", "param": "messages"}
    replica = plane.replica(status=400, text=json.dumps({"error": problem}))
    path = plane.service(replica)
    for stream in (False, True):
        answer = ask(plane, path, input="hi", stream=stream)
        assert (answer.status, answer.code) == (400, "context_length_exceeded")
        assert answer.json()["error"]["param"] == "input"
        assert plane.event(answer).endpoint == "responses"
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    answer = ask(plane, path, input=[{"role": "user", "content": [image]}])
    assert (answer.status, answer.code) == (400, "unsupported_content")
    assert answer.json()["error"]["param"] == "input"
    answer = ask(plane, "nothing", input="hi")
    assert (answer.status, answer.code) == (404, "model_not_found")


def test_a_conversation_has_the_size_of_a_body_at_most(plane: Plane) -> None:
    path = plane.service(plane.replica(**whole()))
    long = "x" * 1_200_000
    id_ = ask(plane, path, input=long).json()["id"]
    refused = ask(plane, path, input=long, previous_response_id=id_)
    assert (refused.status, refused.code) == (413, "request_too_large")
    assert ask(plane, path, input="short", previous_response_id=id_).status == 200


def test_a_replica_that_answers_no_chat_is_a_502(plane: Plane) -> None:
    path = plane.service(plane.replica(text='{"object": "thing"}'))
    answer = ask(plane, path, input="hi")
    assert (answer.status, answer.code) == (502, "bad_gateway")


# -- what goes wrong within ----------------------------------------------------


def test_a_replica_that_dies_before_it_answers_costs_the_caller_nothing(plane: Plane) -> None:
    for stream in (False, True):
        dying = plane.replica(do="stream", frames=FRAMES, die_after=0)
        good = plane.replica(**(STREAM if stream else whole()))
        path = plane.service(dying, good)
        for _ in range(4):
            answer = ask(plane, path, input="hi", stream=stream)
            told = events(answer)[-1]["response"] if stream else answer.json()
            assert told["output"][0]["content"][0]["text"] == "Hello."


def test_a_replica_that_dies_within_a_stream_fails_the_response(plane: Plane) -> None:
    cut = sum(len(each) for each in FRAMES[:2]) + 10
    replica = plane.replica(do="stream", frames=FRAMES, die_after=cut, pace_s=0.01)
    path = plane.service(replica)
    *_, failed, error = events(ask(plane, path, input="hi", stream=True))
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["output"][0]["content"][0]["text"] == "Hel"
    assert (error["type"], error["code"]) == ("error", "bad_gateway")
    # Nobody can go on from what broke off.
    assert get(plane, failed["response"]["id"]).status == 404
    dying = plane.replica(do="stream", frames=FRAMES, die_after=cut, pace_s=0.01)
    plane.service(dying, name="dying")
    with plane.openai(plane.owner_key) as client:
        stream = client.responses.create(model="dying", input="hi", stream=True)
        with pytest.raises(openai.APIError, match="stopped"):
            list(stream)


def test_a_caller_who_hangs_up_frees_the_replica(plane: Plane) -> None:
    replica = plane.replica(do="stream", frames=FRAMES, gated=True)
    path = plane.service(replica)
    kept = len(list(plane.paths.responses.glob("*")))
    with plane.wire() as wire:
        wire.send(post(RESPONSES, plane.owner_key, {"model": path, "input": "hi", "stream": True}))
        wait_for(lambda: replica.requests, "the request to reach the replica")
        replica.go()
        replica.go()
        wire.head()
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the replica to be left alone")
    told = wait_for(
        lambda: [line for line in plane.logged() if line.get("access_path") == path],
        "the call to be logged",
    )
    assert (told[-1]["endpoint"], told[-1]["status"]) == ("responses", 499)
    assert len(list(plane.paths.responses.glob("*"))) == kept


def test_many_streams_at_once_each_get_their_own(plane: Plane) -> None:
    replica = plane.replica(slots=64, pace_s=0.005, **STREAM)
    path = plane.service(replica)

    def one(number: int) -> tuple[str, str]:
        found = events(ask(plane, path, input=str(number), stream=True))
        assert found[-1]["type"] == "response.completed"
        return found[-1]["response"]["id"], str(number)

    with ThreadPoolExecutor(64) as pool:
        made = dict(pool.map(one, range(64)))
    assert len(made) == 64
    for id_, text in made.items():
        (item,) = get(plane, f"{id_}/input_items").json()["data"]
        assert item["content"][0]["text"] == text


def test_requests_that_are_pipelined_are_answered_in_turn(plane: Plane) -> None:
    path = plane.service(plane.replica(**whole()))
    one = post(RESPONSES, plane.owner_key, {"model": path, "input": "hi"})
    with plane.wire() as wire:
        wire.send(one * 5)
        ids = [wire.answer().json()["id"] for _ in range(5)]
    assert len(set(ids)) == 5


@pytest.fixture(autouse=True)
def _clean(plane: Plane) -> Iterator[None]:
    yield
    plane.end_services()
