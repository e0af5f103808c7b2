"""The fetches under way: one a variant, whoever asks for it."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.look import Found, look
from modelry.catalog.package_index import IndexSettings, read_index_settings
from modelry.catalog.sources import Source
from modelry.catalog.weights import Weights, WeightsStore
from modelry.errors import FetchError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Absent:
    """Not here, and nobody fetches them."""


@dataclass(frozen=True)
class Fetching:
    """`total_bytes` is 0 while it is not known."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class FetchFailed:
    message: str
    hint: str | None = None


WeightsState: TypeAlias = Absent | Fetching | FetchFailed | Weights


def machine_index_settings() -> IndexSettings:
    return read_index_settings(os.environ, Path.home())


class Fetches:
    """`on_change` is called whenever a fetch ended, well or not."""

    def __init__(
        self,
        store: WeightsStore,
        origins: Origins | None = None,
    ) -> None:
        self._store = store
        self._origins = origins or Origins(machine_index_settings)
        # By source: two variants may differ in what they pin and name the same file.
        self._running: dict[str, tuple[Progress, asyncio.Task[None]]] = {}
        self._failed: dict[Variant, FetchFailed] = {}
        self.on_change: Callable[[], None] = lambda: None

    def state(self, variant: Variant) -> WeightsState:
        running = self._running.get(variant.source)
        if running is not None:
            return Fetching(running[0].done_bytes, running[0].total_bytes)
        failed = self._failed.get(variant)
        if failed is not None:
            return failed
        return self._store.find(variant) or Absent()

    def ensure(self, variant: Variant) -> None:
        """Begin to fetch, unless the weights are here, on their way, or failed to come."""
        if isinstance(self.state(variant), Absent):
            progress = Progress()
            task = asyncio.create_task(self._run(variant, progress))
            self._running[variant.source] = (progress, task)

    async def look(self, source: Source) -> Found:
        """What a source is, before it is fetched. Raises `InvalidRequest` or `FetchError`."""
        return await in_thread("look", lambda: look(source, self._origins.hubs))

    def forget_failure(self, variant: Variant) -> None:
        """Let the next `ensure` try again."""
        self._failed.pop(variant, None)

    def cancel(self, source: str) -> None:
        """Stop a fetch that nobody wants any more; what it has so far is kept."""
        running = self._running.get(source)
        if running is not None:
            running[0].cancel.set()

    def running(self) -> list[str]:
        """The sources that are being fetched."""
        return list(self._running)

    async def close(self) -> None:
        """Stop every fetch. One that waits for the network is left to die with the process."""
        for progress, _ in self._running.values():
            progress.cancel.set()
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        for task in tasks:
            task.cancel()

    async def _run(self, variant: Variant, progress: Progress) -> None:
        try:
            await in_thread(
                f"fetch {variant.name}",
                lambda: fetch(variant, self._store, progress, self._origins),
            )
        except FetchError as error:
            self._failed[variant] = FetchFailed(error.message, error.hint)
        except Cancelled:
            log.info("fetch of %s stopped", variant.source)
        except Exception:
            log.exception("fetch of %s", variant.source)
            self._failed[variant] = FetchFailed(
                "the fetch failed for a reason of its own; the control plane's log has it"
            )
        finally:
            del self._running[variant.source]
            self.on_change()


def in_thread(name: str, work: Callable[[], Result]) -> "asyncio.Future[Result]":
    """Do `work` in a thread that does not keep the process from ending.

    asyncio's own worker threads do, and a read from a silent server takes a minute
    to time out. Ending in the middle is safe: nothing is under a final name before
    it is whole.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(outcome: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(Result, outcome))

    def run() -> None:
        outcome, failure = None, None
        try:
            outcome = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(settle, outcome, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
