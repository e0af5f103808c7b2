"""What the gateway adds to a call: the same load on a mock engine, directly and through it.

The gateway is the real process with its features on; it takes its one route
from a snapshot on disk. The mock engine answers at once, so what is measured is
the relay. CPU is the process's own, per request.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from modelry.routing.messages import KeyGrant, ReplicaAddress, Route, Snapshot, encode
from modelry.settings import Paths

CONNECTIONS = 32
SECONDS = 5.0
KEY = "sk-bench"
PATH = "u-000000000000/bench"
BODY = json.dumps({"model": PATH, "messages": [{"role": "user", "content": "Say this is a test!"}]})


def request(host: str, secret: str) -> bytes:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n"
        f"authorization: Bearer {secret}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(BODY)}\r\n\r\n"
    )
    return (head + BODY).encode()


class Caller(asyncio.Protocol):
    """Sends the same request again whenever its answer is there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.answers = 0
        self.running = True
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self.data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self.answers += 1
        if self.running and self._transport is not None:
            self._transport.write(self.data)


async def load(data: bytes, *, port: int = 0, unix: str | None = None) -> int:
    """Answers within `SECONDS`, over `CONNECTIONS` kept connections."""
    loop = asyncio.get_running_loop()
    callers = [Caller(data) for _ in range(CONNECTIONS)]
    for caller in callers:
        make = partial(_same, caller)
        if unix is not None:
            await loop.create_unix_connection(make, unix)
        else:
            await loop.create_connection(make, "127.0.0.1", port)
    before = sum(caller.answers for caller in callers)
    await asyncio.sleep(SECONDS)
    after = sum(caller.answers for caller in callers)
    for caller in callers:
        caller.running = False
    return after - before


def _same(caller: Caller) -> Caller:
    return caller


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def measured(pid: int, data: bytes, **where: object) -> tuple[float, float]:
    """Requests per second, and CPU in µs per request of process `pid`."""
    before, begun = cpu_seconds(pid), time.monotonic()
    answers = asyncio.run(load(data, **where))  # type: ignore[arg-type]
    elapsed = time.monotonic() - begun
    return answers / elapsed, (cpu_seconds(pid) - before) / answers * 1e6


def write_snapshot(paths: Paths, engine: str) -> None:
    paths.prepare()
    replica = ReplicaAddress("rep_bench", f"unix:{engine}", "secret", 64)
    owner = PATH.partition("/")[0]
    route = Route("svc_bench", PATH, owner, ("chat",), "running", "serving", 0, (replica,))
    key = KeyGrant("key_bench", hashlib.sha256(KEY.encode()).hexdigest(), owner)
    paths.feed_snapshot.write_bytes(encode(Snapshot(1, (route,), (key,))))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        engine = f"{scratch}/engine.sock"
        paths = Paths(Path(scratch) / "data")
        write_snapshot(paths, engine)
        with process("bench.mock_engine", engine) as mock:
            assert mock.stdout is not None
            mock.stdout.readline()
            settings = {"MODELRY_DATA_DIR": str(paths.data), "MODELRY_PORT": "0"}
            with process("modelry.app.gateway", **settings) as gateway:
                assert gateway.stdout is not None
                port = json.loads(gateway.stdout.readline())["port"]
                direct, _ = measured(mock.pid, request("engine", "secret"), unix=engine)
                through, cpu = measured(gateway.pid, request("gateway", KEY), port=port)
    print(f"relay, {CONNECTIONS} connections, {SECONDS:.0f} s each, mock engine")
    print(f"  directly              {direct:8.0f} requests/s")
    print(f"  through the gateway   {through:8.0f} requests/s   {cpu:.0f} µs of CPU each")
    print(f"  ratio                 {through / direct:8.2f}")
