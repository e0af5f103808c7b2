"""Text of which a part cannot be read aloud, found out when the answer has begun."""

import asyncio
import json
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message

from modelry.runners.refusals import Refused
from modelry.runners.speech_request import Asked, Voices
from modelry.runners.speech_runner import speech_answer

numpy: Any = pytest.importorskip("numpy")

SAMPLE = b"\xff\x7f"


class Voice:
    """Makes a sample of each letter; it cannot read an X, and breaks at a Y."""

    voices = Voices({"one": True}, "one")
    rate = 24_000
    quickest = 1.0

    def speak(self, sentence: str, _voice: str, _speed: float) -> Any:
        if "X" in sentence:
            raise IndexError
        if "Y" in sentence:
            raise RuntimeError("a secret")
        return numpy.ones(sum(each.isalpha() for each in sentence), numpy.float32)


async def _receive() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def said(text: str, *, events: bool = False) -> bytes:
    async def run() -> bytes:
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, _receive)
        asked = Asked(text, "one", len(text), "pcm", events=events)
        answer = await speech_answer(request, Voice(), asked)
        assert isinstance(answer, StreamingResponse)
        return b"".join([cast(bytes, part) async for part in answer.body_iterator])

    return asyncio.run(run())


def test_plain_sound_goes_on_behind_a_sentence_that_cannot_be_read() -> None:
    assert said("Abc. XX! De. XXX! Fg.") == SAMPLE * 7


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("text", ["XX! Abc.", "XX!"])
def test_text_that_begins_with_what_cannot_be_read_is_refused(text: str, events: bool) -> None:
    with pytest.raises(Refused) as caught:
        said(text, events=events)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("text", "param", "code"),
    [("Abc. XX! De.", "input", "invalid_request_error"), ("Abc. YY! De.", None, "engine_error")],
)
def test_events_that_break_off_end_with_an_error(text: str, param: str | None, code: str) -> None:
    lines = said(text, events=True).decode().splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["type"] for event in told] == ["speech.audio.delta", "error"]
    assert (told[1]["error"]["param"], told[1]["error"]["code"]) == (param, code)
    assert "a secret" not in str(told)


def test_plain_sound_is_cut_off_where_the_engine_breaks() -> None:
    with pytest.raises(RuntimeError):
        said("Abc. YY! De.")
