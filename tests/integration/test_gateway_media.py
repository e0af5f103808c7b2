"""Calls whose bodies are no JSON: forms with files in them, sound as it is made, images."""

import base64
import json

import pytest

from tests.support.data_plane import Plane
from tests.support.wire import Broken, post

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
AUDIO = "/v1/audio/transcriptions"
FORM = "content-type: multipart/form-data; boundary=xyz"


def form(model: str, *more: tuple[str, str]) -> bytes:
    fields = b"".join(
        b'--xyz\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode(), value.encode())
        for name, value in (("model", model), *more)
    )
    file = b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return fields + file + b"RIFF\x00\xff\r\n--xy\r\n--xyz--\r\n"


def asking(path: str, key: str, body: bytes, kind: str = FORM) -> bytes:
    return post(path, key, body).replace(b"content-type: application/json", kind.encode())


def pictures(*images: bytes) -> str:
    data = [{"b64_json": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"created": 1, "data": data})


def raw(body: bytes, kind: str, *, units: str = "{}") -> str:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-modelry-usage: {units}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body.decode('latin-1')}"


def test_a_form_reaches_the_replica_as_it_came(plane: Plane) -> None:
    replica = plane.replica(text='{"text": "hello"}')
    body = form(plane.service(replica, tasks=("transcription",)), ("language", "en"))
    with plane.wire() as wire:
        answer = wire.ask(asking(AUDIO, plane.owner_key, body))
    assert (answer.status, answer.json()) == (200, {"text": "hello"})
    (request,) = replica.requests
    assert request["body"].encode("latin-1") == body
    assert FORM in request["head"]


def test_an_endpoint_elsewhere_hears_its_own_name_of_the_model(plane: Plane) -> None:
    replica = plane.replica(tcp=True, text='{"text": "hello"}')
    path = plane.service(
        endpoints=(plane.endpoint(replica, model="whisper-1"),), tasks=("transcription",)
    )
    with plane.wire() as wire:
        assert wire.ask(asking(AUDIO, plane.owner_key, form(path))).status == 200
    (request,) = replica.requests
    assert request["body"].encode("latin-1") == form("whisper-1")
    assert FORM in request["head"]


def test_a_form_with_two_recordings_reaches_nobody(plane: Plane) -> None:
    replica = plane.replica()
    body = form(plane.service(replica, tasks=("transcription",)), ("file", "another"))
    with plane.wire() as wire:
        answer = wire.ask(asking(AUDIO, plane.owner_key, body))
    assert (answer.status, answer.code) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == "file"
    assert replica.requests == []


def test_a_body_of_json_is_not_passed_on_as_a_form(plane: Plane) -> None:
    """As one, a server that reads both would find another model in it."""
    replica = plane.replica(tcp=True, text="{}")
    path = plane.service(endpoints=(plane.endpoint(replica),), tasks=("image",))
    body = json.dumps({"model": path, "prompt": "&model=another&"}).encode()
    kind = "content-type: application/x-www-form-urlencoded"
    with plane.wire() as wire:
        assert wire.ask(asking("/v1/images/edits", plane.owner_key, body, kind)).status == 200
    (request,) = replica.requests
    assert "content-type: application/json" in request["head"]
    assert "urlencoded" not in request["head"]


def test_what_is_no_form_is_refused_before_it_reaches_anybody(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica, tasks=("transcription",))
    whole = form(path)
    refused = [
        asking(AUDIO, plane.owner_key, whole, "content-type: application/json"),
        asking(AUDIO, plane.owner_key, whole, "content-type: multipart/form-data"),
        asking(AUDIO, plane.owner_key, whole[:-20]),
        asking(AUDIO, plane.owner_key, b""),
    ]
    with plane.wire() as wire:
        for each in refused:
            answer = wire.ask(each)
            assert (answer.status, answer.code) == (400, "invalid_request_error")
        chat = wire.ask(asking(AUDIO, plane.owner_key, form(plane.service(replica))))
        assert (chat.status, chat.code) == (400, "unsupported_task")
    assert replica.requests == []


