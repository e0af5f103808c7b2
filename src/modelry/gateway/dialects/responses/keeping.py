"""The end of an answer waits until the response is kept: whoever has it can go on from it."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from modelry.errors import ModelryError
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.gateway.translating import Answering

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long an answer waits for its file: a disk that hangs is not to hang every caller."""


class Keeping(Protocol):
    keep: Callable[[], None] | None
    """Keeps the response, once that is complete and to be kept. For a thread; raises
    `ModelryError`."""


class KeptAnswer:
    """Stands between a translation and the caller of `request`."""

    translates = True
    chunk_writer = None

    def __init__(
        self, client: Answering, request: Request, keeping: Keeping, threads: Executor
    ) -> None:
        self._client = client
        self._request = request
        self._keeping = keeping
        self._threads = threads
        self._last = b""

    def respond(self, reply: Reply) -> None:
        self._client.respond(reply)

    def respond_whole(self, status: int, lines: bytes, body: bytes) -> None:
        self._once_kept(partial(self._client.respond_whole, status, lines, body))

    def begin(self, status: int, lines: bytes) -> None:
        self._client.begin(status, lines)

    def write(self, data: bytes) -> None:
        if self._keeping.keep is None:
            self._client.write(data)
        else:
            self._last += data

    def write_chunk(self, chunk: bytes, data: bytes) -> None:
        self.write(data)

    def finish(self) -> None:
        self._once_kept(self._finish)

    def abort(self) -> None:
        self._client.abort()

    def serves(self, request: Request) -> bool:
        return self._client.serves(request)

    # ------------------------------------------------------------------------

    def _finish(self) -> None:
        self._client.write(self._last)
        self._client.finish()

    def _once_kept(self, go_on: Callable[[], None]) -> None:
        keep = self._keeping.keep
        if keep is None:
            go_on()
            return

        has_gone_on = False

        def go_on_once() -> None:
            nonlocal has_gone_on
            # Its caller may have left meanwhile.
            if not has_gone_on and self._client.serves(self._request):
                has_gone_on = True
                go_on()

        def done(work: asyncio.Future[None]) -> None:
            timer.cancel()
            problem = None if work.cancelled() else work.exception()
            if problem is not None:
                # The answer is as good without it, and few callers go on from it.
                told = problem.message if isinstance(problem, ModelryError) else repr(problem)
                log.warning("%s: %s", self._request.id.decode(), told)
            go_on_once()

        loop = asyncio.get_running_loop()
        timer = loop.call_later(PATIENCE_S, go_on_once)
        loop.run_in_executor(self._threads, keep).add_done_callback(done)
