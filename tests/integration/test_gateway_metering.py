"""What calls used: one event each, however they end, and none lost on the way."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from modelry.gateway.tasks import ENDPOINTS
from modelry.routing.messages import ServiceMetrics, UsageEvent
from tests.support.data_plane import OWNER, STRANGER, GatewayProcess, Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Broken, Wire, get, post

CHAT = "/v1/chat/completions"
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
}
WHOLE = json.dumps({"object": "chat.completion", "choices": [], "usage": USAGE})


def frame(**fields: Any) -> str:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", **fields}
    return f"data: {json.dumps(chunk)}\n\n"


def said(text: str, **fields: Any) -> str:
    return frame(choices=[{"index": 0, "delta": {"content": text}}], **fields)


ROLE = frame(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
TEXT = [ROLE, said("Grüße, "), said('"usage": null'), said("\n\ndata: [DONE]\n\n")]
LAST = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
TOLD = frame(choices=[], usage=USAGE)
DONE = "data: [DONE]\n\n"


def streaming(path: str, *frames: str, asks: bool = False, **fake: Any) -> dict[str, Any]:
    body = chat(path, do="stream", frames=frames, **fake) | {"stream": True}
    return body | {"stream_options": {"include_usage": True}} if asks else body


def ask(plane: Plane, body: dict[str, Any], key: str = "", path: str = CHAT) -> Answer:
    with plane.wire() as wire:
        return wire.ask(post(path, key or plane.owner_key, body))


def events_of(plane: Plane, path: str) -> list[UsageEvent]:
    """Of one service, as the log has them by now."""
    lines = [line for line in plane.logged() if line.get("access_path") == path]
    return [msgspec.convert(line, UsageEvent) for line in lines]


def tokens(event: UsageEvent) -> tuple[int, int, int]:
    return event.prompt_tokens, event.completion_tokens, event.cached_tokens


# -- whole answers -----------------------------------------------------------


def test_a_call_leaves_one_event_that_says_all_of_it(plane: Plane) -> None:
    replica = plane.replica(text=WHOLE, delay_s=0.05)
    path = plane.service(replica, name="shared-one", owner=STRANGER, path="public/shared-one")
    key = plane.key()
    start = time.time()
    answer = ask(plane, chat(path), key)
    event = plane.event(answer)
    assert event.access_path == path
    assert event.service_id == "svc_shared-one"
    assert event.key_id == key.removeprefix("sk-secret-of-")
    assert event.owner_id == OWNER
    assert event.endpoint == "chat/completions"
    assert event.replica_id == replica.id
    assert (event.status, event.stream, event.estimated, event.cancelled) == (
        200,
        False,
        False,
        False,
    )
    assert tokens(event) == (11, 3, 4)
    assert start <= event.at <= time.time()
    assert event.first_token_s is not None
    assert 0.045 <= event.first_token_s <= event.duration_s <= time.time() - start
    assert event.queue_s == 0
    assert events_of(plane, path) == [event]
    once(plane, [event.request_id])
    assert event in plane.control.events


@pytest.mark.parametrize(
    ("endpoint", "asked", "answer", "usage", "expected"),
    [
        ("completions", {}, {}, {"prompt_tokens": 2, "completion_tokens": 5}, (2, 5, 0)),
        (
            "embeddings",
            {"input": "a"},
            {"data": [{"index": 0, "embedding": [1.0]}]},
            {"prompt_tokens": 8, "total_tokens": 8},
            (8, 0, 0),
        ),
        (
            "rerank",
            {"query": "a", "documents": ["b"]},
            {"results": [{"index": 0, "relevance_score": 0.5}]},
            {"total_tokens": 9},
            (9, 0, 0),
        ),
        (
            "images/generations",
            {"prompt": "a", "response_format": "b64_json"},
            {"data": []},
            {"input_tokens": 3, "output_tokens": 40, "total_tokens": 43},
            (3, 40, 0),
        ),
    ],
)
def test_each_endpoint_s_usage_is_read_by_its_own_names(
    plane: Plane,
    endpoint: str,
    asked: dict[str, Any],
    answer: dict[str, Any],
    usage: dict[str, int],
    expected: tuple[int, int, int],
) -> None:
    task = ENDPOINTS[f"/v1/{endpoint}".encode()]
    text = json.dumps({**answer, "usage": usage})
    path = plane.service(plane.replica(text=text), tasks=(task,))
    event = plane.event(ask(plane, {"model": path, **asked}, path=f"/v1/{endpoint}"))
    assert (event.endpoint, tokens(event)) == (endpoint, expected)
    # How many images that were, it did not say.
    assert event.estimated is (task == "image")


@pytest.mark.parametrize("text", ["{}", '{"usage": null}', '{"usage": 7}', "[]", "no json"])
def test_where_the_engine_does_not_say_tokens_are_estimated(plane: Plane, text: str) -> None:
    path = plane.service(plane.replica(text=text))
    body = chat(path) | {"padding": "x" * 4000}
    event = plane.event(ask(plane, body))
    assert event.estimated
    assert event.prompt_tokens == pytest.approx(len(json.dumps(body)) / 4, abs=1)


def test_what_the_engine_refuses_has_used_nothing(plane: Plane) -> None:
    path = plane.service(plane.replica(status=400, text='{"error": "too long"}'))
    event = plane.event(ask(plane, chat(path)))
    assert (event.status, tokens(event), event.estimated) == (400, (0, 0, 0), False)


def test_a_call_that_no_replica_answered_has_used_nothing(plane: Plane) -> None:
    path = plane.service(plane.replica(die_after=0), plane.replica(die_after=0))
    event = plane.event(ask(plane, chat(path)))
    assert (event.status, tokens(event), event.estimated) == (502, (0, 0, 0), False)
    assert event.first_token_s is None


def test_a_call_that_went_to_another_replica_is_one_event_of_that(plane: Plane) -> None:
    failing, well = plane.replica(die_after=0), plane.replica(text=WHOLE)
    path = plane.service(failing, well)
    answers: list[Answer] = []
    # Which of the two is asked first is left to chance.
    while not failing.requests:
        assert len(answers) < 100
        answers.append(ask(plane, {"model": path, "prompt": "x"}, path="/v1/completions"))
    for answer in answers:
        event = plane.event(answer)
        assert (event.status, event.replica_id, tokens(event)) == (200, well.id, (11, 3, 4))
    assert len(events_of(plane, path)) == len(answers)


def test_what_never_was_a_call_leaves_no_event(plane: Plane) -> None:
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        refused = [
            wire.ask(get("/v1/models", plane.owner_key)),
            wire.ask(post(CHAT, plane.owner_key, chat("missing"))),
            wire.ask(post(CHAT, plane.owner_key, b"{")),
            wire.ask(post("/v1/embeddings", plane.owner_key, chat(path))),
            wire.ask(post(CHAT, "sk-wrong", chat(path))),
        ]
    event = plane.event(ask(plane, chat(path)))
    once(plane, [event.request_id])
    known = {event.request_id for event in plane.control.events}
    assert not known & {answer.headers["x-request-id"] for answer in refused}


# -- streams -----------------------------------------------------------------


@pytest.mark.parametrize("end", [[LAST, TOLD, DONE], [LAST, TOLD]], ids=["done", "no-done"])
def test_a_caller_who_did_not_ask_gets_all_but_the_frame_that_tells(
    plane: Plane, end: list[str]
) -> None:
    """Byte for byte, whatever the texts hold."""
    replica = plane.replica()
    path = plane.service(replica)
    answer = ask(plane, streaming(path, *TEXT, *end))
    assert answer.body.decode() == "".join([*TEXT, *(each for each in end if each != TOLD)])
    asked = json.loads(replica.requests[0]["body"])
    assert asked["stream_options"] == {"include_usage": True}
    event = plane.event(answer)
    assert (event.stream, tokens(event), event.estimated) == (True, (11, 3, 4), False)


def test_a_caller_who_asked_gets_the_stream_as_it_is(plane: Plane) -> None:
    frames = [*TEXT, said("x", usage=None), LAST, TOLD, DONE]
    answer = ask(plane, streaming(plane.service(plane.replica()), *frames, asks=True))
    assert answer.body.decode() == "".join(frames)
    assert tokens(plane.event(answer)) == (11, 3, 4)


def test_a_caller_who_did_not_ask_is_not_shown_that_usage_is_still_to_come(plane: Plane) -> None:
    """OpenAI and vLLM put `"usage": null` into every chunk of a stream that was asked for it."""
    frames = [said("a", usage=None), said("b", usage=None), TOLD, DONE]
    answer = ask(plane, streaming(plane.service(plane.replica()), *frames))
    shown = [json.loads(line[6:]) for line in answer.body.decode().split("\n\n")[:-2]]
    assert shown == [json.loads(said(text)[6:]) for text in "ab"]


def test_usage_that_comes_with_the_last_word_stays_where_it_is(plane: Plane) -> None:
    frames = [*TEXT, said("end", usage=USAGE), DONE]
    answer = ask(plane, streaming(plane.service(plane.replica()), *frames))
    assert answer.body.decode() == "".join(frames)
    assert tokens(plane.event(answer)) == (11, 3, 4)


@pytest.mark.parametrize("size", [1, 7, 50, 333])
def test_it_does_not_matter_how_the_engine_cuts_its_stream(plane: Plane, size: int) -> None:
    whole = "".join([ROLE, said("a"), *TEXT[2:], LAST, TOLD, DONE])
    if size == 1:
        whole = "".join([said("a"), TOLD, DONE])
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    path = plane.service(plane.replica())
    answer = ask(plane, streaming(path, *pieces, pace_s=0.0005))
    assert answer.body.decode() == whole.replace(TOLD, "")
    assert tokens(plane.event(answer)) == (11, 3, 4)


def test_lines_that_end_as_windows_has_them_are_understood(plane: Plane) -> None:
    frames = [each.replace("\n", "\r\n") for each in (ROLE, said("a"), TOLD, DONE)]
    answer = ask(plane, streaming(plane.service(plane.replica()), *frames))
    assert answer.body.decode() == "".join([*frames[:2], frames[3]])
    assert tokens(plane.event(answer)) == (11, 3, 4)


def test_a_stream_that_does_not_tell_is_counted(plane: Plane) -> None:
    frames = [ROLE, *(said(f"word {number} ") for number in range(20)), DONE]
    answer = ask(plane, streaming(plane.service(plane.replica()), *frames))
    event = plane.event(answer)
    assert event.estimated
    assert event.completion_tokens == 20


# -- calls that end badly ----------------------------------------------------


def test_a_caller_who_hangs_up_is_charged_for_what_came_until_then(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    frames = [ROLE, *(said(f"word {number}") for number in range(30)), TOLD, DONE]
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, streaming(path, *frames, gated=True)))
        replica.go()
        id_ = wire.head().headers["x-request-id"]
        for _ in range(11):
            replica.go()
            assert wire.chunk()
    event = plane.event(id_)
    assert (event.status, event.cancelled, event.estimated) == (499, True, True)
    assert 9 <= event.completion_tokens <= 11
    assert event.prompt_tokens > 0
    assert event.replica_id == replica.id
    assert event.first_token_s is not None


def test_a_caller_who_hangs_up_before_the_first_word_or_in_the_queue_used_nothing(
    plane: Plane,
) -> None:
    replica = plane.replica(slots=1)
    path = plane.service(replica)
    with plane.wire() as working:
        working.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.requests, "the request to arrive")
        with plane.wire() as queued:
            queued.send(post(CHAT, plane.owner_key, chat(path)))
            with plane.wire() as other:
                assert other.ask(get("/healthz")).status == 200
        wait_for(lambda: len(events_of(plane, path)) == 1, "the event of who waited", 5)
    wait_for(lambda: len(events_of(plane, path)) == 2, "the event of who was worked for", 5)
    waited, worked = events_of(plane, path)
    assert (waited.replica_id, worked.replica_id) == (None, replica.id)
    for event in (waited, worked):
        assert (event.status, event.cancelled, event.first_token_s) == (499, True, None)
        assert event.completion_tokens == 0


def test_a_stream_that_broke_off_is_charged_for_what_came_until_then(plane: Plane) -> None:
    path = plane.service(plane.replica())
    frames = [ROLE, *(said(f"word {number}") for number in range(10)), TOLD, DONE]
    size = sum(len(each.encode()) for each in frames[:7])
    event = plane.event(ask(plane, streaming(path, *frames, die_after=size)))
    assert (event.status, event.cancelled, event.estimated) == (502, False, True)
    assert 5 <= event.completion_tokens <= 7


# -- whole answers that are collected ----------------------------------------


def test_of_an_answer_put_together_from_a_stream_the_usage_is_read(plane: Plane) -> None:
    path = plane.service(plane.replica(), collect=True)
    body = chat(path, do="stream", frames=[ROLE, said("a"), LAST, TOLD, DONE])
    answer = ask(plane, body)
    assert answer.json()["usage"] == USAGE
    event = plane.event(answer)
    assert (event.stream, tokens(event), event.estimated) == (False, (11, 3, 4), False)


def test_a_caller_who_hangs_up_on_an_answer_that_is_collected_is_charged_for_it(
    plane: Plane,
) -> None:
    replica = plane.replica()
    path = plane.service(replica, collect=True)
    frames = [ROLE, *(said("word") for _ in range(20)), TOLD, DONE]
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="stream", frames=frames, gated=True)))
        wait_for(lambda: replica.requests, "the request to arrive")
        for _ in range(8):
            replica.go()
        wait_for(lambda: replica.seen()["sent_bytes"] > len("".join(frames[:8])), "8 frames")
    (found,) = wait_for(lambda: events_of(plane, path), "the event", 5)
    assert (found.status, found.cancelled, found.estimated) == (499, True, True)
    assert 5 <= found.completion_tokens <= 8


# -- on the way to the control plane -----------------------------------------


def once(plane: Plane, ids: list[str]) -> None:
    """Each of these calls has its event, and none has two."""

    def all_there() -> bool:
        return set(ids) <= {event.request_id for event in tuple(plane.control.events)}

    wait_for(all_there, "every event", 20)
    counts = Counter(event.request_id for event in plane.control.events)
    assert set(counts.values()) == {1}


def calls(gateway: GatewayProcess, key: str, path: str, count: int) -> list[str]:
    """The request ids of so many answers, until the gateway goes."""
    request, ids = post(CHAT, key, chat(path)), []
    with suppress(Broken, OSError), Wire(gateway.port) as wire:
        for _ in range(count):
            answer = wire.ask(request)
            assert answer.status == 200
            ids.append(answer.headers["x-request-id"])
    return ids


def await_ended_spool(plane: Plane) -> None:
    # Gateways look for it now and then, and whenever a control plane comes.
    plane.control.stop()
    plane.control.start()
    wait_for(lambda: len(plane.control.ended_spools) == 1, "the old spool to be taken whole")


def test_events_survive_a_kill_9_of_the_gateway(make_plane: Callable[..., Plane]) -> None:
    """Killed under load: whoever has an answer has an event, at most one call more each."""
    plane = make_plane()
    path = plane.service(plane.replica(text=WHOLE, slots=16))
    with ThreadPoolExecutor(4) as pool:
        found = [
            pool.submit(calls, plane.gateway, plane.owner_key, path, 100_000) for _ in range(4)
        ]
        wait_for(lambda: len(plane.control.events) > 20, "the first events")
        plane.gateway.process.send_signal(signal.SIGKILL)
        ids = [id_ for each in found for id_ in each.result()]
    plane.gateway.wait()
    plane.restart_gateway()
    once(plane, ids)
    assert len(plane.control.events) <= len(ids) + 4
    await_ended_spool(plane)


def test_events_wait_for_a_control_plane_that_is_away(make_plane: Callable[..., Plane]) -> None:
    """Also over a kill of the gateway: the next one sends what it left."""
    plane = make_plane()
    path = plane.service(plane.replica(text=WHOLE))
    wait_for(
        lambda: (
            plane.paths.feed_snapshot.exists() and path in plane.paths.feed_snapshot.read_text()
        ),
        "the snapshot",
    )
    plane.control.stop()
    ids = calls(plane.gateway, plane.owner_key, path, 30)
    plane.gateway.kill()
    plane.restart_gateway()
    ids += calls(plane.gateway, plane.owner_key, path, 30)
    assert len(ids) == 60
    assert plane.control.events == []
    plane.control.start()
    once(plane, ids)
    await_ended_spool(plane)
    assert len(list(plane.paths.spools.iterdir())) == 1


def test_events_are_taken_once_however_often_the_control_plane_goes_and_comes(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    path = plane.service(plane.replica(text=WHOLE, slots=16))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(calls, plane.gateway, plane.owner_key, path, 500) for _ in range(4)]
        while not all(each.done() for each in found):
            plane.control.stop()
            plane.control.start()
            time.sleep(0.05)
        ids = [id_ for each in found for id_ in each.result()]
    assert len(ids) == 2000
    once(plane, ids)


def test_each_of_two_gateways_sends_its_own(two_gateways: tuple[Plane, GatewayProcess]) -> None:
    plane, other = two_gateways
    path = plane.service(plane.replica(text=WHOLE))
    ids = [
        id_
        for gateway in (plane.gateway, other)
        for id_ in calls(gateway, plane.owner_key, path, 20)
    ]
    assert len(set(ids)) == 40
    once(plane, ids)


# -- metrics -----------------------------------------------------------------


def test_counters_and_histograms_add_up_to_what_happened(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(queue_wait_s="0.2")
    replica = plane.replica(slots=1)
    path = plane.service(replica, name="counted")
    for _ in range(3):
        assert ask(plane, chat(path, text=WHOLE, delay_s=0.03)).status == 200
    frames = [ROLE, said("a"), said("b"), TOLD, DONE]
    assert ask(plane, streaming(path, *frames, pace_s=0.02)).status == 200
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.seen()["busy"], "the slot to be taken")
        assert ask(plane, chat(path)).status == 503
    wait_for(lambda: not replica.seen()["busy"], "the slot to be free")
    replica.now(die_after=0)
    assert ask(plane, chat(path)).status == 502
    metrics = told_anew(plane, "counted")
    assert metrics.access_path == path
    assert metrics.requests == {200: 4, 499: 1, 502: 1, 503: 1}
    wait_for(lambda: len(events_of(plane, path)) == 7, "every event", 5)
    told = events_of(plane, path)
    assert metrics.prompt_tokens == sum(event.prompt_tokens for event in told) >= 44
    assert metrics.completion_tokens == sum(event.completion_tokens for event in told) == 12
    assert sum(metrics.first_token.counts) == 4
    assert 0.09 <= metrics.first_token.total_s < 2
    assert 2 <= sum(metrics.between_tokens.counts) <= 4
    assert 0.035 <= metrics.between_tokens.total_s < 1
    assert sum(metrics.queue.counts) == 7
    assert 0.19 <= metrics.queue.total_s < 1
    # Of those that a replica was asked for.
    assert 6 <= sum(metrics.own.counts) <= 7
    assert 0 < metrics.own.total_s < 0.2
    replica.now()
    assert ask(plane, chat(path)).status == 200
    assert told_anew(plane, "counted").requests == {200: 5, 499: 1, 502: 1, 503: 1}


def told_anew(plane: Plane, name: str) -> ServiceMetrics:
    """What a control plane that starts now is told of a service."""
    plane.control.stop()
    plane.control.reported.clear()
    plane.control.start()
    return wait_for(lambda: plane.control.reported.get(f"svc_{name}"), "the metrics", 8)
