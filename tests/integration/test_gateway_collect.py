"""Replicas that are asked for a stream although the caller wants a whole answer."""

import itertools
import json

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import post

CHAT = "/v1/chat/completions"


def test_the_replica_is_asked_for_a_stream_and_the_caller_gets_one_object(plane: Plane) -> None:
    replica = plane.replica(do="stream", chunks=3)
    path = plane.service(replica, collect=True)
    body = chat(path) | {"note": "as it was"}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {"number": 2, "object": "", "choices": []}
    asked = json.loads(replica.requests[0]["body"])
    assert asked.pop("stream") is True
    assert asked.pop("stream_options") == {"include_usage": True}
    assert asked == body


def test_a_caller_who_wants_a_stream_gets_it_untouched(plane: Plane) -> None:
    replica = plane.replica(do="stream", chunks=2)
    path = plane.service(replica, collect=True)
    body = chat(path) | {"stream": True}
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, body))
    assert answer.body == b'data: {"number": 0}\n\ndata: {"number": 1}\n\ndata: [DONE]\n\n'
    asked = json.loads(replica.requests[0]["body"])
    assert asked == body | {"stream_options": {"include_usage": True}}


def test_an_engine_s_refusal_comes_as_one(plane: Plane) -> None:
    path = plane.service(plane.replica(status=400, text='{"error": "no"}'), collect=True)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["message"] == "no"


@pytest.mark.parametrize("die", ["exit", "close"])
def test_a_replica_that_dies_within_its_stream_costs_the_caller_nothing(
    plane: Plane, die: str
) -> None:
    dying = plane.replica(do="stream", chunks=9, die_after=42, die=die)
    path = plane.service(dying, plane.replica(do="stream", chunks=3), collect=True)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert (answer.status, json.loads(answer.body)["number"]) == (200, 2)


def test_with_no_replica_left_it_is_a_502(plane: Plane) -> None:
    path = plane.service(plane.replica(do="stream", chunks=9, die_after=42), collect=True)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["code"] == "bad_gateway"


def test_a_stream_that_is_no_json_is_a_502(plane: Plane) -> None:
    path = plane.service(plane.replica(do="flood", bytes=65536, block=1024), collect=True)
    with plane.wire() as wire:
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
    assert answer.status == 502


def test_a_stream_that_comes_at_once_and_is_none_costs_the_caller_nothing(plane: Plane) -> None:
    """With a head that is known already, its end comes along with it."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    good, bad = 'data: {"number": 0}\n\ndata: [DONE]\n\n', "data: nothing\n\n"
    replica, other = plane.replica(), plane.replica(do="stream", chunks=3)
    path = plane.service(replica, name="at-once", collect=True)
    with plane.wire() as wire:
        replica.now(do="raw", pieces=[head % len(good) + good], end="next")
        answer = wire.ask(post(CHAT, plane.owner_key, chat(path)))
        assert json.loads(answer.body)["number"] == 0
        replica.now(do="raw", pieces=[head % len(bad) + bad], end="next")
        plane.service(replica, other, name="at-once", collect=True)
        for number in itertools.count():
            # Conversations have a replica each, by what they begin with.
            said = [{"role": "user", "content": str(number)}]
            answer = wire.ask(post(CHAT, plane.owner_key, chat(path) | {"messages": said}))
            if len(replica.requests) > 1:
                break
    assert (answer.status, json.loads(answer.body).get("number")) == (200, 2)


def test_a_caller_who_hangs_up_frees_the_replica(plane: Plane) -> None:
    replica = plane.replica(do="stream", chunks=9, gated=True)
    path = plane.service(replica, collect=True)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path)))
        wait_for(lambda: replica.requests, "the request to reach the replica")
        assert replica.seen()["abandoned"] == 0
    wait_for(lambda: replica.seen()["abandoned"] == 1, "the replica to be hung up on", 3)
