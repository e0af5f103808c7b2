"""Checks of chats: answers, streams, sampling, formats."""

from typing import Literal

import msgspec

from modelry.services.conformance.asking import (
    CHAT,
    chat,
    choices,
    content,
    events,
    message,
    shaped,
    usage,
    whole,
)
from modelry.services.conformance.caller import Caller, Json, Skipped, Subject, Wrong
from modelry.services.conformance.shapes import CHAT as CHAT_SHAPE
from modelry.services.conformance.shapes import CHAT_CHUNK

_TOP = 2
_JSON_TOKENS = 64
_BANNED = -100


async def answer(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, CHAT, chat(subject))
    told = shaped(CHAT_SHAPE, found)
    choices(found)
    if found["model"] != subject.access_path:
        raise Wrong(f"model is {found['model']!r}, not the access path")
    return told


async def stream(caller: Caller, subject: Subject) -> str:
    body = chat(subject, stream_options={"include_usage": True})
    chunks = await events(caller, CHAT, body)
    told = shaped(CHAT_CHUNK, *chunks)
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    if not said:
        raise Wrong("no event has a choice")
    if said[0]["delta"].get("role") != "assistant":
        raise Wrong("the first event does not name the role")
    ends = [at for at, choice in enumerate(said) if choice["finish_reason"] is not None]
    if ends != [len(said) - 1]:
        raise Wrong("finish_reason does not stand in the last choice alone")
    if len({chunk["id"] for chunk in chunks}) != 1:
        raise Wrong("the events do not share one id")
    if not chunks[-1].get("usage") or chunks[-1]["choices"]:
        raise Wrong("usage was asked for, and the last event is not it")
    usage(chunks[-1])
    return told


async def count(caller: Caller, subject: Subject) -> str:
    """Usage adds up, is there however an answer ends, and is the same streamed."""
    found = await whole(caller, CHAT, chat(subject, temperature=0))
    prompt, answered = usage(found)
    if not prompt or not answered:
        raise Wrong(f"usage says {prompt} tokens of prompt and {answered} of answer")
    options = {"include_usage": True}
    chunks = await events(caller, CHAT, chat(subject, temperature=0, stream_options=options))
    streamed = [chunk for chunk in chunks if chunk.get("usage")]
    if not streamed:
        raise Wrong("a stream has no usage although it was asked for")
    if usage(streamed[-1])[0] != prompt:
        raise Wrong(f"the same prompt has {prompt} tokens, and streamed {usage(streamed[-1])[0]}")
    unasked = await events(caller, CHAT, chat(subject))
    if any(chunk.get("usage") or not chunk.get("choices") for chunk in unasked):
        raise Wrong("a stream that was not asked for usage has it")
    details = found["usage"].get("prompt_tokens_details")
    cached = isinstance(details, dict) and "cached_tokens" in details
    return "with cached_tokens" if cached else "without cached_tokens"


async def max_tokens(caller: Caller, subject: Subject) -> str:
    for name in ("max_tokens", "max_completion_tokens"):
        body = {**chat(subject, "Count from one to one hundred."), "temperature": 0}
        del body["max_tokens"]
        found = await whole(caller, CHAT, {**body, name: 3})
        (choice,) = choices(found)
        _, answered = usage(found)
        if answered > 3:
            raise Wrong(f"{name} was 3, and {answered} tokens came")
        if choice.get("finish_reason") != "length":
            raise Wrong(f"cut by {name}, and finish_reason is {choice.get('finish_reason')!r}")
    return "max_tokens and max_completion_tokens"


async def stop(caller: Caller, subject: Subject) -> str:
    """Stops at a text that a first answer has, which is therefore the model's own."""
    body = chat(subject, "Count from one to ten in words.", temperature=0, seed=1, max_tokens=16)
    (first,) = choices(await whole(caller, CHAT, body))
    words = content(first).split(" ")
    if len(words) < 3 or not words[2]:
        raise Skipped("the answer is too short to be stopped within")
    found = await whole(caller, CHAT, {**body, "stop": [f" {words[2]}"]})
    (choice,) = choices(found)
    if f" {words[2]}" in content(choice):
        raise Wrong("the answer goes on past the stop sequence")
    if choice.get("finish_reason") != "stop":
        raise Wrong(f"stopped, and finish_reason is {choice.get('finish_reason')!r}")
    usage(found)
    return "the stop sequence is left out"


async def several(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, CHAT, chat(subject, n=2, temperature=1, max_tokens=4))
    both = choices(found, 2)
    for choice in both:
        content(choice)
    _, answered = usage(found)
    cut = all(choice.get("finish_reason") == "length" for choice in both)
    if cut and answered < 8:
        raise Wrong(f"usage says {answered} tokens, and two answers have 4 each")
    return "two answers"


async def seed(caller: Caller, subject: Subject) -> str:
    body = chat(subject, "Tell me a story.", seed=1234, temperature=1, max_tokens=12)
    said = [content(choices(await whole(caller, CHAT, body))[0]) for _ in range(2)]
    if said[0] != said[1]:
        raise Wrong("the same seed gave two different answers")
    other = content(choices(await whole(caller, CHAT, {**body, "seed": 4321}))[0])
    return "the same twice" if other != said[0] else "the same twice, and with another seed"


