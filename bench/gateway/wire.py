"""What goes over the wire, the same for every contestant: the callers' requests, the engine's
answers and frames, and the marks by which a caller knows that nothing is missing.

Header names and their number are those of the OpenAI Python SDK, so that a
gateway has as much to parse as it has in earnest.
"""

import json
from dataclasses import dataclass
from functools import cached_property

HOST = "127.0.0.1"
MODEL = "u-000000000000/bench"
TEXT = b"This is a test!"
DELTAS = 64
DELTA_GAP_S = 0.020

# `"content":"d007 "` is delta 7 of its stream.
DELTA_MARK = b'"content":"d'
DELTA_DIGITS = 3

_ID = "chatcmpl-3f1a0c5e7b9d4f6282c4e6a8b0d2f416"
_CREATED = 1_700_000_000
_USAGE = {"prompt_tokens": 24, "completion_tokens": DELTAS, "total_tokens": 24 + DELTAS}
_PARAGRAPH = (
    "The gateway looks the key up, finds the route, takes a slot and passes the body on as it "
    'came; what it counts, it counts from the answer ("usage"), not from this text.\n'
)


class Unexpected(Exception):
    """An answer that is not the engine's, or none: whatever was measured counts for nothing."""


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def body(model: str, size: int, *, stream: bool) -> bytes:
    """A chat of about `size` bytes; its last message is filled up."""

    def chat(question: str) -> bytes:
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": question},
        ]
        asked = {"model": model, "messages": messages, "max_tokens": DELTAS, "temperature": 0.7}
        return _json({**asked, "stream": True} if stream else asked)

    missing = max(0, size - len(chat("")))
    return chat((_PARAGRAPH * (missing // len(_PARAGRAPH) + 1))[:missing])


def request(key: str, model: str, size: int, *, stream: bool) -> bytes:
    """The bytes of one call, head and body."""
    content = body(model, size, stream=stream)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: {HOST}\r\n"
        "Accept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\n"
        "Content-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 3.54.0\r\n"
        "X-Stainless-Lang: python\r\n"
        "X-Stainless-Package-Version: 3.54.0\r\n"
        "X-Stainless-OS: Linux\r\n"
        "X-Stainless-Arch: x64\r\n"
        "X-Stainless-Runtime: CPython\r\n"
        "X-Stainless-Runtime-Version: 3.11.7\r\n"
        "X-Stainless-Async: false\r\n"
        "X-Stainless-Retry-Count: 0\r\n"
        "X-Stainless-Read-Timeout: 600\r\n"
        f"Authorization: Bearer {key}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def reply(status: str, content: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def completion(model: str) -> bytes:
    """A whole answer, with its head."""
    message = {"role": "assistant", "content": TEXT.decode()}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    answer = {"id": _ID, "object": "chat.completion", "created": _CREATED, "model": model}
    return reply("200 OK", _json({**answer, "choices": [choice], "usage": _USAGE}))


def model_list() -> bytes:
    card = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "bench"}
    return reply("200 OK", _json({"object": "list", "data": [card]}))


@dataclass(frozen=True)
class Script:
    """What the engine sends for one stream, in order: each part is one write of its own.

    As inference servers do, every event is an HTTP chunk; head and role go out at
    once, and what follows the last delta does so together, one gap after it.
    """

    model: str
    usage: bool

    @cached_property
    def parts(self) -> tuple[bytes, ...]:
        head = (
            b"HTTP/1.1 200 OK\r\n"
            b"content-type: text/event-stream; charset=utf-8\r\n"
            b"cache-control: no-cache\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        first = head + self._event({"role": "assistant", "content": ""})
        deltas = tuple(
            self._event({"content": f"d{index:0{DELTA_DIGITS}} "}) for index in range(DELTAS)
        )
        usage = self._chunk({"choices": [], "usage": _USAGE}) if self.usage else b""
        last = self._event({}, "stop") + usage + _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        return (first, *deltas, last)

    def _event(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._chunk({"choices": [choice]})

    def _chunk(self, what: dict[str, object]) -> bytes:
        base = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED}
        return _http_chunk(b"data: %b\n\n" % _json({**base, "model": self.model, **what}))


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
