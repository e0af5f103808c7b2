"""Transcripts in the forms that callers ask for. Pure.

SubRip and WebVTT: https://www.w3.org/TR/webvtt1/#file-structure
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelry.runners.languages import NAMES

MIME = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


@dataclass(frozen=True)
class Word:
    """`start`, `end`: seconds from the beginning of the recording."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Segment:
    """What was said from `start` to `end` (seconds), and how sure the model is of it.

    `text` begins with a space where one belongs between it and what was said before.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()
    seek: int = 0
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 1.0
    no_speech_prob: float = 0.0


@dataclass(frozen=True)
class Transcript:
    """`language`: its code. `duration_s`: of the whole recording."""

    segments: tuple[Segment, ...]
    language: str
    duration_s: float

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()


def plain(transcript: Transcript) -> str:
    return transcript.text + "\n"


def srt(transcript: Transcript) -> str:
    cues = [
        f"{number}\n{_clock(each.start, ',')} --> {_clock(each.end, ',')}\n{_line(each.text)}\n"
        for number, each in enumerate(_spoken(transcript.segments), 1)
    ]
    return "\n".join(cues)


def vtt(transcript: Transcript) -> str:
    cues = [
        f"{_clock(each.start, '.')} --> {_clock(each.end, '.')}\n{_escaped(_line(each.text))}\n"
        for each in _spoken(transcript.segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def brief(transcript: Transcript) -> dict[str, Any]:
    return {"text": transcript.text, "usage": usage(transcript.duration_s)}


def verbose(
    transcript: Transcript, *, translated: bool, words: bool, segments: bool
) -> dict[str, Any]:
    """OpenAI's `verbose_json`; of a translation, the language is that of the text."""
    language = "en" if translated else transcript.language
    told: dict[str, Any] = {
        "task": "translate" if translated else "transcribe",
        "language": NAMES.get(language, language),
        "duration": round(transcript.duration_s, 2),
        "text": transcript.text,
    }
    if segments:
        told["segments"] = [_segment(id, each) for id, each in enumerate(transcript.segments)]
    if words:
        told["words"] = [
            {"word": word.text.strip(), "start": round(word.start, 2), "end": round(word.end, 2)}
            for segment in transcript.segments
            for word in segment.words
        ]
    return {**told, "usage": usage(transcript.duration_s)}


def _segment(id: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": id,
        "seek": segment.seek,
        "start": round(segment.start, 2),
        "end": round(segment.end, 2),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def usage(duration_s: float) -> dict[str, Any]:
    """OpenAI's, of a model that is paid by the second: whole ones, of what has begun."""
    return {"type": "duration", "seconds": -int(-duration_s // 1)}


def _spoken(segments: Sequence[Segment]) -> list[Segment]:
    return [each for each in segments if each.text.strip()]


def _line(text: str) -> str:
    # An arrow would end a cue's text, and so would an empty line.
    return " ".join(text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    """`00:01:02,345`"""
    thousandths = max(0, round(seconds * 1000))
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{thousandths // 1000:02}{point}{thousandths % 1000:03}"
