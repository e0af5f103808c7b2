"""A service that does everything as OpenAI's API has it, in memory, and ways to spoil it."""

import base64
import itertools
import json
import random
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from modelry.services.conformance.caller import Answer, File, Json, Subject

TASKS = ("chat", "completion", "embedding", "rerank", "image", "speech", "transcription")
SUBJECT = Subject("u-0123456789ab/test", TASKS, context_tokens=256, slots=2)
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ARGUMENTS = {"get_weather": {"city": "Paris", "unit": "celsius"}, "get_time": {"zone": "utc"}}
_numbers = itertools.count(1)

Spoil = Callable[[str, Json, Answer], Answer]


class Refusal(Exception):
    def __init__(self, message: str, code: str = "invalid_request_error", status: int = 400):
        super().__init__(message)
        self.error = {"message": message, "type": code, "param": None, "code": code}
        self.status = status


def answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(value).encode()[:400], value)


class ModelService:
    """The checks' port. `passes_over` are fields that it does not read; `refuses` those that it
    does not take; `spoils` gets every answer last; `events` a stream's lines.
    """

    def __init__(
        self,
        *,
        passes_over: str = "",
        refuses: str = "",
        spoils: Spoil = lambda path, body, found: found,
        events: Callable[[list[Json]], list[str]] | None = None,
    ) -> None:
        self._passes_over = passes_over
        self._refuses = refuses
        self._spoils = spoils
        self._events = events or _lines
        self.open = 0
        """Streams that nobody has hung up on."""

    async def ask(self, path: str, body: Json, file: File | None = None) -> Answer:
        try:
            found = self._answer(path, dict(body), file)
        except Refusal as refusal:
            found = answer({"error": refusal.error}, refusal.status)
        return self._spoils(path, body, found)

    @asynccontextmanager
    async def stream(self, path: str, body: Json) -> AsyncIterator["ModelStream"]:
        found = await self.ask(path, body)
        self.open += 1
        try:
            lines = [] if found.status != 200 else self._events(_chunks(path, body, found.value))
            yield ModelStream(found, lines)
        finally:
            self.open -= 1

    def _answer(self, path: str, body: Json, file: File | None) -> Answer:
        body.pop(self._passes_over, None)
        if self._refuses in body:
            raise Refusal(f"{self._refuses} is not supported")
        if path == "/v1/audio/speech":
            _text(body, "input")
            return Answer(200, "audio/wav", b"RIFF\x24\0\0\0WAVEfmt ", None)
        if path == "/v1/audio/transcriptions":
            assert file is not None
            if not file.data.startswith(b"RIFF"):
                raise Refusal("the file is no sound")
            return answer({"text": ""})
        return answer(_MAKERS[path](body))


class ModelStream:
    def __init__(self, found: Answer, lines: list[str]) -> None:
        self._found = found
        self._lines = lines
        self.status = found.status
        self.type = "text/event-stream" if found.status == 200 else found.type

    async def lines(self) -> AsyncGenerator[str, None]:
        for line in self._lines:
            yield line

    async def whole(self) -> Answer:
        return self._found


def _text(body: Json, name: str) -> str:
    if not isinstance(body.get(name), str):
        raise Refusal(f"{name} must be a text")
    return str(body[name])


def _said(body: Json) -> list[str]:
    """The words of an answer before anything cuts it."""
    seed = body.get("seed", next(_numbers))
    words = list(_WORDS)
    if body.get("temperature") != 0:
        random.Random(seed).shuffle(words)
    return words * 8


def _cut(body: Json, words: list[str]) -> tuple[str, int, str]:
    most: int = body.get("max_completion_tokens") or body.get("max_tokens") or 16
    for at, word in enumerate(words[:most]):
        if f" {word}" in body.get("stop", ()):
            return " ".join(words[:at]), at + 1, "stop"
    return " ".join(words[:most]), most, "length" if len(words) > most else "stop"


def _chat(body: Json) -> Json:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refusal("messages must be a list")
    prompt = sum(len(each["content"].split()) for each in messages)
    _check_numbers(body, prompt)
    choices, used = [], 0
    for index in range(body.get("n", 1)):
        message, tokens, finish = _message(body)
        used += tokens
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": finish,
                "logprobs": _chat_logprobs(body),
            }
        )
    return {**_head("chat.completion"), "choices": choices, "usage": _usage(prompt, used)}


def _message(body: Json) -> tuple[Json, int, str]:
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    choice = body.get("tool_choice")
    if body.get("tools") and choice not in (None, "none", "auto"):
        name = choice["function"]["name"] if isinstance(choice, dict) else "get_weather"
        function = {"name": name, "arguments": json.dumps(_ARGUMENTS[name])}
        call = {"id": "call_1", "type": "function", "function": function}
        return {**message, "tool_calls": [call]}, 5, "tool_calls"
    if "response_format" in body:
        value = {"name": "Ann", "mood": "glad"}
        return {**message, "content": json.dumps(value)}, 5, "stop"
    text, tokens, finish = _cut(body, _said(body))
    asked = str(body["messages"][-1]["content"])
    if "17 + 25" in asked:
        message["reasoning_content"] = "Ten and twenty are thirty."
    return {**message, "content": text}, tokens, finish


