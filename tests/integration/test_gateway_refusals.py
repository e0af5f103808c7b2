"""What the gateway refuses, with which status and code, and in whose shape."""

import itertools
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.data_plane import STRANGER, Plane, chat
from tests.support.wire import Answer, get, post

CHAT = "/v1/chat/completions"


def refusal(answer: Answer) -> tuple[int, str]:
    """Status and code, once the shape is seen to be OpenAI's."""
    body = answer.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert isinstance(error["type"], str)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    return answer.status, error["code"]


def ask(plane: Plane, request: bytes) -> Answer:
    with plane.wire() as wire:
        return wire.ask(request)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"model": null}',
        b'{"model": 7}',
        b'{"model": ["a"]}',
        b'{"model": ""}',
        b'{"model": "x",}',
        b'{"model": "x"} trailing',
        b'{"model": "\xff\xfe"}',
        b"\xff" * 20,
        b'{"model": "x", "messages": ' + b"[" * 200_000,
        b'{"model": "x", "messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=itertools.count(),
)
def test_a_body_that_is_no_request_is_a_400(plane: Plane, body: bytes) -> None:
    answer = ask(plane, post(CHAT, plane.owner_key, body))
    assert refusal(answer) == (400, "invalid_request_error")


@pytest.mark.parametrize("model", ["missing", "u-0123456789ab/missing", "public/missing", "a/b/c"])
def test_an_unknown_model_is_a_404_that_names_it(plane: Plane, model: str) -> None:
    answer = ask(plane, post(CHAT, plane.owner_key, chat(model)))
    assert refusal(answer) == (404, "model_not_found")
    assert model in answer.json()["error"]["message"]


def test_anothers_service_looks_like_none_at_all(plane: Plane) -> None:
    theirs = plane.service(plane.replica(), owner=STRANGER)
    answer = ask(plane, post(CHAT, plane.owner_key, chat(theirs)))
    nothing = ask(plane, post(CHAT, plane.owner_key, chat(theirs[:-1] + "x")))
    assert refusal(answer) == refusal(nothing) == (404, "model_not_found")
    shown = answer.json()["error"]["message"].replace(theirs, "")
    assert shown == nothing.json()["error"]["message"].replace(theirs[:-1] + "x", "")
    assert ask(plane, get(f"/v1/models/{theirs}", plane.owner_key)).status == 404


def test_a_bare_name_is_the_owners_own_service(plane: Plane) -> None:
    mine, theirs = plane.replica(text='"mine"'), plane.replica(text='"theirs"')
    plane.service(mine, name="same-name")
    plane.service(theirs, name="same-name-", owner=STRANGER, path=f"{STRANGER}/same-name")
    key = plane.key(STRANGER)
    assert ask(plane, post(CHAT, plane.owner_key, chat("same-name"))).body == b'"mine"'
    assert ask(plane, post(CHAT, key, chat("same-name"))).body == b'"theirs"'


def test_shared_services_answer_to_everybody(plane: Plane) -> None:
    path = plane.service(plane.replica(), name="shared", owner=STRANGER, path="public/shared")
    assert ask(plane, post(CHAT, plane.owner_key, chat(path))).status == 200


