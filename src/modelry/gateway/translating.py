"""Answers of one API made those of another, on their way to the caller.

A call of Responses or Messages is a chat to everything behind it: limits, queue, replicas, usage.
Its request is translated when it comes in, and between the `Call` and its caller's connection
stands a `TranslatedAnswer`, which takes a chat's answer, whole or streamed, and hands on what a
`Translation` makes of it. Translations can stand behind one another.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from modelry.gateway.body import UNREADABLE
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import DerivedRequest, Request

log = logging.getLogger(__name__)

STREAM_LINES = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
_TYPE_LINE = b"content-type:"
_FRAME_MOST = 16 * 1024 * 1024

Json = dict[str, Any]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Answering(Protocol):
    """Where a call writes its answer: its caller's connection, or a translation before it."""

    translates: bool
    """Whether what is written becomes something else, so that a whole answer has to come whole."""

    def respond(self, reply: Reply) -> None:
        """Write a whole answer of the gateway's own and finish."""
        ...

    def respond_whole(self, status: int, lines: bytes, body: bytes) -> None:
        """The same of parts: `lines` are header lines, each with its line end."""
        ...

    def begin(self, status: int, lines: bytes) -> None:
        """Write the head of an answer whose body is written bit by bit."""
        ...

    def write(self, data: bytes) -> None: ...
    def write_chunk(self, chunk: bytes, data: bytes) -> None:
        """Write `data`, of which `chunk` is the chunked form."""
        ...

    @property
    def chunk_writer(self) -> Callable[[bytes], None] | None:
        """What writes chunks that are coded already, where the answer goes out in chunks."""
        ...

    def finish(self) -> None: ...
    def abort(self) -> None:
        """Break the connection: the answer that was begun cannot be completed."""
        ...

    def serves(self, request: Request) -> bool:
        """Whether it is this request of the caller's that is answered: the caller has not left."""
        ...


class Translation(Protocol):
    """What one call's answer becomes. Each method may raise what a malformed answer leads to:
    `KeyError`, `TypeError`, `ValueError`, `AttributeError`, `IndexError`.

    Of a stream: `chunk` of each, then `end` or `broken`, whose results go to the caller in order.
    """

    streams: bool
    """Whether the caller wants a stream."""

    def whole(self, answer: Json) -> bytes:
        """A whole chat completion, as the caller gets it."""
        ...

    def chunk(self, chunk: Json) -> bytes:
        """The events that a chunk of a chat's stream becomes; none where it says nothing new."""
        ...

    def end(self) -> bytes:
        """The last events of a stream that is complete."""
        ...

    def broken(self, problem: Json) -> bytes:
        """The last events of a stream that broke off. `problem`: OpenAI's error object."""
        ...

    def refusal(self, reply: Reply) -> Reply:
        """A refusal of the chat's as one of what the caller called."""
        ...


Translate = Callable[[Request, Answering], tuple[DerivedRequest, Answering]]
"""Makes a request one of a chat, and says where that writes its answer. Raises a `Reply` that
refuses it."""


class TranslatedAnswer:
    """See `Answering`."""

    translates = True
    chunk_writer = None

    def __init__(self, client: Answering, translation: Translation) -> None:
        self._client = client
        self._translation = translation
        self._buffer = bytearray()
        self._is_over = False
        """Whether the stream's last event has been written."""

    def respond(self, reply: Reply) -> None:
        self._client.respond(self._translation.refusal(reply))

    def respond_whole(self, status: int, lines: bytes, body: bytes) -> None:
        translation = self._translation
        try:
            told = _decode(body)
            if translation.streams:
                # Of an endpoint elsewhere that knows no streams.
                answer = translation.chunk(_as_chunk(told)) + translation.end()
            else:
                answer = translation.whole(told)
        except (*UNREADABLE, *_MALFORMED) as problem:
            log.warning("an answer is none of a chat's: %r", problem)
            self.respond(no_answer())
            return
        if translation.streams:
            others = [line for line in lines.splitlines(True) if not line.startswith(_TYPE_LINE)]
            self._client.begin(status, STREAM_LINES + b"".join(others))
            self._client.write(answer)
            self._client.finish()
        else:
            self._client.respond_whole(status, lines, answer)

    def begin(self, status: int, lines: bytes) -> None:
        self._client.begin(status, lines)

    def write(self, data: bytes) -> None:
        if self._is_over:
            return
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > _FRAME_MOST:
                self._break_off()
            return
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        events = bytearray()
        try:
            for line in lines:
                # A chat's events have one line of data each.
                if line.startswith(b"data:") and not self._is_over:
                    events += self._event(line[5:].strip())
        except (*UNREADABLE, *_MALFORMED) as problem:
            log.warning("an event is none of a chat's: %r", problem)
            self._client.write(bytes(events))
            self._break_off()
            return
        self._client.write(bytes(events))

    def write_chunk(self, chunk: bytes, data: bytes) -> None:
        self.write(data)

    def finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            try:
                self._client.write(self._translation.end())
            except _MALFORMED:
                log.exception("an answer could not be ended")
                self._client.abort()
                return
        self._client.finish()

    def abort(self) -> None:
        self._is_over = True
        self._client.abort()

    def serves(self, request: Request) -> bool:
        return self._client.serves(request)

    # ------------------------------------------------------------------------

    def _event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return b""
        value = _decode(data)
        problem = value.get("error")
        if problem is not None:
            self._is_over = True
            return self._translation.broken(
                problem if isinstance(problem, dict) else {"message": str(problem)}
            )
        return self._translation.chunk(value)

    def _break_off(self) -> None:
        """End a stream whose events cannot be read."""
        self._is_over = True
        self._client.write(self._translation.broken(_decode(no_answer().body)["error"]))


def no_answer() -> Reply:
    """Of what cannot be translated."""
    return error(502, "bad_gateway", "The replica's answer is none to a chat.")


_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def _as_chunk(answer: Json) -> Json:
    """A whole chat completion as the one chunk of a stream."""
    choices = []
    for choice in answer["choices"]:
        message = dict(choice["message"])
        calls = message.get("tool_calls")
        if calls:
            message["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
        choices.append({**choice, "delta": message})
    return {**answer, "object": "chat.completion.chunk", "choices": choices}
