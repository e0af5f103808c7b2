"""Serves a Whisper model with faster-whisper, for engine `faster-whisper`.

Requests run in threads, each on its own recording; CTranslate2 has as many workers as there are
slots. A caller who has gone is noticed between segments.
"""

import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from modelry.runners import transcripts
from modelry.runners.configuration import RunnerConfig
from modelry.runners.recordings import Recording
from modelry.runners.refusals import Cancelled, Refused
from modelry.runners.serving import (
    Feed,
    event,
    frames,
    in_thread,
    serve,
    started,
    units,
    unloadable,
)
from modelry.runners.transcription_request import Asked, read_fields
from modelry.runners.transcripts import Segment, Transcript, Word

_MINUTES_MOST = 240
_FIELDS_MOST = 100
_CONTEXT = 200
"""Characters of what was said that go on into the next piece of a long recording."""
_CERTAIN = 0.5
"""Of a language: music and silence seem to be in any, and are in none."""
_TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
_EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Model:
    """A loaded model. `options`: `beam_size`, `vad`, `max_minutes`, `compute_type`."""

    def __init__(self, config: RunnerConfig) -> None:
        from faster_whisper import WhisperModel  # type: ignore[import-not-found, unused-ignore]

        # It would tell of each recording.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        options = config.options
        on_gpu = config.gpus > 0
        self.most_s = 60.0 * options.get("max_minutes", _MINUTES_MOST)
        self._beam_size = int(options.get("beam_size", 5))
        self._vad = bool(options.get("vad", False))
        self._model: Any = WhisperModel(
            config.weights,
            device="cuda" if on_gpu else "cpu",
            device_index=list(range(config.gpus)) if on_gpu else 0,
            compute_type=options.get("compute_type", "float16" if on_gpu else "int8"),
            cpu_threads=max(1, config.threads // config.slots),
            num_workers=config.slots,
            local_files_only=True,
        )
        self.multilingual = bool(self._model.model.is_multilingual)

    def warm_up(self) -> None:
        """The first call takes longer: nobody's is to be it."""
        import numpy

        for _ in self._model.transcribe(numpy.zeros(16_000, numpy.float32), beam_size=1)[0]:
            pass

    def segments(
        self, recording: Recording, asked: Asked, gone: threading.Event
    ) -> Iterator[tuple[str, Segment]]:
        """The language and what was said, as it is heard. Raises `Cancelled` and what the recording
        does.

        Each piece is heard in the language that it seems to be in, until one has said something
        and is likelier in its language than in all others: the rest is heard in that. So the
        last segment's is that of the recording.
        """
        language, prompt = asked.language, asked.prompt
        for begin, samples in recording.pieces():
            found, info = self._model.transcribe(
                samples,
                language=language,
                task="translate" if asked.translate else "transcribe",
                initial_prompt=prompt,
                # At 0 it is raised by itself where the model seems to be lost.
                temperature=asked.temperature or _TEMPERATURES,
                word_timestamps=asked.words,
                vad_filter=self._vad if asked.vad is None else asked.vad,
                beam_size=self._beam_size,
            )
            said = ""
            for each in found:
                if gone.is_set():
                    raise Cancelled
                said += each.text
                yield info.language, _segment(each, begin)
            if said.strip() and info.language_probability > _CERTAIN:
                language = info.language
            prompt = said[-_CONTEXT:] or prompt


def main() -> None:
    config = started()
    weights = Path(config.weights)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (weights / name).is_file():
            unloadable(f"there is no {name} beside the others: it is no Whisper model")
    try:
        model = Model(config)
        model.warm_up()
    except (RuntimeError, ValueError, OSError, AttributeError, TypeError) as problem:
        if "out of memory" in str(problem):
            raise
        unloadable(str(problem) or type(problem).__name__)
    serve(config, routes(model))


def routes(model: Model) -> list[Any]:
    async def transcriptions(request: Request) -> Response:
        return await _answer(model, request, translate=False)

    async def translations(request: Request) -> Response:
        return await _answer(model, request, translate=True)

    return [
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/v1/audio/translations", translations, methods=["POST"]),
    ]


async def _answer(model: Model, request: Request, *, translate: bool) -> Response:
    form = await _form(request)
    handed_over = False
    try:
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        asked = read_fields(fields, translate=translate, multilingual=model.multilingual)
        file = _file(form)
        if asked.stream:
            streamed = await _streamed(request, model, file, asked, form)
            handed_over = True
            return streamed

        def work(gone: threading.Event) -> Transcript:
            recording = Recording(file.file, model.most_s, gone)
            duration_s = recording.measure()
            heard = list(model.segments(recording, asked, gone))
            language = heard[-1][0] if heard else asked.language or "en"
            return Transcript(tuple(segment for _, segment in heard), language, duration_s)

        transcript = await in_thread(request, work)
    finally:
        if not handed_over:
            await form.close()
    headers = units(audio_s=round(transcript.duration_s, 3))
    if asked.format == "json":
        return JSONResponse(transcripts.brief(transcript), headers=headers)
    if asked.format == "verbose_json":
        told = transcripts.verbose(
            transcript, translated=translate, words=asked.words, segments=asked.segments
        )
        return JSONResponse(told, headers=headers)
    text = _TEXTS[asked.format](transcript)
    return Response(text, headers=headers, media_type=transcripts.MIME[asked.format])


async def _streamed(
    request: Request, model: Model, file: UploadFile, asked: Asked, form: FormData
) -> Response:
    """OpenAI's events: what was said, as it is heard, and at last all of it. The answer closes the
    form, unless an error is raised here.
    """

    def make(feed: "Feed[float | bytes]") -> None:
        recording = Recording(file.file, model.most_s, feed.gone)
        duration_s = recording.measure()
        feed.put(duration_s)
        text = ""
        for _, segment in model.segments(recording, asked, feed.gone):
            delta = segment.text if text else segment.text.lstrip()
            if delta:
                text += delta
                feed.put(event({"type": "transcript.text.delta", "delta": delta}))
        usage = transcripts.usage(duration_s)
        feed.put(event({"type": "transcript.text.done", "text": text, "usage": usage}))

    feed: Feed[float | bytes] = Feed(make)
    duration_s = cast(float, await feed.first(request))

    async def body() -> AsyncIterator[bytes]:
        try:
            # Only the first is a number.
            async with aclosing(frames(cast(AsyncGenerator[bytes, None], feed.rest()))) as events:
                async for each in events:
                    yield each
        finally:
            await form.close()

    headers = {**_EVENTS, **units(audio_s=round(duration_s, 3))}
    return StreamingResponse(body(), headers=headers)


async def _form(request: Request) -> FormData:
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Refused("Send a form, multipart/form-data, with the fields 'file' and 'model'.")
    try:
        return await request.form(max_files=8, max_fields=_FIELDS_MOST)
    except HTTPException as problem:
        raise Refused(f"The form cannot be read: {problem.detail}") from None


def _file(form: FormData) -> UploadFile:
    found = form.get("file")
    if not isinstance(found, UploadFile):
        raise Refused("The form lacks 'file': the recording, sent as a file.", param="file")
    if not found.size:
        raise Refused("The file is empty.", param="file")
    return found


def _segment(heard: Any, begin: float) -> Segment:
    """One of faster-whisper's, of a piece that begins at `begin`."""
    return Segment(
        start=begin + heard.start,
        end=begin + heard.end,
        text=heard.text,
        tokens=tuple(heard.tokens),
        words=tuple(
            Word(word.word, begin + float(word.start), begin + float(word.end))
            for word in heard.words or ()
        ),
        seek=int(begin * 100) + heard.seek,
        temperature=float(heard.temperature),
        avg_logprob=float(heard.avg_logprob),
        compression_ratio=float(heard.compression_ratio),
        no_speech_prob=float(heard.no_speech_prob),
    )


_TEXTS: dict[str, Callable[[Transcript], str]] = {
    "text": transcripts.plain,
    "srt": transcripts.srt,
    "vtt": transcripts.vtt,
}
