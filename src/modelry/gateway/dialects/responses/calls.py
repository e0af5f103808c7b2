"""Calls of `/v1/responses`: each is made a chat, and the chat's answer a response."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from modelry.gateway.dialects.responses import objects
from modelry.gateway.dialects.responses.ids import Ids
from modelry.gateway.dialects.responses.items import check_calls, read_items
from modelry.gateway.dialects.responses.keeping import KeptAnswer
from modelry.gateway.dialects.responses.messages import chat_messages
from modelry.gateway.dialects.responses.reading import Json
from modelry.gateway.dialects.responses.store import Record, ResponseStore
from modelry.gateway.dialects.responses.stream import ResponseStream
from modelry.gateway.dialects.responses.wishes import (
    Wishes,
    chat_fields,
    read_tools,
    read_wishes,
    wants_logprobs,
)
from modelry.gateway.replies import Reply, error, reworded, shown
from modelry.gateway.request import CHAT, DerivedRequest, Request
from modelry.gateway.table import Table
from modelry.gateway.translating import Answering, TranslatedAnswer
from modelry.routing.messages import KeyGrant

PATH = b"/v1/responses"
_THREADS = 4

_encode = msgspec.json.Encoder().encode


class Responses:
    """`body_bytes`: how large a conversation may be, all its turns together."""

    def __init__(self, store: ResponseStore, table: Table, *, body_bytes: int) -> None:
        self._store = store
        self._table = table
        self._body_bytes = body_bytes
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="responses")

    def translate(self, request: Request, client: Answering) -> tuple[DerivedRequest, Answering]:
        """See `Translate`."""
        key = request.key
        assert key is not None
        wishes, ignored = read_wishes(request.body)
        tools = read_tools(wishes)
        ids = Ids()
        items = self._before(wishes.previous_response_id, key)
        before = len(items)
        assert wishes.input is not None
        items += read_items(wishes.input, ids, lambda wanted: self._store.items(wanted, key))
        check_calls(items, before)
        chat: Json = {"model": wishes.model, "messages": chat_messages(items, wishes.instructions)}
        chat |= chat_fields(wishes, tools)
        if wishes.stream:
            chat |= {"stream": True, "stream_options": {"include_usage": True}}
        body = _encode(chat)
        if len(body) > self._body_bytes:
            message = f"The conversation is larger than {self._body_bytes} bytes."
            raise error(413, "request_too_large", message)
        service = self._table.service(wishes.model, key)
        # Where there is none, the call is refused before anything is answered.
        path = wishes.model if service is None else service.route.access_path
        record = self._record(wishes, key, path, items)
        response = objects.new_response(ids.response, path, wishes, tools)
        top = (wishes.top_logprobs or 0) if wants_logprobs(wishes) else 0
        answer = _Answer(bool(wishes.stream), response, ids, top, record)
        derived = DerivedRequest(request, CHAT, body, ignored)
        derived.kept_bytes = 0 if record is None else record.size
        return derived, TranslatedAnswer(KeptAnswer(client, request, answer, self.threads), answer)

    def _before(self, previous: str | None, key: KeyGrant) -> list[Json]:
        """The conversation that goes on."""
        if previous is None:
            return []
        record = self._store.read(previous, key)
        if record is None:
            message = (
                f"There is no response '{shown(previous)}' to go on from: it was not kept, is kept "
                "no longer, or is another's."
            )
            at = "previous_response_id"
            raise error(400, "previous_response_not_found", message, param=at)
        return record.conversation

    def _record(
        self, wishes: Wishes, key: KeyGrant, path: str, items: list[Json]
    ) -> "_Unkept | None":
        if wishes.store is False:
            return None
        if wishes.store and not self._store.has_room:
            message = "The disk is nearly full, so responses are not kept; send 'store': false."
            raise error(503, "service_unavailable", message)
        return _Unkept(self._store, key.owner_id, path, _encode(items))


class _Unkept:
    """What of a response's record is known before its answer."""

    def __init__(self, store: ResponseStore, owner: str, path: str, items: bytes) -> None:
        self._store = store
        self._owner = owner
        self._path = path
        self._items = items

    @property
    def size(self) -> int:
        return len(self._items)

    def keeps(self, response_id: str, response: bytes) -> Callable[[], None]:
        record = Record(self._owner, self._path, msgspec.Raw(response), msgspec.Raw(self._items))
        return partial(self._store.keep, response_id, record)


class _Answer:
    """See `Translation`."""

    def __init__(
        self, streams: bool, response: Json, ids: Ids, top: int, record: _Unkept | None
    ) -> None:
        self.streams = streams
        self.keep: Callable[[], None] | None = None
        self._response = response
        self._ids = ids
        self._top = top
        self._record = record
        self._stream = ResponseStream(response, ids, top)

    def whole(self, answer: Json) -> bytes:
        output = objects.output_of(answer, self._ids, self._top)
        finish = objects.text_of(answer["choices"][0], "finish_reason")
        response = objects.ended(self._response, output, finish, answer.get("usage"))
        return self._complete(response)

    def chunk(self, chunk: Json) -> bytes:
        return self._stream.chunk(chunk)

    def end(self) -> bytes:
        events = self._stream.complete()
        response = self._stream.ended
        self._complete(response)
        return events + self._stream.last(response)

    def broken(self, problem: Json) -> bytes:
        return self._stream.broken(problem)

    def refusal(self, reply: Reply) -> Reply:
        """In the same shape, but for the names of what was asked."""
        return reworded(reply, _NAMES)

    def _complete(self, response: Json) -> bytes:
        data = _encode(response)
        if self._record is not None:
            self.keep = self._record.keeps(response["id"], data)
        return data


# What a chat calls a thing → what this API does.
_NAMES = {
    "messages": "input",
    r"response_format\.json_schema": "text.format",
    r"(tools\[\d+\])\.function": r"\1",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}
