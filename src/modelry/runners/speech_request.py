"""What a caller asks to be read aloud, read from a JSON body and checked. Pure.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelry.runners.refusals import Refused
from modelry.runners.sentences import cleaned, foreign_letter, is_readable

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
CHARACTERS_MOST = 4096
SLOWEST, FASTEST = 0.25, 4.0
OPENAI_VOICES = frozenset(
    {
        "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer",
        "verse", "marin", "cedar",
    }
)  # fmt: skip
"""Programs that were written for OpenAI name one of these: they get the default voice."""


@dataclass(frozen=True)
class Voices:
    """What a model can sound like. `names`: each with whether it reads the Latin script alone."""

    names: Mapping[str, bool]
    default: str


@dataclass(frozen=True)
class Asked:
    """`text`: as it is to be read. `characters`: of the text as it was sent."""

    text: str
    voice: str
    characters: int
    format: str = "mp3"
    speed: float = 1.0
    events: bool = False


def read_body(body: bytes, voices: Voices, characters_most: int = CHARACTERS_MOST) -> Asked:
    """Raises `Refused`."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Refused("The body is no JSON object.")
    text = said.get("input")
    if not isinstance(text, str):
        raise Refused("input is missing: the text that is to be read aloud.", param="input")
    if len(text) > characters_most:
        raise Refused(
            f"input has {len(text)} characters, and may have {characters_most}; send it in parts.",
            param="input",
        )
    if said.get("instructions"):
        raise Refused(
            "instructions: these voices have one manner of speaking; leave the field out.",
            param="instructions",
        )
    voice = _voice(said.get("voice"), voices)
    return Asked(
        text=_readable(text, voice, latin=voices.names[voice]),
        voice=voice,
        characters=len(text),
        format=_one_of(said, "response_format", FORMATS),
        speed=_speed(said.get("speed")),
        events=_one_of(said, "stream_format", ("audio", "sse")) == "sse",
    )


def _readable(text: str, voice: str, *, latin: bool) -> str:
    text = cleaned(text)
    if not is_readable(text):
        raise Refused("input has no word in it that could be read aloud.", param="input")
    foreign = foreign_letter(text) if latin else None
    if foreign is not None:
        raise Refused(
            f"input is mostly in a script that the voice {voice!r} cannot read, such as "
            f"{foreign!r}: it reads the Latin one.",
            param="input",
        )
    return text


def _voice(said: Any, voices: Voices) -> str:
    """Named by a text, or by OpenAI's object for voices of one's own."""
    if said is None:
        return voices.default
    named = said.get("id") if isinstance(said, dict) else said
    if isinstance(named, str):
        if named in voices.names:
            return named
        if named in OPENAI_VOICES:
            return voices.default
    raise Refused(
        f"voice {_short(named)} is not known; there are: {_list(voices.names)}.", param="voice"
    )


def _one_of(said: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = said.get(name)
    if value is None:
        return known[0]
    if value not in known:
        raise Refused(
            f"{name} {_short(value)} is not known; use one of: {', '.join(known)}.", param=name
        )
    return str(value)


def _speed(said: Any) -> float:
    if said is None:
        return 1.0
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    if not is_number or not SLOWEST <= said <= FASTEST:
        raise Refused(
            f"speed is a number from {SLOWEST} to {FASTEST:g}, not {_short(said)}.", param="speed"
        )
    return float(said)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 42 else text[:41] + "…"
