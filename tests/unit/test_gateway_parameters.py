"""What is said of a field that an engine ignores, and that the guide's tables are true."""

import json
import re
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsBase as ChatParamsBase,
)
from openai.types.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from modelry.gateway import parameters
from modelry.gateway.dialects.messages.requests import chat_of
from modelry.gateway.dialects.responses.wishes import read_tools, read_wishes
from modelry.gateway.replies import Reply
from modelry.gateway.request import CHAT, COMPLETION

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "parameters.md"
TOOL = {"name": "add", "description": "Add", "parameters": {"type": "object"}}


def tables() -> dict[str, dict[str, list[str]]]:
    """The guide's: heading → field → cells."""
    found: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in GUIDE.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif match := re.match(r"\| `([a-z_]+)` \|(.*)\|$", line):
            cells = [cell.strip() for cell in match[2].split("|")]
            found.setdefault(heading, {})[match[1]] = cells
    return found


TABLES = tables()


def names(*kinds: Any) -> Iterable[str]:
    return sorted({name for kind in kinds for name in kind.__annotations__} | {"stream"})


@pytest.mark.parametrize(
    ("heading", "path", "declared"),
    [
        ("Chat completions", CHAT, ChatParamsBase),
        ("Completions", COMPLETION, CompletionCreateParamsBase),
    ],
)
def test_the_guide_lists_every_field_of_openai_s_with_what_becomes_of_it(
    heading: str, path: bytes, declared: Any
) -> None:
    def becomes(engine: str, name: str) -> str:
        if name in parameters.LABELS:
            return "label"
        if name in parameters.REFUSED.get((engine, path), ()):
            return "refused"
        return "yes" if name in parameters.KNOWN[engine, path] else "flagged"

    expected = {
        name: [becomes("llama.cpp", name), becomes("vllm", name)] for name in names(declared)
    }
    assert TABLES[heading] == expected


RESPONSE = {"model": "m", "input": "Hi"}
RESPONSES: dict[str, Any] = {
    "background": True,
    "background_options": {"x": 1},
    "conversation": "conv_1",
    "include": ["file_search_call.results"],
    "input": "Hi",
    "instructions": "Be brief.",
    "max_output_tokens": 3,
    "max_tool_calls": 2,
    "metadata": {"a": "b"},
    "model": "m",
    "parallel_tool_calls": False,
    "previous_response_id": "resp_1",
    "prompt": {"id": "p"},
    "reasoning": {"effort": "low"},
    "service_tier": "priority",
    "store": False,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "temperature": 0.5,
    "text": {"format": {"type": "json_object"}},
    "tool_choice": "none",
    "tools": [{"type": "function", **TOOL}],
    "top_logprobs": 2,
    "top_p": 0.5,
    "truncation": "auto",
}
MESSAGE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES: dict[str, Any] = {
    "max_tokens": 3,
    "messages": [{"role": "user", "content": "Hi"}],
    "model": "m",
    "output_config": {"effort": "low"},
    "service_tier": "auto",
    "stop_sequences": ["x"],
    "stream": True,
    "system": "Be brief.",
    "temperature": 0.5,
    "thinking": {"type": "disabled"},
    "tool_choice": {"type": "none"},
    "tools": [{"name": "add", "input_schema": {"type": "object"}}],
    "top_k": 3,
    "top_p": 0.5,
}


def of_response(body: bytes) -> Iterable[str]:
    wishes, ignored = read_wishes(body)
    read_tools(wishes)
    return ignored


def of_message(body: bytes) -> Iterable[str]:
    return chat_of(body).ignored


@pytest.mark.parametrize(
    ("heading", "base", "values", "declared", "read"),
    [
        ("Responses", RESPONSE, RESPONSES, names(ResponseCreateParamsBase), of_response),
        (
            "Messages",
            MESSAGE,
            MESSAGES,
            [*names(MessageCreateParamsBase), "temperature", "top_k", "top_p"],
            of_message,
        ),
    ],
)
def test_the_guide_says_what_becomes_of_fields_of_the_other_apis(
    heading: str,
    base: dict[str, Any],
    values: dict[str, Any],
    declared: Iterable[str],
    read: Callable[[bytes], Iterable[str]],
) -> None:
    def becomes(name: str) -> str:
        if name in parameters.LABELS:
            return "label"
        body = json.dumps({**base, name: values.get(name, {"some": "thing"})}).encode()
        try:
            ignored = read(body)
        except Reply:
            return "refused"
        return "flagged" if any(each.partition(".")[0] == name for each in ignored) else "yes"

    assert TABLES[heading] == {name: [becomes(name)] for name in sorted(declared)}


# -- what is told ------------------------------------------------------------


def ignored(fields: dict[str, Any], dialect: str = "llama.cpp") -> tuple[str, ...]:
    body = json.dumps({"model": "m", "messages": [], **fields}).encode()
    return parameters.ignored(dialect, CHAT, body)


def test_what_an_engine_does_not_know_is_told() -> None:
    assert ignored({"temprature": 1, "top_p": 1, "store": True}) == ("temprature", "store")
    assert ignored({"temprature": 1, "mirostat": 2}, "vllm") == ("temprature", "mirostat")
    assert ignored({"repetition_penalty": 1.1}) == ("repetition_penalty",)


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "prompt_cache_key": "k"},
        {"store": False, "service_tier": "auto", "modalities": [ "text" ], "verbosity": "medium"},
        {"audio": None, "prediction": None},
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_not(fields: dict[str, Any]) -> None:
    assert ignored(fields) == ()


def test_of_endpoints_elsewhere_nothing_is_known() -> None:
    assert parameters.ignored("", CHAT, b'{"model": "m", "odd": 1}') == ()
    assert parameters.ignored("llama.cpp", b"/v1/embeddings", b'{"odd": 1}') == ()


def test_a_header_takes_no_name_that_is_none() -> None:
    names = ("fine", "with space", "line\r\nx-evil: 1", "ä", *(f"n{at}" for at in range(50)))
    line = parameters.header_line(names)
    assert line.startswith(b"x-modelry-ignored: fine,n0,n1,")
    assert line.count(b"\r\n") == 1
    assert line.count(b",") == 19
    assert parameters.header_line(("\n",)) == b"x-modelry-ignored: ?\r\n"


def test_names_that_callers_choose_are_not_kept_in_memory() -> None:
    tracemalloc.start()
    try:
        for at in range(8):
            assert ignored({f"{at}{'x' * 1_000_000}": 1}) != ()
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 1_000_000
