"""Hands what gateways report to who cares about it."""

from typing import Protocol

from modelry.access.keys import Keys
from modelry.routing.messages import (
    KeysUsed,
    Load,
    MetricsReport,
    SpoolEnded,
    UsageBatch,
    UsageTaken,
    Wake,
)
from modelry.usage.intake import Intake
from modelry.usage.metrics import Metrics
from modelry.usage.series.peaks import Peaks


class Activity(Protocol):
    """Who wants to know which services are in use."""

    def gateway_connected(self, gateway: int) -> None: ...
    def load(self, gateway: int, message: Load) -> None: ...
    def wake(self, message: Wake) -> None: ...
    def gateway_gone(self, gateway: int) -> None: ...


class Reports:
    """The feed server's `Listener`."""

    def __init__(
        self, keys: Keys, intake: Intake, metrics: Metrics, peaks: Peaks, activity: Activity
    ) -> None:
        self._keys = keys
        self._intake = intake
        self._metrics = metrics
        self._peaks = peaks
        self._activity = activity

    async def keys_used(self, message: KeysUsed) -> None:
        await self._keys.note_use(message.last_used_at)

    async def usage(self, batch: UsageBatch, lines: bytes) -> UsageTaken:
        return await self._intake.take(batch, lines)

    async def spool_ended(self, message: SpoolEnded) -> None:
        await self._intake.end(message.source)

    def gateway_connected(self, gateway: int) -> None:
        self._metrics.gateway_connected(gateway)
        self._peaks.gateway_connected(gateway)
        self._activity.gateway_connected(gateway)

    def load(self, gateway: int, message: Load) -> None:
        self._metrics.load(gateway, message)
        self._peaks.load(gateway, message)
        self._activity.load(gateway, message)

    def wake(self, message: Wake) -> None:
        self._activity.wake(message)

    def metrics(self, gateway: int, message: MetricsReport) -> None:
        self._metrics.report(gateway, message)

    def gateway_gone(self, gateway: int) -> None:
        self._metrics.gateway_gone(gateway)
        self._peaks.gateway_gone(gateway)
        self._activity.gateway_gone(gateway)