def test_sound_goes_out_while_it_is_made(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica, tasks=("speech",))
    head = "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n"
    head += 'x-modelry-usage: {"characters":5}\r\n\r\n'
    pieces = [head, "3\r\nabc\r\n", "3\r\ndef\r\n", "0\r\n\r\n"]
    replica.now(do="raw", pieces=pieces, gated=True, end="next")
    body = json.dumps({"model": path, "input": "hello", "voice": "x"}).encode()
    with plane.wire() as wire:
        wire.send(post("/v1/audio/speech", plane.owner_key, body))
        replica.go()
        replica.go()
        answer = wire.head()
        assert answer.headers["content-type"] == "audio/mpeg"
        assert "x-modelry-usage" not in answer.headers
        assert wire.chunk() == b"abc"
        replica.go()
        assert wire.chunk() == b"def"
        replica.go()
        assert wire.chunk() == b""
    assert plane.event(answer).characters == 5


def test_sound_that_breaks_off_does_not_look_whole(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica, tasks=("speech",))
    head = "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n"
    replica.now(do="raw", pieces=[head + "3\r\nabc\r\n"], end="close")
    body = json.dumps({"model": path, "input": "hello", "voice": "x"}).encode()
    with plane.wire() as wire, pytest.raises(Broken):
        wire.ask(post("/v1/audio/speech", plane.owner_key, body))


@pytest.mark.parametrize("edit", [False, True], ids=["generations", "edits"])
def test_images_get_addresses_that_serve_them(plane: Plane, edit: bool) -> None:
    replica = plane.replica()
    answer_text = pictures(PNG, PNG + b"2")
    units = '{"images":2,"pixels":8192}'
    replica.now(
        do="raw", pieces=[raw(answer_text.encode(), "application/json", units=units)], end="next"
    )
    path = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        if edit:
            answer = wire.ask(asking("/v1/images/edits", plane.owner_key, form(path)))
        else:
            body = json.dumps({"model": path, "prompt": "a cat"}).encode()
            answer = wire.ask(post("/v1/images/generations", plane.owner_key, body))
        urls = [image["url"] for image in answer.json()["data"]]
        assert all("b64_json" not in image for image in answer.json()["data"])
        base = "http://gateway"  # as the caller called it
        assert all(url.startswith(f"{base}/v1/images/files/") for url in urls)
        served = [wire.ask(_unsigned(url.removeprefix(base))) for url in urls]
        assert [each.body for each in served] == [PNG, PNG + b"2"]
        assert served[0].headers["content-type"] == "image/png"
        address = urls[0].removeprefix(base)
        changed = address[:-1] + ("0" if address[-1] != "0" else "1")
        assert wire.ask(_unsigned(changed)).status == 403
        assert wire.ask(_unsigned(urls[0].removeprefix(base).partition("?")[0])).status == 404
    event = plane.event(answer)
    assert (event.images, event.pixels, event.prompt_tokens) == (2, 8192, 0)


def test_an_address_stays_good_with_another_gateway(plane: Plane) -> None:
    replica = plane.replica(text=pictures(PNG))
    path = plane.service(replica, tasks=("image",))
    body = json.dumps({"model": path, "prompt": "a cat"}).encode()
    with plane.wire() as wire:
        url = wire.ask(post("/v1/images/generations", plane.owner_key, body)).json()["data"][0][
            "url"
        ]
    plane.restart_gateway()
    with plane.wire() as wire:
        assert wire.ask(_unsigned("/v1/" + url.partition("/v1/")[2])).body == PNG


def test_who_wants_the_images_themselves_gets_them(plane: Plane) -> None:
    replica = plane.replica(text=pictures(PNG))
    path = plane.service(replica, tasks=("image",))
    body = {"model": path, "prompt": "a cat", "response_format": "b64_json"}
    with plane.wire() as wire:
        answer = wire.ask(
            post("/v1/images/generations", plane.owner_key, json.dumps(body).encode())
        )
        assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == PNG
        body["response_format"] = "gif"
        wrong = wire.ask(post("/v1/images/generations", plane.owner_key, json.dumps(body).encode()))
        assert (wrong.status, wrong.json()["error"]["param"]) == (400, "response_format")


def test_an_answer_without_images_is_no_answer(plane: Plane) -> None:
    replica = plane.replica(text='{"created": 1, "data": [{"b64_json": "not base64!"}]}')
    path = plane.service(replica, tasks=("image",))
    body = json.dumps({"model": path, "prompt": "a cat"}).encode()
    with plane.wire() as wire:
        answer = wire.ask(post("/v1/images/generations", plane.owner_key, body))
    assert (answer.status, answer.code) == (500, "internal_error")


def _unsigned(target: str) -> bytes:
    """A browser's request for an image: without a key."""
    return f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
