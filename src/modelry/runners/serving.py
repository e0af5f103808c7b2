"""What the runners share: a Starlette application on a private address, behind a secret.

A runner loads its model first and listens then: whoever asks before finds nobody. On SIGTERM
it takes no more requests, finishes those it works on and ends; a second SIGTERM ends it at once.
SIGINT is ignored. What it and its libraries write for a while lies in `tmp` in the folder that it
was started in, which is the replica's own.
"""

import asyncio
import hmac
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

import uvicorn  # type: ignore[import-untyped, unused-ignore]
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modelry.runners.configuration import (
    EXIT_UNLOADABLE,
    UNITS_HEADER,
    RunnerConfig,
    read_config,
)
from modelry.runners.refusals import Cancelled, Refused

log = logging.getLogger("runner")

Answer = TypeVar("Answer")
Item = TypeVar("Item")

_DRAIN_S = 60
_AHEAD = 8
"""Items of a stream that wait for a caller who takes them slowly."""


def started() -> RunnerConfig:
    """Called first, before any library: what this process was told, how it treats its signals, and
    where its passing files lie.
    """
    # A person's ^C in the terminal is for `up`, which stops replicas in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    _keep_passing_files(Path.cwd() / "tmp")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    config = read_config(sys.stdin)
    sys.stdin.close()
    return config


def unloadable(reason: str) -> NoReturn:
    """The weights do not load, and would not the next time."""
    print(" ".join(reason.split()), flush=True)
    os._exit(EXIT_UNLOADABLE)


def serve(config: RunnerConfig, routes: list[BaseRoute]) -> None:
    """Answer until the process is told to end."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": config.alias, "object": "model"}]})

    application = Starlette(
        routes=[Route("/health", health), Route("/v1/models", models), *routes],
        middleware=[Middleware(_Guard, secret=config.secret)],
        exception_handlers={
            Refused: _refused,
            Cancelled: _gone,
            HTTPException: _http_error,
            Exception: _failed,
        },
    )
    server = _Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_DRAIN_S,
            # What is idle between requests is the gateway's to close.
            timeout_keep_alive=3600,
        )
    )
    with _listening(config.address) as listener:
        print("ready", flush=True)
        asyncio.run(_served(server, listener, config.slots))


class _Server(uvicorn.Server):
    """Ends as this module says: uvicorn's own handlers would end at a SIGINT too, and would kill
    the process by the signal that ended it, after it has waited for every thread.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Left in place: the process ends with the server."""
        signal.signal(signal.SIGTERM, self._end)
        yield

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(0)
        self.should_exit = True


def _keep_passing_files(folder: Path) -> None:
    """In `folder`, which goes with the replica's: a runner that is killed cleans up nothing. Those
    of this process, of libraries that are not Python's, and of what they start.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


async def _served(server: uvicorn.Server, listener: socket.socket, slots: int) -> None:
    # A thread for each request, and for each whose caller has just gone and still winds up.
    threads = ThreadPoolExecutor(2 * slots + 4, thread_name_prefix="request")
    asyncio.get_running_loop().set_default_executor(threads)
    await server.serve(sockets=[listener])
    # Threads that still work on what nobody waits for must not delay the end, and the loop would
    # wait for them.
    os._exit(0)


def broken(problem: Exception) -> Refused:
    """What a caller is told of an error of the engine's own."""
    message = f"The engine could not answer: {type(problem).__name__}."
    return Refused(message, status=500, code="engine_error")


def units(**used: float) -> dict[str, str]:
    """Headers that tell what an answer used: images, pixels, audio_s, characters."""
    return {UNITS_HEADER: json.dumps(used, separators=(",", ":"))}


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event, named by its `type` where it has one, as OpenAI's are."""
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


async def frames(
    events: AsyncGenerator[bytes, None], first: bytes = b""
) -> AsyncGenerator[bytes, None]:
    """`first` and then `events`, server-sent, of an answer that has begun: what goes wrong now is
    told as the last of them, for its status has been sent.
    """
    async with aclosing(events):
        try:
            if first:
                yield first
            async for each in events:
                yield each
        except Cancelled:
            return
        except Refused as refusal:
            yield event({"type": "error", **refusal.body})
        except Exception as problem:
            log.exception("an answer broke off")
            yield event({"type": "error", **broken(problem).body})


async def in_thread(request: Request, work: Callable[[threading.Event], Answer]) -> Answer:
    """What `work` returns, run in a thread of its own. It is given an event that is set when the
    caller has gone: it then should raise `Cancelled` soon.
    """
    gone = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work, gone))
    watch = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((running, watch), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            gone.set()
        return await running
    finally:
        gone.set()
        watch.cancel()


class Feed(Generic[Item]):
    """What a thread makes, item by item, for an answer that streams.

    `put` waits while the caller takes nothing, and raises `Cancelled` once it has gone.
    """

    def __init__(self, make: "Callable[[Feed[Item]], None]") -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[tuple[Item | None, BaseException | None]]
        self._items = asyncio.Queue(_AHEAD)
        self.gone = threading.Event()

    def put(self, item: Item) -> None:
        self._hand_over((item, None))

    async def first(self, request: Request) -> Item | None:
        """Start, and wait for the first item; None where there is none. Raises what `make` does,
        and `Cancelled` where the caller leaves before.
        """
        self._loop.run_in_executor(None, self._run)
        item = asyncio.create_task(self._next())
        watch = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((item, watch), return_when=asyncio.FIRST_COMPLETED)
            if not item.done():
                self.gone.set()
                item.cancel()
                raise Cancelled
            return await item
        finally:
            watch.cancel()

    async def rest(self) -> AsyncGenerator[Item, None]:
        try:
            while (item := await self._next()) is not None:
                yield item
        finally:
            self.gone.set()

    def _run(self) -> None:
        try:
            self._make(self)
            self._hand_over((None, None))
        except Cancelled:
            pass
        except BaseException as problem:
            with suppress(Cancelled):
                self._hand_over((None, problem))

    def _hand_over(self, item: tuple[Item | None, BaseException | None]) -> None:
        handed = asyncio.run_coroutine_threadsafe(self._items.put(item), self._loop)
        while True:
            if self.gone.is_set():
                handed.cancel()
                raise Cancelled
            with suppress(TimeoutError):
                handed.result(0.1)
                return

    async def _next(self) -> Item | None:
        item, problem = await self._items.get()
        if problem is not None:
            raise problem
        return item


async def _disconnected(request: Request) -> None:
    """Returns when the caller has hung up. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Guard:
    """Lets in who knows the secret; `/health` is open to everyone."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            sent = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            if not hmac.compare_digest(sent, self._expected):
                refusal = Refused("wrong secret", status=401, code="unauthorized")
                await JSONResponse(refusal.body, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _listening(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        Path(rest).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(rest)
    else:
        host, _, port = rest.rpartition(":")
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
    listener.listen(1024)
    return listener


def _refused(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    return JSONResponse(problem.body, problem.status)


def _gone(_request: Request, _problem: Exception) -> Response:
    return Response(status_code=499)


def _http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    refusal = Refused(f"{request.url.path}: {problem.detail}", status=problem.status_code)
    return JSONResponse(refusal.body, problem.status_code)


def _failed(_request: Request, problem: Exception) -> Response:
    """The traceback goes to the log; a caller is told no more than what broke."""
    return JSONResponse(broken(problem).body, 500)
