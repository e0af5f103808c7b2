"""What may be asked to be read aloud, and what is said where it may not."""

import json
from typing import Any

import pytest

from modelry.runners.refusals import Refused
from modelry.runners.speech_request import OPENAI_VOICES, Asked, Voices, read_body

VOICES = Voices({"heart": True, "emma": True, "hf_alpha": False}, "heart")


def read(most: int = 4096, **fields: Any) -> Asked:
    return read_body(json.dumps(fields).encode(), VOICES, most)


def refused(body: bytes | None = None, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read_body(json.dumps(fields).encode() if body is None else body, VOICES)
    assert caught.value.status == 400
    return caught.value


def test_a_text_is_enough() -> None:
    assert read(input="Hello.") == Asked("Hello.", "heart", 6)


def test_every_field_is_read() -> None:
    asked = read(
        input=" Hello.\x00 ",
        voice={"id": "emma"},
        response_format="opus",
        speed=2,
        stream_format="sse",
        model="u-1/x",
        instructions="",
    )
    assert asked == Asked("Hello.", "emma", 9, "opus", 2.0, events=True)


@pytest.mark.parametrize("voice", sorted(OPENAI_VOICES))
def test_openais_voices_are_the_default_one(voice: str) -> None:
    assert read(input="Hi", voice=voice).voice == "heart"


def test_a_voice_of_the_models_own_comes_before_openais() -> None:
    voices = Voices({"heart": True, "fable": True}, "heart")
    assert read_body(b'{"input": "Hi", "voice": "fable"}', voices).voice == "fable"


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({}, "input", "missing"),
        ({"input": ["Hi"]}, "input", "missing"),
        ({"input": ""}, "input", "no word"),
        ({"input": "?! 😀"}, "input", "no word"),
        ({"input": "\ud800"}, "input", "no word"),
        ({"input": "Привет, мир"}, "input", "'П'"),
        ({"input": "a" * 4097}, "input", "4097 characters, and may have 4096"),
        ({"input": "Hi", "voice": "bob"}, "voice", "emma, heart, hf_alpha"),
        ({"input": "Hi", "voice": {"name": "emma"}}, "voice", "emma, heart, hf_alpha"),
        ({"input": "Hi", "voice": 7}, "voice", "7"),
        ({"input": "Hi", "voice": ["emma"]}, "voice", "emma"),
        ({"input": "Hi", "response_format": "ogg"}, "response_format", "mp3, opus, aac"),
        ({"input": "Hi", "response_format": ["mp3"]}, "response_format", "mp3"),
        ({"input": "Hi", "speed": 0.2}, "speed", "0.25 to 4"),
        ({"input": "Hi", "speed": 4.1}, "speed", "0.25 to 4"),
        ({"input": "Hi", "speed": "fast"}, "speed", "0.25 to 4"),
        ({"input": "Hi", "speed": True}, "speed", "0.25 to 4"),
        ({"input": "Hi", "speed": float("nan")}, "speed", "0.25 to 4"),
        ({"input": "Hi", "speed": 10**400}, "speed", "0.25 to 4"),
        ({"input": "Hi", "stream_format": "ws"}, "stream_format", "audio, sse"),
        ({"input": "Hi", "instructions": "Whisper."}, "instructions", "leave the field out"),
    ],
)
def test_what_cannot_be_done_is_named_with_what_can(
    fields: dict[str, Any], param: str, told: str
) -> None:
    refusal = refused(**fields)
    assert refusal.param == param
    assert told in refusal.message
    assert len(refusal.message) < 300


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert "JSON object" in refused(body).message


def test_a_script_is_refused_only_of_a_voice_that_cannot_read_it() -> None:
    assert read(input="नमस्ते", voice="hf_alpha").text == "नमस्ते"


def test_more_characters_may_be_allowed() -> None:
    assert read(most=5000, input="a " * 2500).characters == 5000
