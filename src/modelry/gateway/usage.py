"""What an answer says it used, and what it calls its model."""

from typing import Any

import msgspec


class Units(msgspec.Struct, frozen=True):
    """What an answer used beyond tokens; see `UsageEvent`."""

    images: int = 0
    pixels: int = 0
    audio_s: float = 0.0
    characters: int = 0


NO_UNITS = Units()


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    units: Units = NO_UNITS


NOTHING = Usage(0, 0)
_MOST = 1 << 31


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Said(msgspec.Struct):
    """OpenAI's names; `input_tokens` and `output_tokens` are those of its newer endpoints."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    seconds: float | None = None
    """Of the speech that was heard, where a transcription is told by its length."""
    prompt_tokens_details: _Details | None = None


class _Transcription(msgspec.Struct):
    duration: float | None = None


class _Answer(msgspec.Struct):
    usage: _Said | None = None
    model: Any = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_duration = msgspec.json.Decoder(_Transcription, strict=False).decode
_decode_units = msgspec.json.Decoder(Units).decode


def read_answer(answer: bytes) -> tuple[Usage | None, object]:
    """The usage and the model that a JSON object names, each None where it does not."""
    try:
        read = _decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    said = read.usage
    if said is None:
        return None, read.model
    prompt = said.prompt_tokens or said.input_tokens or 0
    completion = said.completion_tokens or said.output_tokens or 0
    if not prompt and not completion:
        prompt = said.total_tokens or 0
    details = said.prompt_tokens_details
    cached = 0 if details is None else details.cached_tokens or 0
    if not (0 <= prompt < _MOST and 0 <= completion < _MOST and 0 <= cached < _MOST):
        # No engine's: they would spoil every sum.
        return None, read.model
    seconds = said.seconds
    if seconds is None:
        return Usage(prompt, completion, cached), read.model
    return Usage(prompt, completion, cached, _heard(seconds)), read.model


def read_duration(answer: bytes) -> Usage | None:
    """Of a transcription that tells how long its audio was, and no usage."""
    try:
        seconds = _decode_duration(answer).duration
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # vLLM writes the number as a text.
    return None if seconds is None else Usage(0, 0, units=_heard(seconds))


def read_units(header: bytes) -> Units:
    """What a replica of ours says in its `x-modelry-usage` header."""
    try:
        units = _decode_units(header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_UNITS
    counts = (units.images, units.pixels, units.audio_s, units.characters)
    return units if all(0 <= count < _MOST for count in counts) else NO_UNITS


def _heard(seconds: float) -> Units:
    return Units(audio_s=seconds) if 0 <= seconds < _MOST else NO_UNITS
