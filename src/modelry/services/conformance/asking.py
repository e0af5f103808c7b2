"""The questions that checks of chats and completions have in common: what is sent, and reading it.

Everything read here comes from an engine: whatever is not as it should be raises `Wrong`.
"""

from contextlib import aclosing
from typing import Any

import msgspec

from modelry.services.conformance.caller import (
    Caller,
    Json,
    Subject,
    Wrong,
    accepted,
    refused,
    short,
)
from modelry.services.conformance.shapes import Differences, Shape, differences

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
_FEW = 8
_EVENTS_MOST = 2000


def chat(subject: Subject, text: str = "Say hello.", **fields: Any) -> Json:
    """A short one; a field of `fields` wins."""
    messages = [{"role": "user", "content": text}]
    return {"model": subject.access_path, "messages": messages, "max_tokens": _FEW, **fields}


def completion(subject: Subject, **fields: Any) -> Json:
    return {"model": subject.access_path, "prompt": "One, two,", "max_tokens": _FEW, **fields}


async def whole(caller: Caller, path: str, body: Json) -> Json:
    return accepted(await caller.ask(path, body))


async def events(caller: Caller, path: str, body: Json) -> list[Json]:
    """A whole stream's chunks. Raises `Wrong` where it does not end with `[DONE]`."""
    chunks: list[Json] = []
    async with caller.stream(path, {**body, "stream": True}) as stream:
        if stream.status != 200:
            raise refused(await stream.whole())
        if not stream.type.startswith("text/event-stream"):
            raise Wrong(f"the stream is of type {stream.type or 'none'}, not text/event-stream")
        async with aclosing(stream.lines()) as lines:
            async for line in lines:
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    return chunks
                chunks.append(_event(data))
                if len(chunks) > _EVENTS_MOST:
                    raise Wrong(f"over {_EVENTS_MOST} events came for a few tokens")
    raise Wrong("the stream ends without [DONE]")


def _event(data: str) -> Json:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        raise Wrong(f"an event is no JSON: {short(data, 60)}") from None
    if not isinstance(value, dict):
        raise Wrong(f"an event is no object: {short(data, 60)}")
    if value.get("error") is not None:
        error = value["error"]
        message = error.get("message") if isinstance(error, dict) else error
        raise Wrong(f"the stream broke off: {short(str(message))}")
    return value


def choices(answer: Json, count: int = 1) -> list[Json]:
    """Its choices, by their index. Raises `Wrong` where they are not so many."""
    found = answer.get("choices")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Wrong("the answer has no choices")
    if len(found) != count:
        raise Wrong(f"{len(found)} choices came, not {count}")
    if sorted(str(each.get("index")) for each in found) != [str(at) for at in range(count)]:
        raise Wrong("the choices are not numbered from 0 on")
    return sorted(found, key=lambda each: int(each["index"]))


def message(choice: Json) -> Json:
    found = choice.get("message")
    if not isinstance(found, dict):
        raise Wrong("a choice has no message")
    return found


def content(choice: Json) -> str:
    found = message(choice).get("content")
    if not isinstance(found, str):
        raise Wrong("the message has no content")
    return found


def usage(answer: Json) -> tuple[int, int]:
    """Tokens of prompt and answer. Raises `Wrong` where they do not add up."""
    found = answer.get("usage")
    if not isinstance(found, dict):
        raise Wrong("the answer has no usage")
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    counts = [found.get(name) for name in names]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise Wrong(f"usage lacks {', '.join(names)}, or one is no number")
    prompt, answered, total = (int(count or 0) for count in counts)
    if prompt + answered != total:
        raise Wrong(f"{prompt} and {answered} tokens do not add up to {total}")
    return prompt, answered


def shaped(shape: Shape, *values: object) -> str:
    """What a strict reader would stumble over, in words. Raises `Wrong` for what none takes."""
    found = Differences()
    for value in values:
        each = differences(shape, value)
        found.wrong += each.wrong
        found.missing += each.missing
        found.more += each.more
    if found.wrong:
        raise Wrong(short("; ".join(dict.fromkeys(found.wrong))))
    return "; ".join(found.notes()) or "as OpenAI's API has it"
