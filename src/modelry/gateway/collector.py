"""Whole answers put together from a stream.

Some engines notice that a caller has hung up only while they stream. For those
the gateway asks for a stream even where the caller did not, and hands over one
JSON object at the end. The caller sees what the engine would have said; and as
nothing has been said before the end, a replica that dies on the way costs the
caller nothing either.

The merging follows OpenAI's chunk objects
(https://platform.openai.com/docs/api-reference/chat-streaming): texts and
arguments are parts to be joined, lists are joined by their `index`, and every
other field keeps its last value.
"""

from typing import Any

import msgspec

from modelry.gateway.llama_answers import LlamaAnswers
from modelry.gateway.usage import Usage, read_answer

# Parts of a text that one chunk after another adds to.
_JOINED = frozenset({"content", "reasoning_content", "refusal", "arguments", "text"})
_LINE_MAX = 16 * 1024 * 1024
_ANSWER_MAX = 256 * 1024 * 1024
_CALLS_MAX = 1024
_OBJECTS = {"chat.completion.chunk": "chat.completion"}

_decode = msgspec.json.Decoder().decode


class Collector:
    """Takes the bytes of an event stream, gives the whole answer.

    `feed` raises whatever a chunk that is none leads to. `shapes`: what is done to every chunk, and
    to the whole.
    """

    def __init__(self, shapes: LlamaAnswers) -> None:
        self._shapes = shapes
        self._buffer = bytearray()
        self._bytes = 0
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self.frames = 0
        self.error: Any = None
        self.complete = False

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > _ANSWER_MAX:
            raise ValueError("the answer is too long")
        if b"\n" not in data:
            self._buffer += data
            if len(self._buffer) > _LINE_MAX:
                raise ValueError("a line has no end")
            return
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            if line.startswith(b"data:"):
                self._event(bytes(line[5:].strip()))

    def answer(self) -> bytes:
        kind = str(self._answer.get("object", ""))
        answer = {**self._answer, "object": _OBJECTS.get(kind, kind)}
        answer["choices"] = [self._choices[index] for index in sorted(self._choices)]
        for choice in answer["choices"]:
            message = choice.get("message")
            if message and message["content"] is None and not message.get("tool_calls"):
                message["content"] = ""
        return msgspec.json.encode(self._shapes.whole(answer))

    @property
    def usage(self) -> Usage | None:
        return read_answer(msgspec.json.encode({"usage": self._answer.get("usage")}))[0]

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.complete = True
            self._take(self._shapes.left())
            return
        chunk = _decode(data)
        self.frames += 1
        if not isinstance(chunk, dict):
            # llama.cpp opens the stream of a list of prompts with `null`.
            return
        if "error" in chunk:
            self.error = chunk["error"]
            return
        self._take(self._shapes.chunks(chunk))

    def _take(self, chunks: list[dict[str, Any]]) -> None:
        for chunk in chunks:
            for choice in chunk.pop("choices", ()):
                known = self._choices.setdefault(choice.get("index", 0), {})
                delta = choice.pop("delta", None)
                if delta is not None:
                    message = {"role": "assistant", "content": None}
                    _merge(known.setdefault("message", message), delta)
                _merge(known, choice)
            self._answer.update(chunk)


def _merge(known: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        have = known.get(name)
        if value is None:
            known.setdefault(name, None)
        elif name in _JOINED and isinstance(value, str):
            known[name] = (have or "") + value
        elif name == "tool_calls":
            known[name] = have or []
            _merge_calls(known[name], value)
        elif isinstance(value, dict) and isinstance(have, dict):
            _merge(have, value)
        elif isinstance(value, list) and isinstance(have, list):
            have.extend(value)
        else:
            known[name] = value


def _merge_calls(calls: list[dict[str, Any]], parts: list[dict[str, Any]]) -> None:
    for part in parts:
        index = part.pop("index", 0)
        if not 0 <= index < _CALLS_MAX:
            raise ValueError("an index that no answer has")
        while len(calls) <= index:
            calls.append({})
        _merge(calls[index], part)
