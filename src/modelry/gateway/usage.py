"""What an answer says it used."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Said(msgspec.Struct):
    """OpenAI's names; `input_tokens` and `output_tokens` are those of its newer endpoints."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    usage: _Said | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def usage_in(answer: bytes | bytearray | memoryview) -> Usage | None:
    """The usage that a JSON object carries, if it does."""
    try:
        said = _decode(answer).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if said is None:
        return None
    prompt = said.prompt_tokens or said.input_tokens or 0
    completion = said.completion_tokens or said.output_tokens or 0
    if not prompt and not completion:
        prompt = said.total_tokens or 0
    details = said.prompt_tokens_details
    return Usage(prompt, completion, (details.cached_tokens or 0) if details else 0)
