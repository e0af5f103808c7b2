"""Connections to replicas: one whose queue of them is full is waited for."""

import asyncio
import socket
from pathlib import Path

import uvloop

from modelry.gateway.upstream import Upstream


def test_a_replica_whose_queue_of_connections_is_full_is_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "replica.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen(0)
    queued = fill(place)
    heard: list[bool] = []

    async def story() -> None:
        upstream = Upstream(f"unix:{place}")
        upstream.probe(heard.append)
        await asyncio.sleep(0.2)
        assert heard == [], "it is busy, and not gone"
        # One that was queued is taken: there is room for one more.
        taken, _ = listener.accept()
        async with asyncio.timeout(10):
            while not heard:
                await asyncio.sleep(0.01)
        taken.close()
        upstream.close()

    uvloop.run(story())
    assert heard == [True]
    for each in (*queued, listener):
        each.close()


def fill(place: Path) -> list[socket.socket]:
    queued: list[socket.socket] = []
    while True:
        caller = socket.socket(socket.AF_UNIX)
        caller.setblocking(False)
        try:
            caller.connect(str(place))
        except BlockingIOError:
            caller.close()
            return queued
        queued.append(caller)
