"""Services that change what they run while calls of them are under way."""

import json

from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

CHAT = "/v1/chat/completions"
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
CHOICE = {
    "index": 0,
    "delta": {"role": "assistant", "content": "old"},
    "finish_reason": "stop",
}
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "model": "m",
    "created": 7,
    "choices": [CHOICE],
    "timings": {"predicted_ms": 1},
}
FRAMES = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"


def old_replica(plane: Plane) -> Replica:
    """It sends nothing before it is told to, not even a head."""
    return plane.replica(do="raw", pieces=[HEAD % len(FRAMES) + FRAMES], gated=True)


def answered_across_a_change(plane: Plane, *, collect: bool, stream: bool) -> Answer:
    """A call of a service that, before a byte of the answer has come, goes on to another engine."""
    old, new = old_replica(plane), plane.replica(text='{"choices": []}')
    name = f"changes-{collect}-{stream}".lower()
    path = plane.service(old, name=name, collect=collect)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path) | {"stream": stream}))
        wait_for(lambda: old.seen()["busy"], "the call to arrive")
        plane.service(new, name=name, collect=not collect)

        def served_by_the_new_one() -> bool:
            with plane.wire() as other:
                other.ask(post(CHAT, plane.owner_key, chat(path)))
            return bool(new.seen()["served"])

        wait_for(served_by_the_new_one, "the gateway to know of the change")
        old.go()
        return wire.answer()


def test_an_answer_is_put_together_although_the_next_engine_needs_no_such_thing(
    plane: Plane,
) -> None:
    answer = answered_across_a_change(plane, collect=True, stream=False)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["choices"][0]["message"]["content"] == "old"


def test_a_stream_goes_out_untouched_although_the_next_engines_are_mended(plane: Plane) -> None:
    answer = answered_across_a_change(plane, collect=False, stream=True)
    assert (answer.status, answer.body) == (200, FRAMES.encode())
