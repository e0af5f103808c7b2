"""A chat's chunks as the events of a response's stream, in OpenAI's order.

An item ends before the next begins, and a part of a message before its next part.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelry.gateway.dialects.responses import objects
from modelry.gateway.dialects.responses.ids import Ids, call_id
from modelry.gateway.dialects.responses.reading import Json

_encode = msgspec.json.Encoder().encode
_FAILURES = ("server_error", "rate_limit_exceeded")
"""Codes that OpenAI's type of a failed response has, and that a chat can fail with."""
_OF_A_MESSAGE = {"output_text", "refusal"}


@dataclass
class _Open:
    """The item that is being written. `kind`: of its part, or `function_call`."""

    kind: str
    id: str
    at: int
    part: int = 0
    call: str = ""
    name: str = ""
    call_index: Any = None
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    parts: list[Json] = field(default_factory=list)
    """The parts of a message that are complete."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def goes_on_with(self, call: Json, index: Any) -> bool:
        """Whether a delta of a tool call is of this one. Some engines give all the same index."""
        return (
            self.kind == "function_call"
            and self.call_index == index
            and (call.get("id") or self.call) == self.call
        )


class ResponseStream:
    """`response`: as it begins; `top`: see `logprobs_of`. Each method returns events."""

    def __init__(self, response: Json, ids: Ids, top: int) -> None:
        self._response = response
        self._ids = ids
        self._top = top
        self._number = 0
        self._has_begun = False
        self._open: _Open | None = None
        self._output: list[Json] = []
        self._finish: str | None = None
        self._usage: Any = None

    def chunk(self, chunk: Json) -> bytes:
        events = self._begin()
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = usage
        for choice in chunk["choices"]:
            if choice.get("index", 0) == 0:
                events += self._delta(choice.get("delta") or {}, choice.get("logprobs"))
                self._finish = objects.text_of(choice, "finish_reason") or self._finish
        return events

    def complete(self) -> bytes:
        """The events before the last; then `ended` is the response."""
        events = self._begin() + self._close(is_last=True)
        if not self._output:
            events += self._text("output_text", "", []) + self._close(is_last=True)
        return events

    @property
    def ended(self) -> Json:
        return objects.ended(self._response, self._output, self._finish, self._usage)

    def last(self, response: Json) -> bytes:
        """The last event of a stream. `response`: as it ended."""
        return self._event(f"response.{response['status']}", response=response)

    def broken(self, problem: Json) -> bytes:
        """What says that the stream broke off. `problem`: OpenAI's error object."""
        events = self._begin()
        message = str(problem.get("message") or "The answer broke off.")
        code, param = problem.get("code"), problem.get("param")
        if self._open is not None:
            self._output.append(self._item(self._open, "incomplete"))
        failed = {
            **self._response,
            "status": "failed",
            "error": {"code": code if code in _FAILURES else "server_error", "message": message},
            "output": self._output,
            "usage": objects.usage_of(self._usage),
        }
        events += self._event("response.failed", response=failed)
        said = {
            "code": code if isinstance(code, str) else None,
            "message": message,
            "param": param if isinstance(param, str) else None,
        }
        # `error` is in no type of OpenAI's: its libraries for Python raise by it alone, those for
        # Node by the fields beside it.
        error = {"type": str(problem.get("type") or "server_error"), **said}
        return events + self._event("error", **said, error=error)

    # ------------------------------------------------------------------------

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        begun = self._event("response.created", response=self._response)
        return begun + self._event("response.in_progress", response=self._response)

    def _delta(self, delta: Json, logprobs: Any) -> bytes:
        events = b""
        thought = objects.thought_of(delta)
        if thought is not None:
            events += self._text("reasoning_text", thought, [])
        text = objects.text_of(delta, "content")
        if text:
            events += self._text("output_text", text, objects.logprobs_of(logprobs, self._top))
        refusal = objects.text_of(delta, "refusal")
        if refusal:
            events += self._text("refusal", refusal, [])
        for at, call in enumerate(delta.get("tool_calls") or []):
            events += self._call(call, call.get("index", at))
        return events

    def _text(self, kind: str, text: str, logprobs: list[Json]) -> bytes:
        events = b""
        item = self._open
        if item is None or item.kind != kind:
            events, item = self._open_part(kind)
        item.texts.append(text)
        more: Json = {}
        if kind == "output_text":
            item.logprobs += logprobs
            more = {"logprobs": objects.without_bytes(logprobs)}
        if not text:
            return events
        place = self._place(item) | {"content_index": item.part}
        return events + self._event(f"response.{kind}.delta", **place, delta=text, **more)

    def _open_part(self, kind: str) -> tuple[bytes, _Open]:
        item = self._open
        if item is not None and {kind, item.kind} == _OF_A_MESSAGE:
            events = self._close_part(item)
            item.kind, item.texts, item.part = kind, [], item.part + 1
        else:
            events = self._close()
            type_ = "reasoning" if kind == "reasoning_text" else "message"
            item = self._open = _Open(kind, self._ids.item(type_), len(self._output))
            begun = (
                objects.reasoning_item(item.id, "in_progress", None)
                if kind == "reasoning_text"
                else objects.message_item(item.id, "in_progress", [])
            )
            events += self._event("response.output_item.added", output_index=item.at, item=begun)
        place = self._place(item) | {"content_index": item.part}
        return events + self._event(
            "response.content_part.added", **place, part=_part(kind, "", [])
        ), item

    def _call(self, call: Json, index: Any) -> bytes:
        events = b""
        function = call.get("function") or {}
        item = self._open
        if item is None or not item.goes_on_with(call, index):
            events = self._close()
            item = self._open = _Open(
                "function_call",
                self._ids.item("function_call"),
                len(self._output),
                call=objects.text_of(call, "id") or call_id(),
                name=objects.name_of(function),
                call_index=index,
            )
            begun = objects.call_item(item.id, "in_progress", item.call, item.name, "")
            events += self._event("response.output_item.added", output_index=item.at, item=begun)
        text = objects.text_of(function, "arguments")
        if text:
            item.texts.append(text)
            events += self._event(
                "response.function_call_arguments.delta", **self._place(item), delta=text
            )
        return events

    def _close(self, *, is_last: bool = False) -> bytes:
        """The end of the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return b""
        cut = is_last and objects.is_cut(self._finish)
        told = self._item(item, "incomplete" if cut else "completed")
        self._output.append(told)
        if item.kind == "function_call":
            events = self._event(
                "response.function_call_arguments.done",
                **self._place(item),
                arguments=item.text,
            )
        else:
            events = self._close_part(item)
        return events + self._event("response.output_item.done", output_index=item.at, item=told)

    def _close_part(self, item: _Open) -> bytes:
        place = self._place(item) | {"content_index": item.part}
        text = item.text
        part = _part(item.kind, text, item.logprobs)
        item.parts.append(part)
        said: Json = {"refusal" if item.kind == "refusal" else "text": text}
        if item.kind == "output_text":
            said["logprobs"] = objects.without_bytes(item.logprobs)
        events = self._event(f"response.{item.kind}.done", **place, **said)
        item.logprobs = []
        return events + self._event("response.content_part.done", **place, part=part)

    def _item(self, item: _Open, status: str) -> Json:
        """As it is with what has come of it."""
        text = item.text
        if item.kind == "function_call":
            return objects.call_item(item.id, status, item.call, item.name, text)
        if item.kind == "reasoning_text":
            return objects.reasoning_item(item.id, status, text)
        parts = [*item.parts, _part(item.kind, text, item.logprobs)]
        return objects.message_item(item.id, status, parts)

    def _place(self, item: _Open) -> Json:
        return {"item_id": item.id, "output_index": item.at}

    def _event(self, type_: str, **fields: Any) -> bytes:
        data = _encode({"type": type_, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (type_.encode(), data)


def _part(kind: str, text: str, logprobs: list[Json]) -> Json:
    if kind == "output_text":
        return objects.text_part(text, logprobs)
    if kind == "refusal":
        return objects.refusal_part(text)
    return {"type": kind, "text": text}
