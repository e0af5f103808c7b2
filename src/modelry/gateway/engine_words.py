"""What engines' refusals say, in words for callers: which field they are about, and whose mistake
it is.

llama.cpp says 500 of much that is its caller's mistake, and names no field but within a sentence.
Seen with xllamacpp 2026.10; for vLLM, its sources at 0.32. What is not known here stays as it is.
"""

import re
from dataclasses import dataclass

from modelry.gateway.request import CHAT, COMPLETION

# A chat's conversation is its prompt.
_PROMPTS = {CHAT: "messages", COMPLETION: "prompt"}

# llama.cpp, of a prompt that is longer than a slot's context; of an input that has to be worked on
# at once.
_OVER = re.compile(
    r"\((\d+) tokens\) (?:exceeds the available|is larger than the max) context size"
)
_CONTEXT = re.compile(r"context size \((\d+)")
_TOO_LARGE = re.compile(r"input \((\d+) tokens\) is too large .*batch size: (\d+)")
# vLLM, which names both numbers.
_TOO_LONG_SAID = re.compile(r"maximum (?:context|model) length (?:is|of) \d+")

_FIELD = re.compile(r"^Field '(\w+)': (.*)$", re.DOTALL)
_BOUNDS = re.compile(r"^Value must be between (\S+) <= value <= (\S+), but got (\S+)$")
_LIBRARY = re.compile(r"\[json\.exception\.\w+\.\d+\] ")
# Of a conversation that a model's template does not take, in the template's words.
_TEMPLATE = re.compile(r"Jinja Exception: ([^\n]+)")
_TOOLS = re.compile(r"^Failed to parse tools: (.*?)(?:; tools = .*)?$", re.DOTALL)
_SCHEMA = re.compile(r"JSON schema error at ([^\n]+)")

# What a refusal of llama.cpp begins with, or has → what it is about.
_ABOUT = (
    ("Failed to parse messages", "messages"),
    ("Failed to parse tool call arguments", "messages"),
    ("'messages'", "messages"),
    ("'content'", "messages"),
    ("content[]", "messages"),
    ("ssistant message", "messages"),
    ("Invalid tool_choice", "tool_choice"),
    ("response_format", "response_format"),
    ("top_logprobs", "top_logprobs"),
    ("logprobs is not", "logprobs"),
    ('"prompt"', "prompt"),
    ("Prompt contains invalid tokens", "prompt"),
    ("grammar", "grammar"),
    ("continue_final_message", "continue_final_message"),
)
_READ_MOST = 8192
"""Letters of a refusal that are read, and said again: some bring all that the caller sent, in which
a pattern could be looked for over and over.
"""
_ABOUT_MOST = 300
"""Letters of a refusal that are looked at: behind them is what the caller sent."""


@dataclass(frozen=True)
class Words:
    """`is_callers`: whether it is the caller's mistake, whatever status the engine gave it.
    `code`: of the refusal, where it has one of its own.
    """

    message: str
    param: str | None = None
    code: str | None = None
    is_callers: bool = False


def read(message: str, path: bytes, body: bytes | bytearray) -> Words:
    """`path` and `body` are of the request that was refused."""
    if len(message) > _READ_MOST:
        message = message[:_READ_MOST] + "…"
    prompt = _PROMPTS.get(path)
    over = _over(message)
    if over is not None:
        return Words(over, prompt, "context_length_exceeded", is_callers=True)
    if prompt is None:
        return Words(message)
    message = _LIBRARY.sub("", message)
    if match := _FIELD.search(message):
        return Words(f"'{match[1]}': {_said(match[2])}", match[1], is_callers=True)
    if match := _TOOLS.search(message):
        return Words(f"'tools': {match[1]}", "tools", is_callers=True)
    if match := _TEMPLATE.search(message):
        told = f"The model's template does not take this conversation: {match[1]}"
        return Words(told, prompt, is_callers=True)
    if match := _SCHEMA.search(message):
        field = "response_format" if b'"response_format"' in body else "tools"
        return Words(f"'{field}': its JSON schema cannot be used, {match[1]}", field)
    begins = message[:_ABOUT_MOST]
    for words, field in _ABOUT:
        if words in begins:
            return Words(message, field, is_callers="Failed to parse" in begins)
    return Words(message)


def _over(message: str) -> str | None:
    """What to say of a prompt or an input that is too long, if that is what was refused."""
    if (match := _OVER.search(message)) and (most := _CONTEXT.search(message)):
        # As OpenAI says it: clients look for these words.
        return (
            f"This model's maximum context length is {most[1]} tokens. However, the request has "
            f"{match[1]} tokens. Please shorten it."
        )
    if match := _TOO_LARGE.search(message):
        return f"The input has {match[1]} tokens, and {match[2]} are the most the service takes."
    return message if _TOO_LONG_SAID.search(message) else None


def _said(message: str) -> str:
    bounds = _BOUNDS.match(message)
    if bounds is None:
        return message
    return f"it must be from {bounds[1]} to {bounds[2]}, and is {bounds[3]}"
