"""Checks of requests that go wrong: refusals, prompts that are too long, callers that hang up."""

import asyncio
import re
from contextlib import AsyncExitStack, aclosing

from modelry.services.conformance.asking import CHAT, chat, choices
from modelry.services.conformance.caller import (
    Answer,
    Busy,
    Caller,
    Json,
    Skipped,
    Subject,
    Wrong,
    accepted,
    short,
    told,
)
from modelry.services.conformance.shapes import ERROR, differences

_CONTEXT_MOST = 200_000
_STREAMS_MOST = 8
_FREE_WITHIN_S = 2.0
_LOOK_S = 0.1
_ENDLESS_TOKENS = 600


async def errors(caller: Caller, subject: Subject) -> str:
    await refusal(caller, CHAT, chat(subject, messages="no list"), "messages that are no list")
    await refusal(caller, CHAT, chat(subject, temperature="hot"), "a temperature that is a text")
    return "400 in OpenAI's shape"


async def refusal(caller: Caller, path: str, body: Json, what: str) -> None:
    """Raises `Wrong` unless it is a 400 in OpenAI's shape."""
    answer = await caller.ask(path, body)
    if answer.status == 200:
        raise Wrong(f"{what}: answered all the same")
    if answer.status not in (400, 422):
        raise Wrong(f"{what}: it answers {answer.status}, not 400: {told(answer)}")
    _in_shape(answer)


def _in_shape(answer: Answer) -> None:
    found = differences(ERROR, answer.value)
    if found.wrong or found.missing:
        paths = [*found.wrong, *(f"{path} is missing" for path in found.missing)]
        raise Wrong(short(f"the refusal is not in OpenAI's shape: {'; '.join(paths)}"))


async def context_overflow(caller: Caller, subject: Subject) -> str:
    context = subject.context_tokens
    if context is None:
        raise Skipped("how long its context is, Modelry does not know")
    if context > _CONTEXT_MOST:
        raise Skipped(f"a prompt of over {context} tokens is too large to try")
    answer = await caller.ask(CHAT, chat(subject, "a " * (context + 64)))
    if answer.status == 200:
        raise Wrong(f"over {context} tokens were taken: the prompt was cut in silence")
    if answer.status != 400:
        raise Wrong(f"it answers {answer.status}, not 400: {told(answer)}")
    _in_shape(answer)
    error = answer.value["error"]
    if error["code"] != "context_length_exceeded":
        raise Wrong(f"the code is {error['code']!r}, not 'context_length_exceeded'")
    numbers = {int(number) for number in re.findall(r"\d+", error["message"])}
    if len(numbers) < 2 or max(numbers) <= context:
        raise Wrong(f"it does not say both numbers: {told(answer)}")
    return "400 context_length_exceeded, with both numbers"


async def cancellation(caller: Caller, subject: Subject) -> str:
    """Takes every slot with an answer that goes on for long, hangs up, and asks something short:
    an engine that went on working for nobody would have no slot for it.
    """
    slots = subject.slots
    if slots is None:
        raise Skipped("whether an endpoint elsewhere stops cannot be seen from here")
    if slots > _STREAMS_MOST:
        raise Skipped(f"it has {slots} slots, and {_STREAMS_MOST} are the most that are taken up")
    endless = chat(subject, "Tell me a very long story.", max_tokens=_ENDLESS_TOKENS)
    async with AsyncExitStack() as held:
        for _ in range(slots):
            stream = await held.enter_async_context(
                caller.stream(CHAT, {**endless, "stream": True})
            )
            if stream.status != 200:
                accepted(await stream.whole())
            lines = await held.enter_async_context(aclosing(stream.lines()))
            await anext(lines, "")
    loop = asyncio.get_running_loop()
    since = loop.time()
    try:
        async with asyncio.timeout(_FREE_WITHIN_S):
            await _once_let_in(caller, chat(subject, max_tokens=1))
    except TimeoutError:
        raise Wrong(f"no slot was free {_FREE_WITHIN_S:g} s after its callers left") from None
    return f"{loop.time() - since:.1f} s after {slots} callers left, it answered"


async def _once_let_in(caller: Caller, body: Json) -> None:
    while True:
        try:
            choices(accepted(await caller.ask(CHAT, body)))
            return
        except Busy:
            # The gateway has not heard yet that we hung up.
            await asyncio.sleep(_LOOK_S)
