"""Calls of a service, as the tests make them: one, a stream, or one after another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from openai import Stream
from openai.types.chat import ChatCompletionChunk

from tests.support.instance import Instance
from tests.support.waiting import wait_for

# The engine goes on to `max_tokens` whatever the model says.
TO_THE_END = {"ignore_eos": True}


def ask(instance: Instance, key: str, model: str, **options: Any) -> str:
    """The text of one short answer. Raises the SDK's errors."""
    with instance.openai(key) as client:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Say hi"}],
            max_tokens=options.pop("max_tokens", 4),
            **options,
        )
    return answer.choices[0].message.content or ""


def serves(instance: Instance, key: str, model: str) -> bool:
    """Whether a call is answered now."""
    try:
        answer = httpx2.post(
            f"{instance.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={
                "model": model,
                "messages": [{"role": "user", "content": "Say hi"}],
                "max_tokens": 4,
            },
            timeout=30,
        )
    except httpx2.HTTPError:
        return False
    return answer.status_code == 200


def await_serving(instance: Instance, key: str, model: str) -> None:
    wait_for(lambda: serves(instance, key, model), f"{model} to serve again", 60)


@contextmanager
def streaming(
    instance: Instance, key: str, model: str, tokens: int
) -> Iterator[Stream[ChatCompletionChunk]]:
    """A stream of exactly `tokens` tokens, unless something breaks it off."""
    with (
        instance.openai(key) as client,
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Tell me a long story"}],
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=TO_THE_END,
        ) as stream,
    ):
        yield stream


def begun(stream: Stream[ChatCompletionChunk]) -> Stream[ChatCompletionChunk]:
    """The stream, once a token of it has come."""
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            return stream
    raise AssertionError("the stream ended before its first token")


def finished(stream: Stream[ChatCompletionChunk]) -> tuple[str | None, int]:
    """Read a stream to its end: its finish reason and the tokens its usage tells of."""
    reason, tokens = None, 0
    for chunk in stream:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
    return reason, tokens


@dataclass
class Traffic:
    """What became of calls made one after another."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def steady_calls(instance: Instance, key: str, model: str) -> Iterator[Traffic]:
    """Calls a service without a pause, on a connection of its own each, to the block's end."""
    traffic = Traffic()
    stop = threading.Event()

    def call_on() -> None:
        while not stop.is_set():
            try:
                ask(instance, key, model, max_tokens=1)
                traffic.answered += 1
            except Exception as error:
                traffic.failed.append(repr(error))

    thread = threading.Thread(target=call_on)
    thread.start()
    try:
        wait_for(lambda: traffic.answered or traffic.failed, "the first call")
        yield traffic
    finally:
        stop.set()
        thread.join()
