"""Images and speech are counted by what the replica says, and by the request otherwise."""

import json
from contextlib import ExitStack
from typing import Any

import pytest

from modelry.routing.messages import Limits, UsageEvent
from tests.support.data_plane import Plane
from tests.support.waiting import wait_for
from tests.support.wire import Answer, get, post

IMAGES = "/v1/images/generations"
SPEECH = "/v1/audio/speech"
HEARD = "/v1/audio/transcriptions"
MADE = json.dumps({"created": 7, "data": [{"b64_json": "iVBORw0KGgo="}]})
_TASKS = {IMAGES: "image", SPEECH: "speech", HEARD: "transcription"}


def form(model: str) -> bytes:
    return (
        f'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
        '--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
        "--edge--\r\n"
    ).encode()


def ask(plane: Plane, path: str, body: Any, key: str = "") -> Answer:
    with plane.wire() as wire:
        request = post(path, key or plane.owner_key, body)
        if path == HEARD:
            kind = b"multipart/form-data; boundary=edge"
            request = request.replace(b"application/json", kind, 1)
        return wire.ask(request)


def called(plane: Plane, path: str, *, elsewhere: bool = False, **default: Any) -> UsageEvent:
    """The event of one call of a service whose engine does as `default` says."""
    replica = plane.replica(tcp=elsewhere, **default)
    tasks = (_TASKS[path],)
    if elsewhere:
        model = plane.service(tasks=tasks, endpoints=(plane.endpoint(replica),))
    else:
        model = plane.service(replica, tasks=tasks)
    fields: dict[str, dict[str, Any]]
    fields = {IMAGES: {"prompt": "a gull", "n": 2, "size": "64x32"}, SPEECH: {"input": "Grüße"}}
    body = form(model) if path == HEARD else {"model": model, **fields[path]}
    return plane.event(ask(plane, path, body))


def units(event: UsageEvent) -> tuple[int, int, float, int]:
    return event.images, event.pixels, event.audio_s, event.characters


def tokens(event: UsageEvent) -> int:
    return event.prompt_tokens + event.completion_tokens


def says(**used: float) -> dict[str, Any]:
    return {"headers": f"x-modelry-usage: {json.dumps(used)}\r\n"}


@pytest.mark.parametrize(
    ("path", "used", "expected"),
    [
        (IMAGES, {"images": 3, "pixels": 300}, (3, 300, 0.0, 0)),
        (SPEECH, {"characters": 4}, (0, 0, 0.0, 4)),
        (HEARD, {"audio_s": 7.5}, (0, 0, 7.5, 0)),
    ],
)
def test_a_replicas_word_counts(
    plane: Plane, path: str, used: dict[str, float], expected: tuple[int, int, float, int]
) -> None:
    event = called(plane, path, text=MADE, **says(**used))
    assert (units(event), tokens(event), event.estimated) == (expected, 0, False)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_where_nobody_says_the_request_counts(plane: Plane, elsewhere: bool) -> None:
    made = called(plane, IMAGES, elsewhere=elsewhere, text=MADE)
    assert (units(made), tokens(made), made.estimated) == ((2, 4096, 0.0, 0), 0, True)
    read = called(plane, SPEECH, elsewhere=elsewhere, text=MADE)
    assert (units(read), tokens(read), read.estimated) == ((0, 0, 0.0, 5), 0, True)


def test_an_endpoint_elsewhere_does_not_say_by_our_header(plane: Plane) -> None:
    made = called(plane, IMAGES, elsewhere=True, text=MADE, **says(images=9000))
    assert units(made) == (2, 4096, 0.0, 0)


def test_tokens_that_are_told_of_images_count_beside_them(plane: Plane) -> None:
    usage = {"input_tokens": 10, "output_tokens": 40, "total_tokens": 50}
    text = json.dumps({"created": 7, "data": [], "usage": usage})
    made = called(plane, IMAGES, elsewhere=True, text=text)
    assert (units(made), tokens(made), made.estimated) == ((2, 4096, 0.0, 0), 50, True)