def test_a_task_the_service_does_not_do(plane: Plane) -> None:
    path = plane.service(plane.replica(), tasks=("completion",))
    answer = ask(plane, post(CHAT, plane.owner_key, chat(path)))
    assert refusal(answer) == (400, "unsupported_task")
    assert ask(plane, post("/v1/completions", plane.owner_key, chat(path))).status == 200


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        (f"GET {CHAT}", "POST"),
        (f"PUT {CHAT}", "POST"),
        (f"DELETE {CHAT}", "POST"),
        ("POST /v1/models", "GET"),
        ("DELETE /v1/models/x", "GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_one(
    plane: Plane, request_line: str, allowed: str
) -> None:
    head = f"{request_line} HTTP/1.1\r\nauthorization: Bearer {plane.owner_key}\r\n"
    answer = ask(plane, head.encode() + b"host: x\r\ncontent-length: 0\r\n\r\n")
    assert refusal(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat", "/v1/nothing?a=b", "/v1/%00"])
def test_an_unknown_url_is_a_404(plane: Plane, path: str) -> None:
    request = get(path, plane.owner_key)
    assert refusal(ask(plane, request)) == (404, "unknown_url")


def test_a_body_over_the_limit_is_refused_by_its_length_alone(plane: Plane) -> None:
    head = post(CHAT, plane.owner_key, b"").replace(b"length: 0", b"length: 2000001")
    answer = ask(plane, head)
    assert refusal(answer) == (413, "request_too_large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("limit", "said"),
    [(64 << 20, "64 MiB"), (1536 << 10, "1536 KiB"), (1_000_001, "1000001 bytes")],
)
def test_the_limit_of_a_body_is_said_in_a_unit_that_people_read(
    make_plane: Callable[..., Plane], limit: int, said: str
) -> None:
    plane = make_plane(max_body_bytes=str(limit))
    head = post(CHAT, plane.owner_key, b"").replace(b"length: 0", b"length: %d" % (limit + 1))
    message = f"The request's body is larger than {said}, the limit here."
    assert ask(plane, head).json()["error"]["message"] == message


def test_a_chunked_body_over_the_limit_is_refused_when_it_is_reached(plane: Plane) -> None:
    head = post(CHAT, plane.owner_key, b"").replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    with plane.wire() as wire:
        wire.send(head)
        try:
            for _ in range(40):
                wire.send(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert refusal(wire.answer()) == (413, "request_too_large")
        assert wire.ended()


def test_a_body_at_the_limit_is_taken(plane: Plane) -> None:
    path = plane.service(plane.replica())
    body = b'{"model": "%b"}' % path.encode()
    with plane.http(plane.owner_key) as http:
        answer = http.post(CHAT, content=body.ljust(2_000_000))
    assert answer.status_code == 200


@pytest.mark.parametrize("size", [1_900_000, 6_000_000], ids=["within", "over"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "stranger"])
def test_a_client_that_sends_on_still_reads_the_refusal(
    plane: Plane, size: int, known: bool
) -> None:
    """An HTTP library writes the whole body before it looks for an answer."""
    expected = 401 if not known else 413 if size > 2_000_000 else 400
    with plane.http(plane.owner_key if known else "sk-wrong") as http:
        assert http.post(CHAT, content=b"x" * size).status_code == expected


def test_a_key_is_never_echoed(plane: Plane) -> None:
    """Not even where a caller puts it into the wrong place."""
    key = plane.owner_key
    scoped = plane.key(services=("public/none",))
    path = plane.service(plane.replica())
    wrong = "sk-wrong-but-long-enough"
    answers = [
        (wrong, ask(plane, post(CHAT, wrong, chat(path)))),
        (scoped, ask(plane, post(CHAT, scoped, chat(path)))),
        (key, ask(plane, post(CHAT, key, chat(key)))),
        (key, ask(plane, post(CHAT, key, b'{"model": ' + key.encode()))),
        (key, ask(plane, get(f"/v1/models/{key}", key))),
        (key, ask(plane, get(f"/v1/{key}", key))),
    ]
    for secret, answer in answers:
        assert refusal(answer)[0] >= 400
        assert secret.encode() not in answer.body


@pytest.mark.parametrize(
    ("state", "message"),
    [("stopped", "stopped by its owner"), ("failed", "the file is no model"), ("deleting", "")],
)
def test_a_service_that_does_not_run_says_why(plane: Plane, state: str, message: str) -> None:
    path = plane.service(state=state, message=message)
    answer = ask(plane, post(CHAT, plane.owner_key, chat(path)))
    assert refusal(answer) == (503, "service_unavailable")
    assert (message or state) in answer.json()["error"]["message"]


def test_the_official_client_raises_its_typed_errors(plane: Plane) -> None:
    import openai

    path = plane.service(plane.replica())
    embeds = plane.service(plane.replica(), tasks=("embedding",))
    stopped = plane.service(state="stopped")
    dead = plane.service(plane.replica(die_after=0))
    scoped = plane.key(services=("public/none",))

    def call(key: str, model: str) -> Any:
        with plane.openai(key) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            return client.chat.completions.create(model=model, messages=messages)

    assert call(plane.owner_key, path).object == "chat.completion"
    cases: list[tuple[str, str, type[openai.APIStatusError], str]] = [
        ("sk-wrong", path, openai.AuthenticationError, "invalid_api_key"),
        (scoped, path, openai.PermissionDeniedError, "model_access_denied"),
        (plane.owner_key, "missing", openai.NotFoundError, "model_not_found"),
        (plane.owner_key, embeds, openai.BadRequestError, "unsupported_task"),
        (plane.owner_key, stopped, openai.InternalServerError, "service_unavailable"),
        (plane.owner_key, dead, openai.InternalServerError, "bad_gateway"),
    ]
    for key, model, expected, code in cases:
        with pytest.raises(expected) as raised:
            call(key, model)
        assert raised.value.code == code
        assert raised.value.request_id


@pytest.mark.parametrize("died_after", [42, 40], ids=["between-events", "before-its-newlines"])
def test_the_official_client_sees_a_stream_that_died(plane: Plane, died_after: int) -> None:
    import openai

    path = plane.service(plane.replica(do="stream", chunks=5, die_after=died_after))
    with plane.openai(plane.owner_key) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        stream = client.chat.completions.create(model=path, messages=messages, stream=True)
        with pytest.raises(openai.APIError):
            list(stream)


def test_no_answer_is_sent_to_a_caller_who_hung_up_within_the_request(plane: Plane) -> None:
    """And the gateway is none the worse for it."""
    for cut in (10, 60, 150):
        with plane.wire() as wire:
            wire.send(post(CHAT, plane.owner_key, b"x" * 500)[:cut])
            wire.socket.shutdown(socket.SHUT_WR)
            wire.ended()
    assert ask(plane, get("/healthz")).status == 200
