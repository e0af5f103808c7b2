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

from modelry.gateway.connection import ClientConnection
from modelry.gateway.relay import Headers, Plan, Relay, is_event_stream
from modelry.gateway.replies import Reply, engine_refusal
from modelry.gateway.upstream import UpstreamError

# Parts of a text that one chunk after another adds to.
_JOINED = frozenset({"content", "reasoning_content", "refusal", "arguments", "text"})
_OBJECTS = {"chat.completion.chunk": "chat.completion"}

_decode = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def asks_for_whole(body: bytes | bytearray) -> bool:
    """Whether a request's body, known to be a JSON object, asks for no stream."""
    return bytes(_decode_fields(body).get("stream", b"false")) != b"true"


def as_stream(body: bytes | bytearray) -> bytes:
    """The same request, asking for a stream with usage; every other field as it came."""
    fields = _decode_fields(body)
    fields["stream"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(b'{"include_usage":true}')
    return msgspec.json.encode(fields)


class Collector:
    """Takes the bytes of an event stream, gives the whole answer.

    `feed` raises whatever a chunk that is none leads to.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self.error: Any = None
        self.complete = False

    def feed(self, data: bytes) -> None:
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
        return msgspec.json.encode(answer)

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.complete = True
            return
        chunk = _decode(data)
        if not isinstance(chunk, dict):
            # llama.cpp opens the stream of a list of prompts with `null`.
            return
        if "error" in chunk:
            self.error = chunk["error"]
            return
        for choice in chunk.pop("choices", ()):
            index = choice.get("index", 0)
            known = self._choices.setdefault(index, {})
            delta = choice.pop("delta", None)
            if delta is not None:
                _merge(known.setdefault("message", {"role": "assistant", "content": None}), delta)
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
        while len(calls) <= index:
            calls.append({})
        _merge(calls[index], part)


def _refusal(problem: Any) -> Reply:
    """An error event as the answer that it would have been without a stream."""
    code = problem.get("code") if isinstance(problem, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return engine_refusal(status, {"error": problem})


class CollectingRelay(Relay):
    """A relay whose caller gets one JSON object, at the end."""

    def __init__(self, client: ClientConnection, plan: Plan) -> None:
        super().__init__(client, plan)
        self._collector: Collector | None = None

    def upstream_head(self, status: int, headers: Headers) -> None:
        self._collector = None
        if is_event_stream(headers):
            self._collector = Collector()
        else:
            # A refusal: it comes whole as it is.
            super().upstream_head(status, headers)

    def upstream_body(self, data: bytes) -> None:
        if self._collector is None:
            super().upstream_body(data)
            return
        try:
            self._collector.feed(data)
        except (ValueError, TypeError, AttributeError, KeyError):
            self._give_up("an event of its stream is no chunk of an answer")

    def upstream_done(self) -> None:
        collector = self._collector
        if collector is None:
            super().upstream_done()
        elif collector.error is not None:
            self._respond(_refusal(collector.error))
        elif collector.complete:
            self._respond(Reply(200, collector.answer()))
        else:
            self.upstream_failed(UpstreamError("its stream ended early"))

    def _respond(self, reply: Reply) -> None:
        self._end()
        self._client.respond(reply)
