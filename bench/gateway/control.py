"""A control plane's end of the feed, in a process of its own, so that a gateway reports as it does
in use: load, metrics and usage.

    python -m bench.gateway.control DATA_DIR

serves the snapshot that lies there, prints a line once it listens, and takes every batch of
usage for stored. What a control plane does with usage is measured elsewhere.
"""

import asyncio
import sys
from pathlib import Path

from modelry.api.feed_server import FeedServer
from modelry.gateway.snapshot import SnapshotFile
from modelry.routing.feed import Feed
from modelry.routing.messages import (
    KeysUsed,
    Load,
    MetricsReport,
    SpoolEnded,
    UsageBatch,
    UsageTaken,
    Wake,
)
from modelry.settings import Paths


class Taker:
    """Hears everything, and answers where an answer is due."""

    async def keys_used(self, message: KeysUsed) -> None: ...

    async def usage(self, batch: UsageBatch, lines: bytes) -> UsageTaken:
        return UsageTaken(batch.source, batch.segment, batch.start + len(lines))

    async def spool_ended(self, message: SpoolEnded) -> None: ...
    def gateway_connected(self, gateway: int) -> None: ...
    def load(self, gateway: int, message: Load) -> None: ...
    def wake(self, message: Wake) -> None: ...
    def metrics(self, gateway: int, message: MetricsReport) -> None: ...
    def gateway_gone(self, gateway: int) -> None: ...


async def serve(paths: Paths) -> None:
    feed = Feed()
    snapshot = SnapshotFile(paths.feed_snapshot).load()
    assert snapshot is not None
    for route in snapshot.routes:
        feed.put_route(route)
    for key in snapshot.keys:
        feed.put_key(key)
    await FeedServer(feed, Taker()).start(paths.feed_socket)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Paths(Path(sys.argv[1]))))