async def logprobs(caller: Caller, subject: Subject) -> str:
    body = chat(subject, logprobs=True, top_logprobs=_TOP, max_tokens=4, temperature=0)
    found = await whole(caller, CHAT, body)
    shaped(CHAT_SHAPE, found)
    given = choices(found)[0].get("logprobs")
    tokens = given.get("content") if isinstance(given, dict) else None
    if not tokens:
        raise Wrong("logprobs were asked for, and none came")
    for token in tokens:
        if len(token["top_logprobs"]) != _TOP:
            raise Wrong(f"top_logprobs has {len(token['top_logprobs'])} tokens, not {_TOP}")
        if token["logprob"] > 0:
            raise Wrong(f"a logprob is {token['logprob']}, above 0")
    return f"each token's, and the {_TOP} likeliest"


async def logit_bias(caller: Caller, subject: Subject) -> str:
    """The first token of an answer is banned, by its number."""
    body = chat(subject, temperature=0, max_tokens=1, logprobs=True, top_logprobs=1)
    found = await caller.ask(CHAT, body)
    given = choices(found.value)[0].get("logprobs") if isinstance(found.value, dict) else None
    tokens = given.get("content") if isinstance(given, dict) else None
    first = tokens[0] if tokens else {}
    number = await _number(caller, subject, first) if isinstance(first, dict) else None
    if number is None:
        biased = await whole(caller, CHAT, chat(subject, logit_bias={"1": _BANNED}, max_tokens=1))
        choices(biased)
        raise Skipped("it is taken; whether it works cannot be told, as no token's number is")
    banned = {**body, "logit_bias": {str(number): _BANNED}}
    biased = await whole(caller, CHAT, banned)
    after = choices(biased)[0]["logprobs"]["content"][0]
    if after.get("token") == first.get("token"):
        raise Wrong("a token that was banned came all the same")
    return "a banned token does not come"


async def _number(caller: Caller, subject: Subject, token: Json) -> int | None:
    """A token's number, where the engine tells it beside its probability, or for its text."""
    told = token.get("id")
    if not isinstance(told, int) and isinstance(token.get("token"), str):
        body = {"model": subject.access_path, "prompt": token["token"], "add_special_tokens": False}
        answer = await caller.ask("/v1/tokenize", body)
        tokens = answer.value.get("tokens") if isinstance(answer.value, dict) else None
        told = tokens[0] if isinstance(tokens, list) and len(tokens) == 1 else None
    return told if isinstance(told, int) else None


class _Person(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    mood: Literal["glad", "sad"]


_PERSON: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "mood": {"type": "string", "enum": ["glad", "sad"]},
    },
    "required": ["name", "mood"],
    "additionalProperties": False,
}


async def json_object(caller: Caller, subject: Subject) -> str:
    question = 'Answer in JSON with a field "colour": what colour is the sky?'
    body = chat(subject, question, response_format={"type": "json_object"}, temperature=0)
    (choice,) = choices(await whole(caller, CHAT, {**body, "max_tokens": _JSON_TOKENS}))
    text = content(choice)
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        if choice.get("finish_reason") == "length" and text.lstrip().startswith("{"):
            return f"an object; it was not at its end after {_JSON_TOKENS} tokens"
        raise Wrong(f"the answer is no JSON: {text[:60]!r}") from None
    if not isinstance(value, dict):
        raise Wrong("the answer is JSON, and no object")
    return "an object"


async def json_schema(caller: Caller, subject: Subject) -> str:
    wanted = {"name": "person", "strict": True, "schema": _PERSON}
    body = chat(
        subject,
        "Make up a person.",
        response_format={"type": "json_schema", "json_schema": wanted},
        max_tokens=_JSON_TOKENS,
    )
    (choice,) = choices(await whole(caller, CHAT, body))
    text = content(choice)
    try:
        msgspec.json.decode(text, type=_Person)
    except msgspec.DecodeError as problem:
        if choice.get("finish_reason") == "length" and text.lstrip().startswith("{"):
            raise Skipped(f"the answer was not at its end after {_JSON_TOKENS} tokens") from None
        raise Wrong(f"the answer does not fit the schema: {problem}") from None
    return "the answer fits the schema"


async def system(caller: Caller, subject: Subject) -> str:
    return await _role(caller, subject, "system")


async def developer(caller: Caller, subject: Subject) -> str:
    return await _role(caller, subject, "developer")


async def _role(caller: Caller, subject: Subject, role: str) -> str:
    """A longer one has to make the prompt longer, or it is not read."""
    counts = []
    for told in ("Be kind.", "Be kind. Be brief. Always answer in English, and never in rhymes."):
        messages = [{"role": role, "content": told}, {"role": "user", "content": "Hi."}]
        found = await whole(caller, CHAT, chat(subject, messages=messages, max_tokens=1))
        counts.append(usage(found)[0])
    if counts[0] >= counts[1]:
        raise Wrong(f"what the {role} says does not reach the prompt")
    return f"what the {role} says is part of the prompt"


async def reasoning(caller: Caller, subject: Subject) -> str:
    found = await whole(caller, CHAT, chat(subject, "What is 17 + 25?", max_tokens=48))
    said = message(choices(found)[0])
    text = said.get("content") or ""
    if "<think>" in text or "</think>" in text:
        raise Wrong("what the model thinks stands in the answer, not in reasoning_content")
    if said.get("reasoning_content") or said.get("reasoning"):
        return "apart from the answer, in reasoning_content"
    raise Skipped("the model gave no reasoning to tell apart")
