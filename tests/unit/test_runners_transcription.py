"""In which language a long recording is heard, and what becomes of the form it came in."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from modelry.runners import transcription_runner
from modelry.runners.configuration import RunnerConfig
from modelry.runners.recordings import Recording
from modelry.runners.refusals import Refused
from modelry.runners.transcription_request import Asked
from modelry.runners.transcription_runner import Model, routes
from modelry.runners.transcripts import Segment

CONFIG = RunnerConfig("ears", "unix:/a.sock", "secret", "/weights", slots=1, threads=1)


@dataclass
class Heard:
    """What a model hears in a piece, unless it was told the language."""

    language: str
    probability: float
    text: str


@dataclass
class Whisper:
    """Stands in for faster-whisper's. `told`: the language it was told for each piece."""

    pieces: Sequence[Heard]
    told: list[str | None] = field(default_factory=list)

    def transcribe(self, number: int, language: str | None, **_more: Any) -> tuple[Any, Any]:
        self.told.append(language)
        heard = self.pieces[number]
        said = [segment(heard.text)] if heard.text else []
        if language is None:
            info = SimpleNamespace(language=heard.language, language_probability=heard.probability)
        else:
            info = SimpleNamespace(language=language, language_probability=1)
        return iter(said), info


def segment(text: str) -> Any:
    numbers = dict.fromkeys(
        ("start", "end", "seek", "temperature", "avg_logprob", "compression_ratio",
         "no_speech_prob"), 0,
    )  # fmt: skip
    return SimpleNamespace(text=text, tokens=[], words=None, **numbers)


class Pieces:
    """Stands in for a recording: the samples of each piece are its number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def pieces(self) -> Iterator[tuple[float, int]]:
        return ((180.0 * number, number) for number in range(self._count))


def languages(
    monkeypatch: pytest.MonkeyPatch, asked: Asked, *pieces: Heard
) -> tuple[list[str | None], list[str]]:
    """What the model was told of each piece, and the languages of what was said."""
    whisper = Whisper(pieces)
    loaded = SimpleNamespace(
        transcribe=whisper.transcribe, model=SimpleNamespace(is_multilingual=True)
    )
    library = SimpleNamespace(WhisperModel=lambda *_weights, **_options: loaded)
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    recording = cast(Recording, Pieces(len(pieces)))
    said = Model(CONFIG).segments(recording, asked, threading.Event())
    return whisper.told, [language for language, _ in said]


MUSIC = Heard("cy", 0.2, " la la")
SILENCE = Heard("en", 0.9, "")
GERMAN, FRENCH = Heard("de", 0.98, " Guten Tag."), Heard("fr", 0.97, " Bonjour.")


@pytest.mark.parametrize(
    ("pieces", "told", "found"),
    [
        ((GERMAN, FRENCH), [None, "de"], ["de", "de"]),
        ((MUSIC, GERMAN, FRENCH), [None, None, "de"], ["cy", "de", "de"]),
        ((SILENCE, GERMAN, MUSIC), [None, None, "de"], ["de", "de"]),
        ((MUSIC, MUSIC), [None, None], ["cy", "cy"]),
    ],
)
def test_a_language_is_kept_once_a_piece_is_surely_in_it(
    monkeypatch: pytest.MonkeyPatch,
    pieces: tuple[Heard, ...],
    told: list[str | None],
    found: list[str],
) -> None:
    assert languages(monkeypatch, Asked(), *pieces) == (told, found)


def test_a_language_that_was_asked_for_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(language="it")
    assert languages(monkeypatch, asked, MUSIC, GERMAN) == (["it", "it"], ["it", "it"])


# -- answers -------------------------------------------------------------------


class Ears:
    """Stands in for a loaded model that hears one segment, and then what it raises."""

    multilingual = True
    most_s = 60.0

    def __init__(self, problem: Exception | None) -> None:
        self._problem = problem

    def segments(self, *_arguments: Any) -> Iterator[tuple[str, Segment]]:
        yield "en", Segment(0, 1, " Hello.")
        if self._problem is not None:
            raise self._problem


class Sound:
    """Stands in for a recording of two seconds. `files`: those that were heard."""

    files: list[Any]

    def __init__(self, file: Any, _most_s: float, _gone: threading.Event) -> None:
        self.files.append(file)

    def measure(self) -> float:
        return 2.0


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The uploads that a runner has read."""
    monkeypatch.setattr(Sound, "files", [], raising=False)
    monkeypatch.setattr(transcription_runner, "Recording", Sound)
    return Sound.files


def request(**fields: str) -> Request:
    parts = [f'name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    parts.append('name="file"; filename="a.wav"\r\n\r\nsound')
    body = "".join(f"--b\r\ncontent-disposition: form-data; {part}\r\n" for part in parts) + "--b--"
    messages = [{"type": "http.request", "body": body.encode(), "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    return Request(scope, receive)


async def answer(problem: Exception | None, **fields: str) -> Response:
    found: Response = await routes(cast(Model, Ears(problem)))[0].endpoint(request(**fields))
    return found


def streamed_events(files: list[Any], problem: Exception | None) -> list[Any]:
    async def run() -> list[Any]:
        streamed = await answer(problem, model="ears", stream="true")
        assert isinstance(streamed, StreamingResponse)
        assert not files[0].closed
        said = b"".join([cast(bytes, part) async for part in streamed.body_iterator]).decode()
        return [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: ")]

    return asyncio.run(run())


def test_a_stream_ends_with_all_that_was_said_and_how_long_the_recording_is(
    files: list[Any],
) -> None:
    delta, done = streamed_events(files, None)
    assert done == {
        "type": "transcript.text.done",
        "text": delta["delta"],
        "usage": {"type": "duration", "seconds": 2},
    }


@pytest.mark.parametrize("problem", [Refused("damaged", param="file"), RuntimeError("a secret")])
def test_a_stream_that_breaks_off_ends_with_an_error(files: list[Any], problem: Exception) -> None:
    events = streamed_events(files, problem)
    assert [event["type"] for event in events] == ["transcript.text.delta", "error"]
    told = events[1]["error"]
    assert told["param"] == getattr(problem, "param", None)
    assert told["code"] == getattr(problem, "code", "engine_error")
    assert "a secret" not in str(events)
    assert [file.closed for file in files] == [True]


@pytest.mark.parametrize("problem", [None, Refused("damaged")])
def test_an_upload_is_closed_behind_a_whole_answer(
    files: list[Any], problem: Exception | None
) -> None:
    if problem is None:
        assert asyncio.run(answer(None, model="ears")).status_code == 200
    else:
        with pytest.raises(Refused):
            asyncio.run(answer(problem, model="ears"))
    assert [file.closed for file in files] == [True]
