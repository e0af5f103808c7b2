"""A real gateway process between a control plane played by the test and fake engines.

caller (the test) ── GatewayProcess ── Replica (a process each)
                         │
                    ControlPlane (feed and HTTP, in this process)
"""

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import psutil
from openai import OpenAI

from modelry.api.feed_server import FeedServer
from modelry.routing.feed import Feed
from modelry.routing.messages import (
    EndpointAddress,
    KeyGrant,
    KeysUsed,
    Load,
    MetricsReport,
    ReplicaAddress,
    Route,
    ServiceLoad,
    ServiceMetrics,
    SpoolEnded,
    UsageBatch,
    UsageEvent,
    UsageTaken,
    Wake,
    decode_usage_event,
)
from modelry.sealing import Sealer
from modelry.settings import Paths
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, get

Value = TypeVar("Value")

OWNER = "u-0123456789ab"
STRANGER = "u-ba9876543210"
_ENGINE = Path(__file__).with_name("fake_engine.py")
_GATEWAY = ("-m", "modelry.app.gateway")
_numbers = itertools.count(1)


class ControlPlane:
    """The feed a gateway follows, in a thread of its own. May be closed and started again."""

    def __init__(self, paths: Paths) -> None:
        self.socket = paths.feed_socket
        """Where it listens once it is started."""
        self.used: dict[str, float] = {}
        self.events: list[UsageEvent] = []
        self.ended_spools: list[str] = []
        self.gateways: set[int] = set()
        self.loads: dict[tuple[int, str], ServiceLoad] = {}
        self.woken: list[str] = []
        self.reported: dict[str, ServiceMetrics] = {}
        self._taken: dict[str, tuple[int, int]] = {}
        self._feed = Feed()
        self._server: FeedServer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._server = FeedServer(self._feed, self)
        self._run(self._server.start(self.socket))

    def stop(self) -> None:
        """Close the feed's socket; the gateway goes on without."""
        if self._server is not None:
            self._run(self._server.close())
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put_route(self, route: Route) -> None:
        self._change(lambda: self._feed.put_route(route))

    def drop_route(self, service_id: str) -> None:
        self._change(lambda: self._feed.drop_route(service_id))

    def put_key(self, grant: KeyGrant) -> None:
        self._change(lambda: self._feed.put_key(grant))

    def drop_key(self, key_id: str) -> None:
        self._change(lambda: self._feed.drop_key(key_id))

    def _change(self, change: Any) -> None:
        async def do() -> None:
            change()
            if self._server is not None:
                await self._server.published()

        self._run(do())

    # -- what gateways report ------------------------------------------------

    async def keys_used(self, message: KeysUsed) -> None:
        self.used.update(message.last_used_at)

    async def usage(self, batch: UsageBatch, lines: bytes) -> UsageTaken:
        """Takes what lies beyond what was taken, as the real one does."""
        offset = batch.start
        for line in lines.splitlines(keepends=True):
            offset += len(line)
            if (batch.segment, offset) > self._taken.get(batch.source, (0, 0)):
                self._taken[batch.source] = (batch.segment, offset)
                self.events.append(decode_usage_event(line))
        segment, offset = self._taken[batch.source]
        return UsageTaken(batch.source, segment, offset)

    async def spool_ended(self, message: SpoolEnded) -> None:
        self.ended_spools.append(message.source)

    def gateway_connected(self, gateway: int) -> None:
        self.gateways.add(gateway)

    def gateway_gone(self, gateway: int) -> None:
        self.gateways.discard(gateway)

    def load(self, gateway: int, message: Load) -> None:
        for service_id, load in message.services.items():
            self.loads[gateway, service_id] = load

    def wake(self, message: Wake) -> None:
        self.woken.append(message.service_id)

    def metrics(self, gateway: int, message: MetricsReport) -> None:
        self.reported.update(message.services)

    # ------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class GatewayProcess:
    """`python -m modelry.app.gateway`, or another `program`, on a free port."""

    def __init__(
        self, data_dir: Path, program: tuple[str, ...] = _GATEWAY, /, **settings: str
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if "MODELRY" not in name}
        given = {f"MODELRY_{name.upper()}": value for name, value in settings.items()}
        environment = {**kept, "MODELRY_DATA_DIR": str(data_dir), "MODELRY_PORT": "0", **given}
        self.process = subprocess.Popen(
            [sys.executable, "-P", *program],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline() or b'{"message": "nothing"}')
        if not said.get("port"):
            self.close()
            raise AssertionError(f"the gateway did not start: {said}")
        self.port = int(said["port"])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 20.0) -> int:
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Replica:
    """A fake engine's process, and what it saw."""

    def __init__(
        self,
        folder: Path,
        *,
        tcp: bool = False,
        slots: int = 4,
        default: Any = None,
        pem: Path | None = None,
    ) -> None:
        self.id = f"rep_{next(_numbers):016x}"
        self.secret = f"engine-{self.id}"
        self.control_socket = folder / f"{self.id}.ctl"
        self._default = default or {}
        self._pem = "" if pem is None else str(pem)
        address = "tcp:127.0.0.1:0" if tcp or pem else f"unix:{folder / self.id}.sock"
        self.process = self._spawn(address)
        assert self.process.stdout is not None
        self.address = ReplicaAddress(
            self.id, self.process.stdout.readline().strip(), self.secret, slots
        )

    def _spawn(self, address: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-IS", str(_ENGINE), address, str(self.control_socket)]
        return subprocess.Popen(
            [*program, self.secret, json.dumps(self._default), self._pem],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seen(self, word: str = "seen") -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(str(self.control_socket))
            channel.sendall(word.encode() + b"\n")
            with channel.makefile("rb") as file:
                answer: dict[str, Any] = json.loads(file.readline())
        return answer

    @property
    def counts(self) -> dict[str, int]:
        """What `seen` has, in numbers alone: cheap where there are many requests."""
        return self.seen("count")

    def go(self) -> None:
        """Let a gated stream send its next chunk, or a gated answer go."""
        self.seen("go")

    def now(self, **default: Any) -> None:
        """From now on, do this with every request."""
        self.seen(f"now {json.dumps(default)}")

    @property
    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.seen()["requests"]
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def revive(self) -> None:
        """Start it again, after its end, at the address that it had."""
        self.close()
        self.control_socket.unlink()
        self.process = self._spawn(self.address.address)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.address.address

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Plane:
    """A data directory, its control plane, one gateway, and the replicas of a test."""

    def __init__(self, program: tuple[str, ...] = _GATEWAY, /, **settings: str) -> None:
        # A short path, so that the sockets lie under the data directory.
        self.folder = Path(tempfile.mkdtemp(prefix="mdl-"))
        self.settings = settings
        self.program = program
        self.paths = Paths(self.folder / "data")
        self.paths.prepare()
        self.control = ControlPlane(self.paths)
        self.control.start()
        self.gateway = GatewayProcess(self.paths.data, program, **settings)
        self._replicas: list[Replica] = []
        self._others: list[GatewayProcess] = []
        self._grants: dict[str, KeyGrant] = {}
        self._services: set[str] = set()
        self.owner_key = self.key()

    def restart_gateway(self) -> None:
        self.gateway.close()
        self.gateway = GatewayProcess(self.paths.data, self.program, **self.settings)

    def another_gateway(self, **settings: str) -> GatewayProcess:
        """One more on the same data directory, once it follows the feed."""
        known = len(self.control.gateways)
        gateway = GatewayProcess(self.paths.data, self.program, **{**self.settings, **settings})
        self._others.append(gateway)
        wait_for(lambda: len(self.control.gateways) > known, "the other gateway to follow")
        return gateway

    def close(self) -> None:
        self.end_replicas()
        for gateway in (self.gateway, *self._others):
            gateway.close()
        self.control.close()
        shutil.rmtree(self.folder)

    @property
    def replicas(self) -> list[Replica]:
        """Those that were made, alive or not."""
        return self._replicas

    def end_replicas(self) -> None:
        for replica in self._replicas:
            replica.close()
        self._replicas.clear()

    # -- what the control plane says -----------------------------------------

    def key(self, owner: str = OWNER, **grant: Any) -> str:
        """A key that works; `id` of the grant is the key without its prefix."""
        name = f"key_{next(_numbers):016x}"
        secret = f"sk-secret-of-{name}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self._grants[secret] = KeyGrant(name, digest, owner, number=next(_numbers), **grant)
        self.control.put_key(self._grants[secret])
        self.await_key(secret)
        return secret

    def change_key(self, key: str, **grant: Any) -> None:
        """In force once this returns."""
        self._grants[key] = msgspec.structs.replace(self._grants[key], **grant)
        self.control.put_key(self._grants[key])

    def revoke(self, key: str) -> None:
        self.control.drop_key(key.removeprefix("sk-secret-of-"))

    def await_key(self, key: str) -> None:
        def known() -> bool:
            with self.wire() as wire:
                return wire.ask(get("/v1/models", key)).status == 200

        wait_for(known, "the gateway to know a key")

    def replica(
        self, *, tcp: bool = False, slots: int = 4, pem: Path | None = None, **default: Any
    ) -> Replica:
        """A fake engine; `default` is what it does with every request. With `pem`: over TLS."""
        replica = Replica(self.paths.sockets, tcp=tcp, slots=slots, default=default, pem=pem)
        self._replicas.append(replica)
        return replica

    def endpoint(
        self,
        replica: Replica,
        *,
        base: str = "/v1",
        host: str = "127.0.0.1",
        secret: str | None = "",
        scheme: str = "http",
        **address: Any,
    ) -> EndpointAddress:
        """A fake engine that listens on TCP as an endpoint elsewhere. `secret`: the key that it
        is sent, if any; its own unless said otherwise.
        """
        id_ = f"ep_{next(_numbers):016x}"
        key = replica.secret if secret == "" else secret
        sealed = None if key is None else Sealer(self.paths.secret_key).seal(key, id_)
        port = replica.address.address.rpartition(":")[2]
        url = f"{scheme}://{host}:{port}{base}"
        return EndpointAddress(id_, url, **{"slots": 64, "sealed_key": sealed, **address})

    def service(
        self,
        *replicas: Replica,
        name: str | None = None,
        owner: str = OWNER,
        state: str = "running",
        message: str = "",
        tasks: tuple[str, ...] = ("chat", "completion"),
        path: str | None = None,
        collect: bool = False,
        endpoints: tuple[EndpointAddress, ...] = (),
        images: bool = False,
        image_types: tuple[str, ...] = (),
    ) -> str:
        """Publish a service, or publish it anew under the same name; returns its access path."""
        name = name or f"service-{next(_numbers)}"
        path = path or f"{owner}/{name}"
        route = Route(
            service_id=f"svc_{name}",
            access_path=path,
            owner_id=owner,
            tasks=tasks,
            state=state,
            message=message,
            created_at=int(time.time()),
            replicas=tuple(replica.address for replica in replicas),
            collect=collect,
            endpoints=endpoints,
            images=images,
            image_types=image_types,
        )
        self._services.add(route.service_id)
        self.control.put_route(route)
        return path

    def end_services(self) -> None:
        while self._services:
            self.control.drop_route(self._services.pop())

    # -- what gateways told --------------------------------------------------

    def logged(self) -> list[dict[str, Any]]:
        """The latest lines of the access log, which gateways write several times a second."""
        try:
            with self.paths.access_log.open("rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        # The first may be cut off, and the last as well.
        return [json.loads(line) for line in lines if line[:1] == b"{" and line[-1:] == b"}"]

    def event(self, answer: Answer | str) -> UsageEvent:
        """The usage event of an answer, or of a request id, from the access log."""
        id_ = answer if isinstance(answer, str) else answer.headers["x-request-id"]

        def found() -> UsageEvent | None:
            lines = [line for line in self.logged() if line["request_id"] == id_]
            return msgspec.convert(lines[0], UsageEvent) if lines else None

        return wait_for(found, f"the usage event of {id_}", 10)

    # -- callers -------------------------------------------------------------

    def wire(self, **options: Any) -> Wire:
        return Wire(self.gateway.port, **options)

    def http(self, key: str | None = None, **options: Any) -> httpx2.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.Client(
            base_url=self.gateway.url, headers=headers, timeout=15, trust_env=False, **options
        )

    def openai(self, key: str) -> OpenAI:
        return OpenAI(base_url=f"{self.gateway.url}/v1/", api_key=key, max_retries=0, timeout=15)


def chat(model: str, **fake: Any) -> dict[str, Any]:
    """The body of a chat request, with orders for the fake engine."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return {**body, "fake": fake} if fake else body
