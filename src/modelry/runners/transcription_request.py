"""What a caller asks of a transcription, read from the fields of a form and checked. Pure.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from modelry.runners.languages import code_of
from modelry.runners.refusals import Refused

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_GRANULARITIES = ("segment", "word")
_STREAMED = ("json", "text")
_PROMPT_MAX = 4000
_YES, _NO = ("true", "1"), ("false", "0", "")


@dataclass(frozen=True)
class Asked:
    """`language`: a code, None where it is to be heard. `vad`: leave silence out; None: as the
    replica was told. `words`, `segments`: what `verbose_json` tells the times of.
    """

    language: str | None = None
    prompt: str | None = None
    format: str = "json"
    temperature: float = 0.0
    words: bool = False
    segments: bool = True
    stream: bool = False
    vad: bool | None = None
    translate: bool = False


def read_fields(fields: Iterable[tuple[str, str]], *, translate: bool, multilingual: bool) -> Asked:
    """`fields`: names and values in their order, files apart. Raises `Refused`.

    `multilingual`: whether the model knows other languages than English.
    """
    said: dict[str, str] = {}
    granularities: list[str] = []
    included: list[str] = []
    for name, value in fields:
        base = name.removesuffix("[]")
        if base == "timestamp_granularities":
            granularities += _listed(value)
        elif base == "include":
            included += _listed(value)
        else:
            said[base] = value
    format = _one_of(said.get("response_format") or "json", FORMATS, "response_format")
    stream = _flag(said, "stream")
    if stream and format not in _STREAMED:
        raise Refused(
            f"A transcription is streamed as events: use response_format 'json', not {format!r}.",
            param="response_format",
        )
    for each in granularities:
        _one_of(each, _GRANULARITIES, "timestamp_granularities")
    if granularities and format != "verbose_json":
        raise Refused(
            "timestamp_granularities needs response_format 'verbose_json'.",
            param="timestamp_granularities",
        )
    if included:
        raise Refused(
            f"include: this model does not tell {_short(included[0])}; leave the field out.",
            param="include",
        )
    if translate and not multilingual:
        raise Refused(
            "This model knows English alone and cannot translate; use a multilingual model, such "
            "as whisper-small."
        )
    prompt = said.get("prompt") or None
    if prompt is not None and len(prompt) > _PROMPT_MAX:
        raise Refused(
            f"prompt has {len(prompt)} characters, and may have {_PROMPT_MAX}.", param="prompt"
        )
    return Asked(
        language=_language(said.get("language") or "", multilingual),
        prompt=prompt,
        format=format,
        temperature=_temperature(said.get("temperature") or "0"),
        words="word" in granularities,
        segments=not granularities or "segment" in granularities,
        stream=stream,
        vad=_vad(said.get("chunking_strategy") or ""),
        translate=translate,
    )


def _listed(value: str) -> list[str]:
    """A field comes once for each value, or once with all of them as JSON."""
    try:
        values = json.loads(value) if value.startswith("[") else [value]
    except (ValueError, RecursionError):
        values = [value]
    return [str(each) for each in values]


def _one_of(value: str, known: tuple[str, ...], param: str) -> str:
    if value not in known:
        raise Refused(
            f"{param} {_short(value)} is not known; use one of: {', '.join(known)}.", param=param
        )
    return value


def _flag(said: dict[str, str], name: str) -> bool:
    value = said.get(name, "").lower()
    if value not in _YES + _NO:
        raise Refused(f"{name} is true or false, not {_short(value)}.", param=name)
    return value in _YES


def _language(value: str, multilingual: bool) -> str | None:
    if not value:
        return None if multilingual else "en"
    code = code_of(value)
    if code is None:
        raise Refused(
            f"language {_short(value)} is not known; use an ISO 639-1 code such as 'en', or leave "
            "it out.",
            param="language",
        )
    if code != "en" and not multilingual:
        raise Refused(
            f"This model knows English alone, not {value!r}; use a multilingual model, such as "
            "whisper-small.",
            param="language",
        )
    return code


def _temperature(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise Refused(
            f"temperature is a number from 0 to 1, not {_short(value)}.", param="temperature"
        )
    return number


def _vad(value: str) -> bool | None:
    """`auto` and `server_vad` both leave silence out; how it is found cannot be set."""
    if not value:
        return None
    if value == "auto":
        return True
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, dict) and given.get("type") == "server_vad":
        if set(given) == {"type"}:
            return True
        raise Refused(
            "chunking_strategy: the numbers of server_vad cannot be set here; use 'auto'.",
            param="chunking_strategy",
        )
    raise Refused(
        f"chunking_strategy is 'auto', not {_short(value)}; leave it out for one block.",
        param="chunking_strategy",
    )


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")
