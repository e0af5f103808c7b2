"""The fetches under way: one a variant, whoever asks for it."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from modelry.catalog.cards import Variant
from modelry.catalog.download import Cancelled, Progress
from modelry.catalog.fetch import Origins, fetch
from modelry.catalog.formats import NOTHING, Allowed
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
    """`total_bytes` is 0, and the others None, while they are not known."""

    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None = None
    left_s: float | None = None


@dataclass(frozen=True)
class FetchFailed:
    message: str
    hint: str | None = None

    @property
    def in_words(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


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
        self.store = store
        self._origins = origins or Origins(machine_index_settings)
        # Both by the id of the weights; then who asked by hand, and for which variant of it.
        self._running: dict[str, tuple[Progress, asyncio.Task[None]]] = {}
        self._asked: dict[str, dict[str, Variant]] = {}
        self._failed: dict[Variant, FetchFailed] = {}
        self._closing = False
        self.on_change: Callable[[], None] = lambda: None

    def state(self, variant: Variant) -> WeightsState:
        running = self._running.get(variant.weights_id)
        if running is not None:
            return fetching(running[0])
        failed = self._failed.get(variant)
        if failed is not None:
            return failed
        return self.store.find(variant) or Absent()

    def ensure(self, variant: Variant) -> None:
        """Begin to fetch, unless the weights are here, on their way, or failed to come."""
        if isinstance(self.state(variant), Absent):
            self._start(variant)

    def ask(self, variant: Variant, owner_id: str) -> None:
        """As `ensure`, for a person: also after a failure, and kept although no service wants it.

        It is kept until it ended, or they all `withdraw`; a restart forgets it.
        """
        self.forget_failure(variant)
        if not isinstance(self.state(variant), Weights):
            self._asked.setdefault(variant.weights_id, {})[owner_id] = variant
            self.ensure(variant)

    def withdraw(self, variant: Variant, owner_id: str | None) -> None:
        """Nobody of that id asks for it any more, or nobody at all."""
        asked = self._asked.get(variant.weights_id, {})
        asked.pop(owner_id or "", None)
        if owner_id is None or not asked:
            self._asked.pop(variant.weights_id, None)

    def is_wanted(self, weights_id: str) -> bool:
        """Whether it is being fetched, and nobody has stopped that."""
        running = self._running.get(weights_id)
        return running is not None and not running[0].cancel.is_set()

    async def look(self, source: Source, allowed: Allowed = NOTHING) -> Found:
        """What a source is, before it is fetched. Raises `InvalidRequest` or `FetchError`."""
        return await in_thread("look", lambda: look(source, self._origins.hubs, allowed))

    def forget_failure(self, variant: Variant) -> None:
        """Let the next `ensure` try again."""
        self._failed.pop(variant, None)

    def cancel(self, weights_id: str) -> None:
        """Stop a fetch; what it has so far is kept."""
        running = self._running.get(weights_id)
        if running is not None:
            running[0].cancel.set()

    def keep_only(self, wanted: Collection[str]) -> None:
        """Stop what no service wants, by these ids of weights, and nobody asked for."""
        for weights_id in self._running:
            if weights_id not in wanted and weights_id not in self._asked:
                self.cancel(weights_id)

    async def ended(self, weights_id: str, timeout_s: float) -> None:
        """Wait a little for a fetch to end: one that waits for the network may take longer."""
        running = self._running.get(weights_id)
        if running is not None:
            await asyncio.wait([running[1]], timeout=timeout_s)

    def running(self) -> list[str]:
        """The ids of the weights that are being fetched."""
        return list(self._running)

    async def close(self) -> None:
        """Stop every fetch. One that waits for the network is left to die with the process."""
        self._closing = True
        for progress, _ in self._running.values():
            progress.cancel.set()
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        for task in tasks:
            task.cancel()

    def _start(self, variant: Variant) -> None:
        progress = Progress()
        task = asyncio.create_task(self._run(variant, progress))
        self._running[variant.weights_id] = (progress, task)

    async def _run(self, variant: Variant, progress: Progress) -> None:
        again = False
        try:
            await in_thread(
                f"fetch {variant.name}",
                lambda: fetch(variant, self.store, progress, self._origins),
            )
        except FetchError as error:
            self._note_failure(variant, FetchFailed(error.message, error.hint))
        except Cancelled:
            log.info("fetch of %s stopped", variant.source)
            # Asked for anew while it was ending.
            again = not self._closing and variant.weights_id in self._asked
        except Exception:
            log.exception("fetch of %s", variant.source)
            told = "the fetch failed for a reason of its own; the control plane's log has it"
            self._note_failure(variant, FetchFailed(told))
        finally:
            del self._running[variant.weights_id]
            if again:
                self._start(next(iter(self._asked[variant.weights_id].values())))
            else:
                self._asked.pop(variant.weights_id, None)
            self.on_change()

    def _note_failure(self, variant: Variant, failure: FetchFailed) -> None:
        """Also for those who asked for the same weights while they were on their way."""
        for each in (variant, *self._asked.get(variant.weights_id, {}).values()):
            self._failed[each] = failure


def fetching(progress: Progress) -> Fetching:
    """How far it is now, and how fast."""
    return Fetching(progress.done_bytes, progress.total_bytes, *progress.pace())


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
