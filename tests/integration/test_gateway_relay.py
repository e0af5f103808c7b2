"""What the gateway passes on of a request and of its answer, and what it keeps to itself."""

import json

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.wire import get, post

# Spaces, key order, escapes, numbers beyond a double and fields that no API has.
ODD_BODY = (
    '{ "zeta":1e400, "model" :"%s",\t"messages":[{"role":"user","content":"\\u00e4 ä 🙂"}],'
    '"unknown":{"deep":[null,true,18446744073709551617]}, "user":"a/b" }\n'
)
ODD_ANSWER = '{ "object":"chat.completion" ,"model":"x", "n":1e400,"text":"ä \\u00e4"}\r\n'


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_bytes_pass_through_untouched_both_ways(plane: Plane, path: str, tcp: bool) -> None:
    replica = plane.replica(tcp=tcp, text=ODD_ANSWER)
    body = (ODD_BODY % plane.service(replica)).encode()
    with plane.wire() as wire:
        answer = wire.ask(post(path, plane.owner_key, body))
    (request,) = replica.requests
    assert request["body"].encode("latin-1") == body
    assert request["head"].startswith(f"POST {path} HTTP/1.1\r\n")
    assert answer.status == 200
    assert answer.body == ODD_ANSWER.encode()
    assert answer.headers["content-type"] == "application/json"


def test_a_chunked_request_reaches_the_replica_whole(plane: Plane) -> None:
    replica = plane.replica()
    body = json.dumps(chat(plane.service(replica))).encode()
    head = post("/v1/chat/completions", plane.owner_key, b"").replace(
        b"content-length: 0", b"transfer-encoding: chunked"
    )
    with plane.wire() as wire:
        wire.send(head)
        for byte in body:
            wire.send(b"1\r\n%c\r\n" % byte)
        answer = wire.ask(b"0\r\n\r\n")
    assert answer.status == 200
    assert replica.requests[0]["body"].encode("latin-1") == body


def test_only_the_replicas_secret_reaches_it(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    own = (
        f"x-api-key: {plane.owner_key}",
        "cookie: session=stolen",
        "x-forwarded-for: 1.2.3.4",
        "accept-encoding: gzip",
        "openai-organization: org",
        "x-secret: hidden",
        "x-request-id: mine",
    )
    with plane.wire() as wire:
        answer = wire.ask(post("/v1/chat/completions?a=b", plane.owner_key, chat(path), own))
    head = replica.requests[0]["head"]
    names = sorted(line.partition(":")[0].lower() for line in head.split("\r\n")[1:])
    assert names == ["authorization", "content-length", "content-type", "host", "x-request-id"]
    assert f"authorization: Bearer {replica.secret}" in head
    assert plane.owner_key not in head
    assert answer.headers["x-request-id"] in head
    assert "mine" not in head


def test_headers_of_the_replica_stay_behind(plane: Plane) -> None:
    path = plane.service(plane.replica())
    with plane.wire() as wire:
        answer = wire.ask(post("/v1/chat/completions", plane.owner_key, chat(path)))
    assert sorted(answer.headers) == ["content-length", "content-type", "x-request-id"]


def test_an_engines_refusal_comes_in_openais_shape(plane: Plane) -> None:
    refusal = '{"error": {"message": "too long", "type": "exceed_context_size_error"}}'
    path = plane.service(plane.replica(status=400, text=refusal))
    with plane.wire() as wire:
        answer = wire.ask(post("/v1/chat/completions", plane.owner_key, chat(path)))
    assert answer.status == 400
    assert answer.json()["error"] == {
        "message": "too long",
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }


def test_a_stream_arrives_event_by_event(plane: Plane) -> None:
    """The replica sends an event only after the caller has the one before."""
    replica = plane.replica()
    path = plane.service(replica)
    body = chat(path, do="stream", chunks=3, gated=True)
    with plane.wire() as wire:
        wire.send(post("/v1/chat/completions", plane.owner_key, body))
        replica.go()
        head = wire.head()
        for number in range(2):
            if number:
                replica.go()
            assert wire.chunk() == b'data: {"number": %d}\n\n' % number
        replica.go()
        # The last two may come at once.
        rest = b"".join(iter(wire.chunk, b""))
        assert rest == b'data: {"number": 2}\n\ndata: [DONE]\n\n'
        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream"
        # The connection is as good as new afterwards.
        assert wire.ask(get("/healthz")).status == 200


def test_a_large_answer_arrives_whole(plane: Plane) -> None:
    path = plane.service(plane.replica())
    body = chat(path, do="flood", bytes=8_000_000, block=50_000)
    with plane.wire() as wire:
        answer = wire.ask(post("/v1/chat/completions", plane.owner_key, body))
    assert answer.body == b"x" * 8_000_000


def test_a_large_request_arrives_whole(plane: Plane) -> None:
    replica = plane.replica()
    body = chat(plane.service(replica)) | {"padding": "y" * 1_500_000}
    with plane.http(plane.owner_key) as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    assert json.loads(replica.requests[0]["body"]) == body


def test_every_answer_has_a_request_id_of_its_own(plane: Plane) -> None:
    path = plane.service(plane.replica())
    asked = [
        get("/healthz"),
        get("/v1/models"),
        get("/v1/models", plane.owner_key),
        get("/elsewhere"),
        post("/v1/chat/completions", plane.owner_key, b"{"),
        post("/v1/chat/completions", plane.owner_key, chat(path)),
        post("/v1/chat/completions", plane.owner_key, chat(path, do="stream", chunks=1)),
        b"garbage\r\n\r\n",
    ]
    ids = []
    for request in asked:
        with plane.wire() as wire:
            ids.append(wire.ask(request).headers["x-request-id"])
    assert len(set(ids)) == len(asked)
    assert all(id_.startswith("req_") for id_ in ids)


def test_callers_may_send_the_key_as_x_api_key(plane: Plane) -> None:
    with plane.wire() as wire:
        assert wire.ask(get("/v1/models", None, (f"x-api-key: {plane.owner_key}",))).status == 200
