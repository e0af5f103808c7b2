"""What calls of images and speech are counted as, where nobody says."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.gateway import body as bodies
from modelry.gateway import forms
from modelry.gateway.image_answers import ImageAnswers
from modelry.gateway.request import Request
from modelry.gateway.tasks import ANY_TASK, ENDPOINTS, SHAPES, TOKENLESS
from modelry.gateway.usage import (
    NO_UNITS,
    Units,
    Usage,
    read_answer,
    read_duration,
    read_units,
)
from modelry.routing.messages import Route

ROUTE = Route("svc_1", "u-0123456789ab/x", "u-0123456789ab", ("image",), "running", "", 0)


def counted(
    path: str, body: bytes, content_type: str = "application/json", *, addressed: bool = False
) -> Usage:
    """`addressed`: as where images get addresses, if the caller wants any."""
    request = Request("127.0.0.1", 0.0)
    request.target, request.body = path.encode(), body
    request.headers = [(b"content-type", content_type.encode())]
    request.complete_head()
    boundary = forms.boundary_of(request) if request.path in forms.ENDPOINTS else None
    head = forms.read(body, boundary) if boundary else bodies.read(body)
    shape = SHAPES[request.path]
    if addressed:
        # Of a caller who wants none, neither is asked.
        nobody = cast(Any, None)
        shape = ImageAnswers(nobody, nobody, None, shape).shape
    shaping = shape(request, head, ROUTE)
    assert shaping is not None
    # It goes through as it came.
    assert shaping.request(body) is body
    return shaping.estimated()


def images(**fields: Any) -> Units:
    used = counted("/v1/images/generations", json.dumps({"model": "x", **fields}).encode())
    assert (used.prompt_tokens, used.completion_tokens) == (0, 0)
    return used.units


def form(**fields: str) -> bytes:
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"model": "x", **fields}.items()
    ]
    file = '--edge\r\nContent-Disposition: form-data; name="image"; filename="size"\r\n\r\n1x1\r\n'
    return "".join([file, *parts, "--edge--\r\n"]).encode()


# -- images ------------------------------------------------------------------


def test_images_are_counted_by_number_and_size() -> None:
    assert images(prompt="a gull") == Units(images=1)
    assert images(n=3, size="64x32") == Units(images=3, pixels=3 * 64 * 32)
    assert images(size="1024x1024") == Units(images=1, pixels=1024 * 1024)


@pytest.mark.parametrize(
    "size", ["auto", "", "64", "64x", "0x64", "999999x9", "64x64x64", 64, None]
)
def test_of_a_size_that_is_none_no_pixels_are_counted(size: object) -> None:
    assert images(n=2, size=size) == Units(images=2)


@pytest.mark.parametrize("n", [0, -1, 1.5, "7", None, [], True])
def test_a_number_that_is_none_counts_as_one(n: object) -> None:
    assert images(n=n) == Units(images=1)


def test_no_number_spoils_the_sums() -> None:
    most = images(n=2**62, size="99999x99999")
    assert most.images == 128
    assert most.pixels < 2**41


def test_images_that_are_edited_are_counted_by_the_forms_fields() -> None:
    body = form(n="2", size="64x64")
    used = counted("/v1/images/edits", body, 'multipart/form-data; boundary="edge"')
    assert used.units == Units(images=2, pixels=2 * 64 * 64)
    as_json = json.dumps({"model": "x", "n": 2, "size": "64x64"}).encode()
    assert counted("/v1/images/edits", as_json).units == used.units


def test_a_form_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def parts(body: bytes, boundary: bytes) -> Iterator[forms.Part]:
        read.append(boundary)
        return plain(body, boundary)

    plain = forms.parts
    monkeypatch.setattr(forms, "parts", parts)
    kind = 'multipart/form-data; boundary="edge"'
    body = form(size="64x64", response_format="b64_json")
    used = counted("/v1/images/edits", body, kind, addressed=True)
    assert used.units == Units(images=1, pixels=64 * 64)
    assert read == [b"edge"]


# -- speech ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "characters"), [("Say this.", 9), ("Grüße 🐦", 7), ("", 0), (7, 0), (None, 0)]
)
def test_speech_is_counted_by_characters(text: object, characters: int) -> None:
    body = json.dumps({"model": "x", "input": text, "voice": "alloy"}, ensure_ascii=False).encode()
    assert counted("/v1/audio/speech", body).units == Units(characters=characters)


@given(st.binary(max_size=60))
def test_no_body_that_names_a_model_breaks_the_counting(rest: bytes) -> None:
    for path in ("/v1/audio/speech", "/v1/images/generations"):
        body = b'{"model":"x","input":"' + rest + b'","size":"' + rest + b'"}'
        try:
            bodies.read(body)
        except Exception:
            continue
        units = counted(path, body).units
        assert 0 <= units.characters <= len(rest)


def test_a_deeply_nested_field_is_not_followed() -> None:
    nest = b"[" * 400 + b"]" * 400
    for path in ("/v1/audio/speech", "/v1/images/generations"):
        body = b'{"model":"x","input":' + nest + b',"size":' + nest + b"}"
        assert counted(path, body).units in (NO_UNITS, Units(images=1))


def test_how_long_a_file_plays_is_not_guessed() -> None:
    used = counted("/v1/audio/transcriptions", form(), "multipart/form-data; boundary=edge")
    assert used == Usage(0, 0)


def test_every_call_without_tokens_is_counted_by_something_else() -> None:
    assert set(SHAPES) >= TOKENLESS
    assert {ENDPOINTS[path] for path in TOKENLESS} == {
        ANY_TASK,
        "image",
        "speech",
        "transcription",
    }


# -- what answers say --------------------------------------------------------


def test_usage_of_openais_images_is_read() -> None:
    details = {"text_tokens": 10, "image_tokens": 0}
    usage = {"input_tokens": 10, "output_tokens": 40, "total_tokens": 50}
    answer = {"created": 7, "data": [], "usage": {**usage, "input_tokens_details": details}}
    assert read_answer(json.dumps(answer).encode()) == (Usage(10, 40), None)


def test_usage_of_openais_transcriptions_is_read_by_tokens_and_by_length() -> None:
    details = {"text_tokens": 0, "audio_tokens": 14}
    usage = {"input_tokens": 14, "output_tokens": 5, "total_tokens": 19}
    tokens = {"type": "tokens", **usage, "input_token_details": details}
    said, _ = read_answer(json.dumps({"text": "hi", "usage": tokens}).encode())
    assert said == Usage(14, 5)
    assert said is not None
    assert said.units is NO_UNITS
    for seconds in (9, 8.47):
        length = {"type": "duration", "seconds": seconds}
        said, _ = read_answer(json.dumps({"text": "hi", "usage": length}).encode())
        assert said == Usage(0, 0, units=Units(audio_s=seconds))


@pytest.mark.parametrize("seconds", [-1, 1e300, 2**31])
def test_a_length_that_cannot_be_is_no_length(seconds: float) -> None:
    answer = json.dumps({"usage": {"type": "duration", "seconds": seconds}}).encode()
    assert read_answer(answer) == (Usage(0, 0), None)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ('{"task": "transcribe", "duration": 8.47, "text": "hi"}', 8.47),
        ('{"duration": "12.5", "text": "hi"}', 12.5),
        ('{"duration": 3}', 3.0),
        ('{"duration": "nan"}', 0.0),
    ],
)
def test_a_transcription_without_usage_may_say_how_long_it_was(answer: str, seconds: float) -> None:
    assert read_duration(answer.encode()) == Usage(0, 0, units=Units(audio_s=seconds))


@pytest.mark.parametrize(
    "answer", ['{"text": "hi"}', '{"duration": []}', '{"duration": "1e400"}', "[]", "", '"\xff"']
)
def test_another_does_not(answer: str) -> None:
    assert read_duration(answer.encode("latin-1")) is None


def test_a_replicas_header_is_read() -> None:
    assert read_units(b'{"images":2,"pixels":8192}') == Units(images=2, pixels=8192)
    assert read_units(b'{"audio_s":7}') == Units(audio_s=7.0)


@pytest.mark.parametrize("header", [b"", b"7", b"{", b'{"images":-1}', b'{"audio_s":1e300}'])
def test_a_header_that_is_none_counts_as_nothing_said(header: bytes) -> None:
    assert read_units(header) is NO_UNITS
