"""Serves a voice, for the engines `hibari` and `kokoro`.

Text is read sentence by sentence, and each goes out once it is there: a caller hears the first
while the others are made. A caller who has gone is noticed between sentences.
"""

import base64
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from modelry.runners.configuration import RunnerConfig
from modelry.runners.hibari_voice import HibariVoices
from modelry.runners.kokoro_voices import KokoroVoices
from modelry.runners.refusals import Cancelled, Refused
from modelry.runners.sentences import split
from modelry.runners.serving import Feed, event, frames, serve, started, units, unloadable
from modelry.runners.sounds import MIME, encoder, wav_header
from modelry.runners.speech_request import CHARACTERS_MOST, Asked, Voices, read_body
from modelry.runners.tempo import quickened

log = logging.getLogger("speech")


class Backend(Protocol):
    """What makes sound of sentences. `rate`: samples a second. `quickest`: the speed up to which
    it can speak by itself.
    """

    voices: Voices
    rate: int
    quickest: float

    def speak(self, sentence: str, voice: str, speed: float) -> Any:
        """float32 samples from -1 to 1, one channel; none where nothing of it can be read."""
        ...


_BACKENDS = {"hibari": HibariVoices, "kokoro": KokoroVoices}


def main() -> None:
    config = started()
    backend = _loaded(config)
    most = int(config.options.get("max_characters", CHARACTERS_MOST))

    async def speech(request: Request) -> Response:
        asked = read_body(await request.body(), backend.voices, most)
        return await speech_answer(request, backend, asked)

    async def voices(_request: Request) -> Response:
        data = [{"id": name, "object": "voice"} for name in sorted(backend.voices.names)]
        return JSONResponse({"object": "list", "data": data, "default": backend.voices.default})

    routes = [
        Route("/v1/audio/speech", speech, methods=["POST"]),
        Route("/v1/audio/voices", voices),
    ]
    serve(config, [*routes])


def _loaded(config: RunnerConfig) -> Backend:
    make: Any = _BACKENDS[config.options["engine"]]
    threads = max(1, config.threads // config.slots)
    try:
        backend: Backend = make(Path(config.weights), threads)
        # The first call takes longer: nobody's is to be it.
        backend.speak("Hello.", backend.voices.default, 1.0)
    except MemoryError:
        raise
    except Exception as problem:
        unloadable(str(problem) or type(problem).__name__)
    return backend


async def speech_answer(request: Request, backend: Backend, asked: Asked) -> Response:
    """Sound or events, as they are made. Raises `Refused` and `Cancelled` before the first."""

    def make(feed: "Feed[bytes]") -> None:
        for sound in _sounds(backend, asked, feed):
            if sound:
                feed.put(_delta(sound) if asked.events else sound)
        if asked.events:
            feed.put(_done(asked))

    feed: Feed[bytes] = Feed(make)
    # A text of which nothing can be read is refused here, and so is one that begins so.
    first = cast(bytes, await feed.first(request))
    body = (frames if asked.events else _plain)(feed.rest(), first)
    kind = "text/event-stream; charset=utf-8" if asked.events else MIME[asked.format]
    headers = {"content-type": kind, **units(characters=asked.characters)}
    if asked.events:
        headers["cache-control"] = "no-cache"
    return StreamingResponse(body, headers=headers)


async def _plain(sounds: AsyncGenerator[bytes, None], first: bytes) -> AsyncGenerator[bytes, None]:
    """Sound has no place for an error: where the engine itself breaks, the answer is cut off, which
    its caller sees.
    """
    async with aclosing(sounds):
        yield first
        async for each in sounds:
            yield each


def _sounds(backend: Backend, asked: Asked, feed: "Feed[bytes]") -> Any:
    """The encoded sound, sentence by sentence. Raises `Refused` where there would be none, and at a
    sentence that cannot be read. In plain sound that has begun such a one is left out.
    """
    sentences = split(asked.text)
    coder = encoder(asked.format, backend.rate)
    heard = False
    for sentence in sentences:
        if feed.gone.is_set():
            raise Cancelled
        try:
            samples = _spoken(backend, asked, sentence)
        except Refused:
            if heard and not asked.events:
                continue
            raise
        if not len(samples):
            continue
        if asked.format == "wav" and len(sentences) == 1:
            # All of it is here, so its header can say how long it is.
            sound = coder.feed(samples)
            empty = len(wav_header(backend.rate))
            yield wav_header(backend.rate, len(sound) - empty) + sound[empty:]
        else:
            yield coder.feed(samples)
        heard = True
    if not heard:
        raise Refused("input has no word in it that could be read aloud.", param="input")
    yield coder.end()


def _spoken(backend: Backend, asked: Asked, sentence: str) -> Any:
    by_itself = min(asked.speed, backend.quickest)
    try:
        samples = backend.speak(sentence, asked.voice, by_itself)
    except (IndexError, KeyError, ValueError) as problem:
        # Their readers of spelling have corners where they fail; the text stays out of the log.
        log.warning("a sentence could not be read: %s", type(problem).__name__)
        shown = sentence if len(sentence) <= 60 else sentence[:60] + "…"
        raise Refused(f"input: {shown!r} cannot be read aloud.", param="input") from None
    return quickened(samples, backend.rate, asked.speed / by_itself)


def _delta(sound: bytes) -> bytes:
    return event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})


def _done(asked: Asked) -> bytes:
    # Text and sound are not counted in tokens here; OpenAI's clients want the fields.
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    return event({"type": "speech.audio.done", "usage": usage})
