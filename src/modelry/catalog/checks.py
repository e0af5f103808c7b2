"""Checks of weights, one at a time: each reads as fast as the disk can."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelry.catalog.cards import Variant
from modelry.catalog.download import Progress
from modelry.catalog.fetches import Fetches, Fetching, fetching, in_thread
from modelry.catalog.verify import Report, verify
from modelry.errors import Conflict, NotFound

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checking:
    """Under way, or waiting until it is its turn."""

    progress: Fetching


@dataclass(frozen=True)
class Checked:
    """`found` is the reason why where the files could not be read."""

    at: datetime
    found: Report | str


@dataclass
class _Check:
    progress: Progress = field(default_factory=Progress)
    task: asyncio.Task[None] | None = None
    result: Checked | None = None


class Checks:
    """What was found is known until a restart."""

    def __init__(self, fetches: Fetches) -> None:
        self._fetches = fetches
        self._known: dict[str, _Check] = {}
        self._turn = asyncio.Lock()

    def begin(self, variant: Variant) -> None:
        """Check the weights, unless that is under way. Raises `NotFound` or `Conflict`."""
        known = self._known.get(variant.weights_id)
        if known is not None and known.result is None:
            return
        if variant.weights_id in self._fetches.running():
            raise Conflict("its weights are being fetched", hint="verify them once they are here")
        store = self._fetches.store
        if store.record(variant) is None and store.find(variant) is None:
            raise NotFound(
                "its weights are not here",
                hint="`modelry models fetch` brings them",
                code="weights_absent",
            )
        check = self._known[variant.weights_id] = _Check()
        check.task = asyncio.create_task(self._run(variant, check))

    def state(self, variant: Variant) -> Checking | Checked | None:
        """None where they were not checked since the control plane started."""
        check = self._known.get(variant.weights_id)
        if check is None:
            return None
        return check.result or Checking(fetching(check.progress))

    async def _run(self, variant: Variant, check: _Check) -> None:
        found: Report | str = "for a reason of its own; the control plane's log has it"
        try:
            async with self._turn:
                report = await in_thread(
                    f"verify {variant.name}",
                    lambda: verify(variant, self._fetches.store, check.progress),
                )
            found = report or "they are not here any more"
        except OSError as error:
            found = f"{error.strerror or error} ({error.filename})"
        except Exception:
            log.exception("check of %s", variant.source)
        check.result = Checked(datetime.now(UTC), found)
        if isinstance(found, Report) and found.findings:
            log.warning("%s is damaged: %s", variant.source, found.findings)
            # Whoever needs them is to look again.
            self._fetches.on_change()
