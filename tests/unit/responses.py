"""Calls of `/v1/responses` without a gateway: what they ask, and what becomes of an answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelry.gateway.dialects.responses.calls import Responses
from modelry.gateway.dialects.responses.store import ResponseStore
from modelry.gateway.replies import Reply
from modelry.gateway.request import DerivedRequest, Request
from modelry.gateway.table import Table
from modelry.gateway.translating import Answering
from modelry.routing.messages import KeyGrant, Route, RoutePut

Json = dict[str, Any]
OWNER = "u-anna"
PATH = f"{OWNER}/demo"
KEY = KeyGrant("key_1", "hash", OWNER, number=1)


class Caller:
    """The connection of whoever calls. `left`: it has been closed."""

    translates = False

    def __init__(self, *, left: bool = False) -> None:
        self.left = left
        self.status = 0
        self.body = b""
        self.finished = False
        self.refusal: Reply | None = None

    def respond(self, reply: Reply) -> None:
        self.refusal = reply

    def respond_whole(self, status: int, lines: bytes, body: bytes) -> None:
        self.status, self.body, self.finished = status, body, True

    def begin(self, status: int, lines: bytes) -> None:
        self.status = status

    def write(self, data: bytes) -> None:
        assert not self.finished
        self.body += data

    def write_chunk(self, chunk: bytes, data: bytes) -> None:
        self.write(data)

    @property
    def chunk_writer(self) -> Callable[[bytes], None] | None:
        return None

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.finished = True

    def serves(self, request: Request) -> bool:
        return not self.left

    @property
    def events(self) -> list[Json]:
        texts = self.body.decode().split("\n\n")[:-1]
        return [json.loads(text.split("\ndata: ")[1]) for text in texts]


class Api:
    """`/v1/responses` of a data directory with a service, `PATH`."""

    def __init__(self, folder: Path, *, ttl_s: float = 60, most_bytes: int = 1 << 24) -> None:
        table = Table()
        route = Route(
            "svc_demo", PATH, OWNER, ("chat",), "running", "", 0, replicas=(), endpoints=()
        )
        table.apply(RoutePut(0, route))
        self.store = ResponseStore(
            folder / "responses", ttl_s=ttl_s, most_bytes=most_bytes, record_bytes=1 << 22
        )
        self.responses = Responses(self.store, table, body_bytes=1 << 20)

    def call(
        self, body: Any, caller: Caller | None = None, key: KeyGrant = KEY
    ) -> tuple[DerivedRequest, Answering]:
        """Raises the `Reply` that refuses it."""
        request = Request("", 0.0)
        request.method, request.target = b"POST", b"/v1/responses"
        request.complete_head()
        request.id, request.key = b"req_1", key
        request.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.responses.translate(request, caller or Caller())

    def chat(self, **body: Any) -> Json:
        """The chat that a call is made."""
        chat: Json = json.loads(self.call({"model": PATH, **body})[0].body)
        return chat

    def whole(self, answer: Json, **body: Any) -> Json:
        """The response of a call whose chat is answered so."""
        caller = Caller()
        call = {"model": PATH, "input": "hi", "store": False, **body}
        self.call(call, caller)[1].respond_whole(200, b"", json.dumps(answer).encode())
        assert caller.refusal is None, caller.refusal.body
        response: Json = json.loads(caller.body)
        return response

    def stream(self, *chunks: Json, **body: Any) -> list[Json]:
        """The events of a call whose chat's stream has these chunks."""
        caller = Caller()
        call = {"model": PATH, "input": "hi", "store": False, "stream": True, **body}
        answering = self.call(call, caller)[1]
        answering.begin(200, b"")
        for chunk in chunks:
            answering.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        answering.write(b"data: [DONE]\n\n")
        answering.finish()
        assert caller.finished
        return caller.events


def answer(*, finish: str = "stop", logprobs: Any = None, **message: Any) -> Json:
    choice = {"index": 0, "finish_reason": finish, "logprobs": logprobs}
    choice["message"] = {"role": "assistant", "content": None, **message}
    return {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def chunk(finish: str | None = None, logprobs: Any = None, **delta: Any) -> Json:
    choice = {"index": 0, "finish_reason": finish, "logprobs": logprobs, "delta": delta}
    return {"object": "chat.completion.chunk", "choices": [choice]}


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 5,
    "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
USAGE_CHUNK: Json = {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