@pytest.mark.parametrize(
    ("answer", "seconds", "used"),
    [
        ({"usage": {"type": "duration", "seconds": 9}}, 9.0, 0),
        ({"task": "transcribe", "duration": 8.47}, 8.47, 0),
        ({"duration": "12.5"}, 12.5, 0),
        ({"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 5}}, 0.0, 19),
        ({}, 0.0, 0),
    ],
)
def test_of_an_endpoint_elsewhere_the_answer_says_how_long_was_listened(
    plane: Plane, answer: dict[str, Any], seconds: float, used: int
) -> None:
    heard = called(plane, HEARD, elsewhere=True, text=json.dumps({"text": "hi", **answer}))
    assert (units(heard), tokens(heard)) == ((0, 0, seconds, 0), used)


def test_a_duration_of_anything_else_is_no_speech(plane: Plane) -> None:
    text = json.dumps({"object": "chat.completion", "choices": [], "duration": 9})
    model = plane.service(plane.replica(text=text))
    body = {"model": model, "messages": [{"role": "user", "content": "x" * 400}]}
    event = plane.event(ask(plane, "/v1/chat/completions", body))
    assert event.audio_s == 0
    assert event.prompt_tokens > 100


@pytest.mark.parametrize("path", [IMAGES, SPEECH, HEARD])
@pytest.mark.parametrize("end", [{"status": 400}, {"status": 500}, {"die_after": 0}])
def test_what_came_to_nothing_has_used_nothing(
    plane: Plane, path: str, end: dict[str, Any]
) -> None:
    event = called(plane, path, text=MADE, **says(images=3, audio_s=7.5, characters=4), **end)
    assert (units(event), tokens(event)) == ((0, 0, 0.0, 0), 0)


def test_a_caller_who_hangs_up_before_a_picture_came_has_had_none(plane: Plane) -> None:
    replica = plane.replica(do="hang")
    model = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        wire.send(post(IMAGES, plane.owner_key, {"model": model, "n": 2, "size": "64x32"}))
        wait_for(lambda: replica.requests, "the request to arrive")

    def ended() -> list[dict[str, Any]]:
        return [line for line in plane.logged() if line.get("access_path") == model]

    (line,) = wait_for(ended, "the event", 5)
    assert (line["status"], line.get("images", 0)) == (499, 0)


def test_speech_that_is_sent_while_it_is_made_is_counted_by_its_head(plane: Plane) -> None:
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n"
        'x-modelry-usage: {"characters":4}\r\n\r\n'
    )
    pieces = [head, "3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"]
    replica = plane.replica(do="raw", pieces=pieces, end="next")
    model = plane.service(replica, tasks=("speech",))
    answer = ask(plane, SPEECH, {"model": model, "input": "Grüße", "voice": "alloy"})
    assert answer.body == b"abcde"
    assert "x-modelry-usage" not in answer.headers
    event = plane.event(answer)
    assert (units(event), tokens(event), event.estimated) == ((0, 0, 0.0, 4), 0, False)


# -- limits, and the queue ---------------------------------------------------


@pytest.mark.parametrize("path", [IMAGES, SPEECH, HEARD])
def test_calls_without_tokens_leave_limits_of_tokens_alone(plane: Plane, path: str) -> None:
    key = plane.key(limits=Limits(tokens_per_minute=1000, tokens_per_month=1000))
    model = plane.service(plane.replica(text=MADE), tasks=(_TASKS[path],))
    long = {"model": model, "prompt": "x" * 40_000, "input": "x" * 40_000}
    for _ in range(3):
        answer = ask(plane, path, form(model) if path == HEARD else long, key)
        assert answer.status == 200
        assert answer.headers["x-ratelimit-remaining-tokens"] == "1000"


def test_tokens_that_are_told_of_images_count_against_limits_of_tokens(plane: Plane) -> None:
    key = plane.key(limits=Limits(tokens_per_minute=1000))
    text = json.dumps({"data": [], "usage": {"input_tokens": 10, "output_tokens": 40}})
    model = plane.service(plane.replica(text=text), tasks=("image",))
    answer = ask(plane, IMAGES, {"model": model, "prompt": "a gull"}, key)
    assert answer.headers["x-ratelimit-remaining-tokens"] == "950"


def test_requests_a_minute_count_calls_of_every_kind(plane: Plane) -> None:
    key = plane.key(limits=Limits(requests_per_minute=2))
    model = plane.service(plane.replica(text=MADE), tasks=("image", "speech"))
    statuses = [
        ask(plane, path, {"model": model, "input": "hi"}, key).status
        for path in (IMAGES, SPEECH, IMAGES)
    ]
    assert statuses == [200, 200, 429]


def test_keys_take_turns_with_calls_that_use_no_tokens(plane: Plane) -> None:
    flood, calm = plane.key(), plane.key()
    replica = plane.replica(slots=1, gated=True, text=MADE)
    model = plane.service(replica, tasks=("image",))
    with ExitStack() as wires:

        def send(key: str, note: str) -> None:
            wire = wires.enter_context(plane.wire())
            wire.send(post(IMAGES, key, {"model": model, "prompt": note}))
            with plane.wire() as other:
                assert other.ask(get("/healthz")).status == 200

        send(plane.owner_key, "first")
        wait_for(lambda: replica.requests, "the slot to be taken")
        for number in range(6):
            send(flood, f"flood {number}")
        send(calm, "calm")
        for number in range(7):
            replica.go()
            wait_for(lambda n=number: len(replica.requests) > n + 1, "the next", 5, 0.005)  # type: ignore[misc]
        replica.go()
    order = [json.loads(request["body"])["prompt"] for request in replica.requests][1:]
    assert order.index("calm") <= 1


# -- metrics -----------------------------------------------------------------


def test_metrics_add_up_what_was_used_beyond_tokens(plane: Plane) -> None:
    replica = plane.replica(text=MADE, **says(images=3, pixels=300))
    model = plane.service(replica, name="pictures", tasks=("image", "speech"))
    for _ in range(2):
        assert ask(plane, IMAGES, {"model": model, "prompt": "x"}).status == 200
    replica.now(text=MADE, **says(characters=4))
    assert ask(plane, SPEECH, {"model": model, "input": "x"}).status == 200

    def told() -> tuple[int, int, int] | None:
        metrics = plane.control.reported.get("svc_pictures")
        if metrics is None or metrics.requests != {200: 3}:
            return None
        return metrics.images, metrics.pixels, metrics.characters

    assert wait_for(told, "the metrics", 15) == (6, 600, 4)
