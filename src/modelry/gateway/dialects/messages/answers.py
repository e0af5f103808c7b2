"""A chat's answer as a message of Anthropic's Messages API, whole or streamed.

Shapes: https://docs.anthropic.com/en/api/messages and, of streams,
https://docs.anthropic.com/en/docs/build-with-claude/streaming. Every field that Anthropic's own
library for Node.js has as required is there.
"""

import secrets
from typing import Any

import msgspec

from modelry.gateway.replies import Reply, anthropic_type, reworded

Json = dict[str, Any]

_SIGNATURE = "unsigned"
"""Of thinking, which comes of engines that sign nothing. Some clients drop what has none."""
_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
_CALLS = frozenset({"tool_calls", "function_call"})
_INVALID = "INVALID_JSON"
"""What Anthropic wraps the input of a call in that is no object."""

_encode = msgspec.json.Encoder().encode
_decode_input = msgspec.json.Decoder(dict[str, Any]).decode


# What a chat calls a thing → what this API does.
_NAMES = {
    r"response_format\.json_schema\.schema": "output_config.format.schema",
    r"(tools\[\d+\])\.function\.parameters": r"\1.input_schema",
    r"(tools\[\d+\])\.function": r"\1",
}


class MessagesAnswer:
    """See `Translation`. `request_id`, `model`: of the call, for answers that name none."""

    def __init__(self, request_id: bytes, model: str, *, streams: bool) -> None:
        self.streams = streams
        self._request_id = request_id.decode()
        self._model = model
        self._began = False
        self._block: str | int | None = None
        """What the block that is open is of: `thinking`, `text`, or a call's number."""
        self._call_id = ""
        """Of the call that is open, if its engine told one."""
        self._at = -1
        """Its number."""
        self._calls: set[int] = set()
        """Numbers of those that have had their block."""
        self._usage: Json = {}
        self._reason: str | None = None
        self._stop: str | None = None
        self._refused = False

    # -- whole answers -------------------------------------------------------

    def whole(self, answer: Json) -> bytes:
        choice = answer["choices"][0]
        told = choice["message"]
        content: list[Json] = []
        thought = told.get("reasoning_content") or told.get("reasoning")
        if thought:
            content.append({"type": "thinking", "thinking": thought, "signature": _SIGNATURE})
        text = (told.get("content") or "") + (told.get("refusal") or "")
        self._refused = bool(told.get("refusal"))
        if text:
            content.append({"type": "text", "text": text, "citations": None})
        for call in told.get("tool_calls") or ():
            function = call["function"]
            content.append(_tool_use(call, _input(function.get("arguments"))))
            self._calls.add(len(self._calls))
        self._told(choice)
        self._usage = answer.get("usage") or {}
        message = self._message(answer)
        return _encode({**message, "content": content, **self._end(), "usage": self._used()})

    # -- streams -------------------------------------------------------------

    def chunk(self, chunk: Json) -> bytes:
        events = b"" if self._began else self._begin(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            events += self._delta(choice.get("delta") or {})
            self._told(choice)
        return events

    def end(self) -> bytes:
        events = b"" if self._began else self._begin({})
        events += self._close()
        usage = self._used()
        for name in ("cache_creation", "inference_geo", "service_tier", "speed"):
            del usage[name]
        events += _event({"type": "message_delta", "delta": self._end(), "usage": usage})
        return events + _event({"type": "message_stop"})

    def broken(self, problem: Json) -> bytes:
        code = problem.get("code")
        status = code if type(code) is int else 500
        message = str(problem.get("message") or "The engine failed without a word.")
        error = {"type": anthropic_type(status), "message": message}
        return _event({"type": "error", "error": error, "request_id": self._request_id})

    def refusal(self, reply: Reply) -> Reply:
        """In Anthropic's words; the caller's connection gives it that shape."""
        return reworded(reply, _NAMES)

    # ------------------------------------------------------------------------

    def _message(self, told: Json) -> Json:
        """What is known of it from the beginning."""
        id_ = told.get("id")
        name = id_.removeprefix("chatcmpl-") if isinstance(id_, str) and id_ else self._request_id
        return {
            "id": f"msg_{name}",
            "type": "message",
            "role": "assistant",
            "model": told.get("model") or self._model,
            "container": None,
            "diagnostics": None,
        }

    def _begin(self, chunk: Json) -> bytes:
        # What the prompt has is told at the end: engines do not know it before.
        self._began = True
        nothing = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
        message = {**self._message(chunk), "content": [], **nothing, "usage": self._used()}
        return _event({"type": "message_start", "message": message}) + _event({"type": "ping"})

    def _delta(self, delta: Json) -> bytes:
        events = b""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            events += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events += self._part({"type": "thinking_delta", "thinking": thought})
        text = (delta.get("content") or "") + (delta.get("refusal") or "")
        if text:
            self._refused = self._refused or bool(delta.get("refusal"))
            events += self._open("text", {"type": "text", "text": "", "citations": None})
            events += self._part({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def _call(self, call: Json) -> bytes:
        number = call.get("index") or 0
        function = call.get("function") or {}
        id_ = call.get("id") or ""
        events = b""
        # Some engines give all calls the same number.
        is_another = bool(id_) and id_ != self._call_id
        if self._block != number or is_another:
            if number in self._calls and not is_another:
                raise ValueError("a call goes on behind the next")
            self._calls.add(number)
            self._call_id = id_
            events += self._close() + self._open(number, _tool_use(call, {}))
        arguments = function.get("arguments")
        if arguments:
            events += self._part({"type": "input_json_delta", "partial_json": arguments})
        return events

    def _open(self, what: str | int, block: Json) -> bytes:
        if self._block == what:
            return b""
        events = self._close()
        self._block = what
        self._at += 1
        return events + _event(
            {"type": "content_block_start", "index": self._at, "content_block": block}
        )

    def _close(self) -> bytes:
        if self._block is None:
            return b""
        events = b""
        if self._block == "thinking":
            events = self._part({"type": "signature_delta", "signature": _SIGNATURE})
        self._block = None
        return events + _event({"type": "content_block_stop", "index": self._at})

    def _part(self, delta: Json) -> bytes:
        return _event({"type": "content_block_delta", "index": self._at, "delta": delta})

    def _told(self, choice: Json) -> None:
        """Keep why the answer ended, if it says."""
        self._reason = choice.get("finish_reason") or self._reason
        # Of vLLM: the text that it stopped at, or a token's number.
        stop = choice.get("stop_reason")
        if isinstance(stop, str):
            self._stop = stop

    def _end(self) -> Json:
        """Why the answer ended."""
        reason = _REASONS.get(self._reason or "", "end_turn")
        if self._refused:
            reason = "refusal"
        elif self._reason in _CALLS or (self._calls and reason == "end_turn"):
            reason = "tool_use"
        elif self._stop is not None and reason == "end_turn":
            reason = "stop_sequence"
        details = None
        if reason == "refusal":
            details = {"type": "refusal", "category": None, "explanation": None}
        stop = self._stop if reason == "stop_sequence" else None
        return {"stop_reason": reason, "stop_sequence": stop, "stop_details": details} | (
            {"container": None} if self.streams else {}
        )

    def _used(self) -> Json:
        """Anthropic counts those read from a cache apart."""
        said = self._usage
        prompt = said.get("prompt_tokens") or 0
        cached = min((said.get("prompt_tokens_details") or {}).get("cached_tokens") or 0, prompt)
        thought = (said.get("completion_tokens_details") or {}).get("reasoning_tokens")
        return {
            "input_tokens": prompt - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": said.get("completion_tokens") or 0,
            "output_tokens_details": None if thought is None else {"thinking_tokens": thought},
            "server_tool_use": None,
            "cache_creation": None,
            "inference_geo": None,
            "service_tier": None,
            "speed": None,
        }


class TokenCount:
    """The answer to `count_tokens`; see `Translation`."""

    streams = False

    def whole(self, answer: Json) -> bytes:
        return _encode({"input_tokens": answer["count"]})

    def chunk(self, chunk: Json) -> bytes:
        raise ValueError("a count is no stream")

    def end(self) -> bytes:
        return b""

    def broken(self, problem: Json) -> bytes:
        return b""

    def refusal(self, reply: Reply) -> Reply:
        return reworded(reply, _NAMES)


def _event(value: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), _encode(value))


def _tool_use(call: Json, input: Json) -> Json:
    id_ = call.get("id") or f"toolu_{secrets.token_hex(12)}"
    name = (call.get("function") or {}).get("name") or ""
    return {"type": "tool_use", "id": id_, "name": name, "input": input}


def _input(arguments: Any) -> Json:
    """What a call's arguments are as an object. An answer that was cut may have a part of one."""
    if not arguments:
        return {}
    if isinstance(arguments, dict):
        return arguments
    try:
        return _decode_input(arguments)
    except (msgspec.DecodeError, RecursionError):
        return {_INVALID: arguments}