def _check_numbers(body: Json, prompt: int) -> None:
    if not isinstance(body.get("temperature", 1), (int, float)):
        raise Refusal("temperature must be a number")
    context = SUBJECT.context_tokens or 0
    if prompt > context:
        raise Refusal(
            f"the prompt has {prompt} tokens, and {context} are the most",
            "context_length_exceeded",
        )


def _chat_logprobs(body: Json) -> Json | None:
    if not body.get("logprobs"):
        return None
    banned = {int(id_) for id_, bias in body.get("logit_bias", {}).items() if bias == -100}
    ids = [id_ for id_ in range(10, 20) if id_ not in banned]
    tokens = [
        {"id": id_, "token": f"t{id_}", "bytes": None, "logprob": -0.5}
        for id_ in ids[: body["top_logprobs"]]
    ]
    return {"content": [{**tokens[0], "top_logprobs": tokens}], "refusal": None}


def _completion(body: Json) -> Json:
    prompt = _text(body, "prompt")
    _check_numbers(body, 0)
    choices, used = [], 0
    for index in range(body.get("n", 1)):
        text, tokens, finish = _cut(body, _said(body))
        used += tokens
        logprobs = None
        if "logprobs" in body:
            logprobs = {
                "tokens": ["one"],
                "token_logprobs": [-0.5],
                "top_logprobs": [{"one": -0.5, "two": -1.5}],
                "text_offset": [0],
            }
        shown = f"{prompt}{text}" if body.get("echo") else text
        choices.append(
            {"index": index, "text": shown, "finish_reason": finish, "logprobs": logprobs}
        )
    count = len((prompt + body.get("suffix", "")).split())
    return {**_head("text_completion"), "choices": choices, "usage": _usage(count, used)}


def _head(kind: str) -> Json:
    return {"id": "c1", "object": kind, "created": 7, "model": SUBJECT.access_path}


def _usage(prompt: int, answered: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answered,
        "total_tokens": prompt + answered,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _embeddings(body: Json) -> Json:
    if not isinstance(body.get("input"), list):
        raise Refusal("input must be texts")
    data = []
    for index, text in enumerate(body["input"]):
        numbers = [len(text) / 7] * body.get("dimensions", 16)
        vector: object = numbers
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    return {"object": "list", "model": SUBJECT.access_path, "data": data, "usage": usage}


def _rerank(body: Json) -> Json:
    if not isinstance(body.get("documents"), list):
        raise Refusal("documents must be a list")
    scores = [
        {"index": at, "relevance_score": float("cat" in text)}
        for at, text in enumerate(body["documents"])
    ]
    best = sorted(scores, key=lambda each: -float(each["relevance_score"]))
    return {"results": best[: body.get("top_n", 9)], "usage": {"total_tokens": 9}}


def _images(body: Json) -> Json:
    if not isinstance(body.get("n", 1), int):
        raise Refusal("n must be a number")
    return {"created": 7, "data": []}


_MAKERS: dict[str, Callable[[Json], Json]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embeddings,
    "/v1/rerank": _rerank,
    "/v1/images/generations": _images,
    "/v1/responses": lambda body: {"object": "response", "output": [{"type": "message"}]},
    "/v1/messages": lambda body: {"type": "message", "role": "assistant", "content": [{}]},
    "/v1/messages/count_tokens": lambda body: {"input_tokens": 3},
    "/v1/tokenize": lambda body: {"tokens": [1, 2, 3], "count": 3},
}


def _chunks(path: str, body: Json, whole: Json) -> list[Json]:
    """A whole answer as a stream's events."""
    is_chat = path.startswith("/v1/chat")
    head = {**whole, "object": "chat.completion.chunk" if is_chat else "text_completion"}
    del head["usage"]
    chunks = []
    for choice in whole["choices"]:
        place, end = {"index": choice["index"]}, choice["finish_reason"]
        if not is_chat:
            chunks.append({**head, "choices": [{**place, "text": "o", "finish_reason": end}]})
            continue
        delta: Json = {"role": "assistant", "content": choice["message"]["content"]}
        for number, call in enumerate(choice["message"].get("tool_calls", ())):
            delta["tool_calls"] = [{"index": number, **call}]
        parts: list[tuple[Json, str | None]] = [(delta, None), ({}, end)]
        chunks += [
            {**head, "choices": [{**place, "delta": part, "finish_reason": finish}]}
            for part, finish in parts
        ]
    if body.get("stream_options"):
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return chunks


def _lines(chunks: list[Json]) -> list[str]:
    return [line for chunk in chunks for line in (f"data: {json.dumps(chunk)}", "")] + [
        "data: [DONE]",
        "",
    ]
