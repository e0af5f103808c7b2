"""Checks of completions, and one small call to each API that stands beside OpenAI's chats."""

from modelry.services.conformance.asking import (
    COMPLETIONS,
    choices,
    completion,
    events,
    shaped,
    usage,
    whole,
)
from modelry.services.conformance.caller import Caller, Json, Subject, Wrong
from modelry.services.conformance.fault_checks import refusal
from modelry.services.conformance.shapes import (
    COMPLETION,
    COMPLETION_CHUNK,
    COMPLETION_LOGPROBS,
    differences,
)

_PROMPT = "One, two,"


async def answer(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, COMPLETIONS, completion(subject))
    told = shaped(COMPLETION, found)
    choices(found)
    usage(found)
    return told


async def stream(caller: Caller, subject: Subject) -> str:
    body = completion(subject, stream_options={"include_usage": True})
    chunks = await events(caller, COMPLETIONS, body)
    told = shaped(COMPLETION_CHUNK, *chunks)
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    if not ends or ends[-1] is None:
        raise Wrong("the last choice has no finish_reason")
    if not chunks[-1].get("usage"):
        raise Wrong("usage was asked for, and the last event is not it")
    usage(chunks[-1])
    return told


async def echo(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, COMPLETIONS, completion(subject, echo=True))
    if not str(choices(found)[0].get("text")).startswith(_PROMPT):
        raise Wrong("echo was passed over in silence: the prompt is not in the answer")
    return "the prompt stands before the answer"


async def suffix(caller: Caller, subject: Subject) -> str:
    """It has to reach the prompt, so that makes it longer."""
    plain = await whole(caller, COMPLETIONS, completion(subject, max_tokens=1))
    found = await whole(caller, COMPLETIONS, completion(subject, suffix=" five.", max_tokens=1))
    if usage(found)[0] <= usage(plain)[0]:
        raise Wrong("suffix was passed over in silence: the prompt is no longer with it")
    return "the suffix is part of the prompt"


async def logprobs(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, COMPLETIONS, completion(subject, logprobs=2, max_tokens=2))
    given = choices(found)[0].get("logprobs")
    if given is None:
        raise Wrong("logprobs were asked for, and none came")
    problems = differences(COMPLETION_LOGPROBS, given)
    if problems.wrong:
        raise Wrong("logprobs are not in OpenAI's shape: tokens, token_logprobs, top_logprobs, …")
    return "tokens, token_logprobs, top_logprobs"


async def several(caller: Caller, subject: Subject) -> str:
    choices(await whole(caller, COMPLETIONS, completion(subject, n=2, max_tokens=2)), 2)
    return "two answers"


async def errors(caller: Caller, subject: Subject) -> str:
    await refusal(
        caller, COMPLETIONS, completion(subject, temperature="hot"), "a temperature that is a text"
    )
    return "400 in OpenAI's shape"


# -- beside chats ------------------------------------------------------------


async def responses(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "input": "Say hello.", "max_output_tokens": 16}
    found = await whole(caller, "/v1/responses", body)
    _require(found, object="response")
    if not isinstance(found.get("output"), list) or not found["output"]:
        raise Wrong("the response has no output")
    return "a response"


async def messages(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, "/v1/messages", _message(subject, max_tokens=8))
    _require(found, type="message", role="assistant")
    if not isinstance(found.get("content"), list) or not found["content"]:
        raise Wrong("the message has no content")
    return "a message"


async def count_tokens(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, "/v1/messages/count_tokens", _message(subject))
    if not isinstance(found.get("input_tokens"), int) or found["input_tokens"] < 1:
        raise Wrong("input_tokens is no number above 0")
    return f"{found['input_tokens']} tokens"


async def tokenize(caller: Caller, subject: Subject) -> str:
    body = {"model": subject.access_path, "prompt": "Say hello."}
    found = await whole(caller, "/v1/tokenize", body)
    tokens = found.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        raise Wrong("the answer has no tokens")
    if found.get("count") != len(tokens):
        raise Wrong(f"{len(tokens)} tokens came, and count is {found.get('count')!r}")
    return f"{len(tokens)} tokens"


def _message(subject: Subject, **fields: object) -> Json:
    said = [{"role": "user", "content": "Say hello."}]
    return {"model": subject.access_path, "messages": said, **fields}


def _require(found: Json, **fields: str) -> None:
    for name, value in fields.items():
        if found.get(name) != value:
            raise Wrong(f"{name} is {found.get(name)!r}, not {value!r}"[:120])
