"""Looks at services once a minute, and notes how they stand for their metrics over time.

A service without replicas and without a load costs nothing: no row says so.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from modelry.db import Database
from modelry.executors.base import Executor, Observed
from modelry.services.states import ReplicaState
from modelry.services.store import ReplicaRow, live_replicas, service_ids
from modelry.usage.series import store as series
from modelry.usage.series.peaks import Peak, Peaks
from modelry.usage.series.points import Gauged
from modelry.usage.series.steps import MINUTE_S, step_start

log = logging.getLogger(__name__)


class Sampling:
    """`now` tells Unix seconds."""

    def __init__(
        self,
        db: Database,
        executor: Executor,
        peaks: Peaks,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._executor = executor
        self._peaks = peaks
        self._now = now

    async def run(self) -> None:
        """At the end of every minute, until it is cancelled. An error is logged, and costs one."""
        while True:
            now = self._now()
            await asyncio.sleep(step_start(now, MINUTE_S) + MINUTE_S - now)
            try:
                await self.sample()
            except Exception:
                log.exception("the state of services could not be noted; trying again in a minute")

    async def sample(self) -> None:
        """Note the minute that has just ended, and forget what is too old."""
        # A timer may be early by a moment.
        now = self._now()
        minute = step_start(now + MINUTE_S / 2, MINUTE_S) - MINUTE_S
        async with self._db.begin() as session:
            self._peaks.keep_only(await service_ids(session))
            peaks = self._peaks.take()
            replicas = await live_replicas(session)
            seen = gauges(replicas, self._executor.observe(), peaks)
            await series.note_gauges(session, minute, seen)
            await series.prune(session, now)


def gauges(
    replicas: Iterable[ReplicaRow],
    observed: Mapping[str, Observed],
    peaks: Mapping[str, Peak] | None,
) -> dict[str, Gauged]:
    """Service id → how it stands, of those with live replicas or a load."""
    of_service: dict[str, list[ReplicaRow]] = {}
    for replica in replicas:
        of_service.setdefault(replica.service_id, []).append(replica)
    loads = peaks or {}
    return {
        service_id: _gauged(
            of_service.get(service_id, []),
            observed,
            None if peaks is None else loads.get(service_id, Peak()),
        )
        for service_id in of_service.keys() | loads.keys()
    }


def _gauged(
    replicas: list[ReplicaRow], observed: Mapping[str, Observed], peak: Peak | None
) -> Gauged:
    seen = (observed[replica.id] for replica in replicas if replica.id in observed)
    known = [each.memory_bytes for each in seen if each.memory_bytes is not None]
    return Gauged(
        inflight=None if peak is None else peak.inflight,
        waiting=None if peak is None else peak.waiting,
        memory_bytes=sum(known) if known else None,
        replicas=sum(replica.state == ReplicaState.READY for replica in replicas),
    )
