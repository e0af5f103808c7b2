"""Several gateways behind one port: killed, replaced, and without their control plane."""

import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.data_plane import Replica, chat
from tests.support.instance import Instance, running
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Broken, Wire, get, post

CHAT = "/v1/chat/completions"
_numbers = itertools.count(1)
TEXT = '{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 7}}'


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One instance with two gateways, for all tests here. Leave it as you found it."""
    instance = Instance(tmp_path_factory.mktemp("pair") / "data")
    with running(instance, "--gateway-workers", "2"):
        yield instance


@pytest.fixture
def engine() -> Iterator[Replica]:
    """An engine on TCP that a service can stand on, without a model to load."""
    # A short path, for its socket.
    folder = Path(tempfile.mkdtemp(prefix="mdl-"))
    replica = Replica(folder, tcp=True, default={"text": TEXT})
    yield replica
    replica.close()
    shutil.rmtree(folder)


@dataclass
class Stage:
    """A service on the fake engine, and a key for it."""

    instance: Instance
    engine: Replica
    path: str
    key: str
    key_id: str

    @property
    def port(self) -> int:
        return urlsplit(self.instance.url).port or 0

    def request(self, **fake: Any) -> bytes:
        return post(CHAT, self.key, chat(self.path, **fake))

    def ask(self, **fake: Any) -> Answer:
        """On a connection of its own."""
        with Wire(self.port) as wire:
            return wire.ask(self.request(**fake))

    def call(self, **fake: Any) -> int:
        return self.ask(**fake).status


@pytest.fixture
def make_stage(pair: Instance, engine: Replica) -> Iterator[Callable[..., Stage]]:
    made: list[str] = []

    def make(slots: int = 64, **limits: int) -> Stage:
        port = engine.address.address.rpartition(":")[2]
        endpoint = {"url": f"http://127.0.0.1:{port}/v1", "api_key": engine.secret}
        # Usage stays when a service goes: a name of its own for each.
        name = f"far-{next(_numbers)}"
        with pair.client() as client:
            made.append(name)
            service = client.post("/services", {"name": name, "endpoint": endpoint, "slots": slots})
            key = client.post("/keys", {"name": name, "limits": limits or None})
        stage = Stage(pair, engine, service["access_path"], key["key"], key["id"])
        wait_for(lambda: stage.call() == 200, "the service to serve")
        return stage

    yield make
    with pair.client() as client:
        for name in made:
            client.delete(f"/services/{name}")
    for name in made:
        wait_for(
            lambda n=name: pair.api("GET", f"/services/{n}").status_code == 404,  # type: ignore[misc]
            "the service to be gone",
        )


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


def gateways(instance: Instance) -> set[int]:
    """Pids of the gateways that run now."""
    assert instance.process is not None
    found = set()
    for child in psutil.Process(instance.process.pid).children():
        try:
            if "modelry.app.gateway" in child.cmdline() and child.status() != "zombie":
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def served_by(pid: int, port: int) -> int:
    """How many callers' connections a gateway has."""
    found = psutil.Process(pid).net_connections(kind="tcp4")
    return sum(each.status == "ESTABLISHED" and each.laddr.port == port for each in found)


@dataclass
class Callers:
    """What became of calls that went on all the time, each on a connection of its own."""

    answered: int = 0
    broken: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def callers(stage: Stage, count: int = 3) -> Iterator[Callers]:
    seen = Callers()
    over = threading.Event()

    def call_on() -> None:
        while not over.is_set():
            try:
                answer = stage.ask()
            except (Broken, ConnectionResetError, BrokenPipeError):
                # It was with a gateway that ended.
                seen.broken += 1
            except OSError as error:
                seen.failed.append(repr(error))
            else:
                seen.answered += 1
                if answer.status != 200:
                    seen.failed.append(f"{answer.status} {answer.body.decode()}")

    threads = [threading.Thread(target=call_on) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: seen.answered > 10, "the first calls")
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def await_snapshot(stage: Stage) -> None:
    """Wait until a gateway that starts now finds service and key on disk."""
    file = stage.instance.paths.feed_snapshot
    wait_for(lambda: file.exists() and stage.key_id in file.read_text(), "the snapshot", 5)


def usage_requests(stage: Stage) -> int:
    rows = stage.instance.api("GET", "/usage?group_by=service").json()["data"]
    return sum(row["requests"] for row in rows if row["service"] == stage.path)


def test_callers_are_served_by_both_gateways_and_counted_once(stage: Stage) -> None:
    with ExitStack() as wires:
        for _ in range(40):
            wire = wires.enter_context(Wire(stage.port))
            assert wire.ask(stage.request()).status == 200
        pids = gateways(stage.instance)
        assert len(pids) == 2
        assert all(served_by(pid, stage.port) >= 5 for pid in pids)
    made = stage.engine.counts["served"]
    wait_for(lambda: usage_requests(stage) >= made, "the usage to be told", 10)
    assert usage_requests(stage) == made


def test_limits_and_slots_are_those_of_both_together(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(slots=3, requests_per_minute=60)
    made = stage.engine.counts["served"]

    def call(_: int) -> list[int]:
        return [stage.call(delay_s=0.005) for _ in range(10)]

    with ThreadPoolExecutor(10) as pool:
        statuses = [status for found in pool.map(call, range(10)) for status in found]
    assert set(statuses) == {200, 429}
    assert 60 <= made + statuses.count(200) <= 61
    assert stage.engine.counts["peak"] == 3


def test_a_killed_gateway_costs_its_own_callers_and_nobody_is_refused(stage: Stage) -> None:
    await_snapshot(stage)
    before = gateways(stage.instance)
    killed = before.copy().pop()
    with callers(stage) as seen:
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(gateways(stage.instance) - {killed}) == 2, "another in its place")
        known = seen.answered
        wait_for(lambda: seen.answered > known + 50, "calls after that")
    assert seen.failed == []
    # Only what it was working on at that moment is lost.
    assert seen.broken <= 3
    assert before - {killed} < gateways(stage.instance)


def test_a_fresh_gateway_knows_what_is_new_before_it_is_called(stage: Stage) -> None:
    """What the control plane said a moment ago is not on disk yet."""
    key = stage.instance.key("new")
    before = gateways(stage.instance)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with Wire(stage.port) as wire:
        answer = wire.ask(post(CHAT, key, chat(stage.path)))
    assert (answer.status, answer.body) == (200, TEXT.encode())
    wait_for(lambda: len(gateways(stage.instance) - before) == 2, "others in their place")


def test_gateways_are_replaced_without_a_caller_noticing(stage: Stage) -> None:
    """SIGHUP to `up`: streams go on to their end, calls are answered all the while, also those
    of the official client on the connections that it keeps.
    """
    await_snapshot(stage)
    before = gateways(stage.instance)
    assert stage.instance.process is not None
    kept: list[str] = []
    over = threading.Event()

    def call_on() -> None:
        with stage.instance.openai(stage.key).with_options(max_retries=2) as client:
            while not over.is_set():
                messages: Any = [{"role": "user", "content": "hi"}]
                made = client.chat.completions.create(model=stage.path, messages=messages)
                kept.append(made.object)

    stream = stage.request(do="stream", chunks=4, gated=True)
    with ThreadPoolExecutor() as pool, ExitStack() as stack, callers(stage) as seen:
        stack.callback(over.set)
        wires = [stack.enter_context(Wire(stage.port)) for _ in range(6)]
        for wire in wires:
            wire.send(stream)
        wait_for(lambda: stage.engine.counts["busy"] >= 6, "the streams to begin")
        for _ in wires:
            stage.engine.go()
        for wire in wires:
            wire.head()
            assert wire.chunk() == b'data: {"number": 0}\n\n'
        official = pool.submit(call_on)
        wait_for(lambda: len(kept) > 5, "the first calls of the client")
        stage.instance.process.send_signal(signal.SIGHUP)
        # The one that is replaced first waits for its streams.
        wait_for(lambda: gateways(stage.instance) - before, "a fresh gateway")
        known = seen.answered
        wait_for(lambda: seen.answered > known + 50, "calls meanwhile")
        for _ in range(3 * len(wires)):
            stage.engine.go()
        for wire in wires:
            rest = b"".join(iter(wire.chunk, b""))
            numbers = b"".join(b'data: {"number": %d}\n\n' % number for number in (1, 2, 3))
            assert rest == numbers + b"data: [DONE]\n\n"
        wait_for(
            lambda: len(now := gateways(stage.instance)) == 2 and not now & before,
            "both to be replaced",
        )
        known, done = seen.answered, len(kept)
        wait_for(lambda: seen.answered > known + 50 and len(kept) > done + 5, "calls after that")
        over.set()
        official.result()
    assert seen.failed == []
    assert seen.broken == 0
    assert set(kept) == {"chat.completion"}


def test_gateways_that_start_while_the_control_plane_is_stuck_serve_what_was_known(
    stage: Stage,
) -> None:
    control = stage.instance.pid_of("control")
    before = gateways(stage.instance)
    await_snapshot(stage)
    os.kill(control, signal.SIGSTOP)
    try:
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(gateways(stage.instance) - before) == 2, "others in their place")
        assert [stage.call() for _ in range(20)] == [200] * 20
        with Wire(stage.port) as wire:
            assert wire.ask(get("/v1/models", "sk-wrong")).status == 401
    finally:
        os.kill(control, signal.SIGCONT)
    wait_for(lambda: stage.instance.api("GET", "/me").status_code == 200, "the control plane")
    assert stage.instance.pid_of("control") == control
    made = stage.engine.counts["served"]
    wait_for(lambda: usage_requests(stage) >= made, "the usage to be told", 10)
    assert usage_requests(stage) == made


def test_everything_but_up_is_killed_and_calls_are_served_at_once(stage: Stage) -> None:
    before = gateways(stage.instance)
    await_snapshot(stage)
    for pid in (stage.instance.pid_of("control"), *before):
        os.kill(pid, signal.SIGKILL)
    # Whoever calls now waits for a gateway, and is not refused.
    assert [stage.call() for _ in range(10)] == [200] * 10
    wait_for(lambda: len(gateways(stage.instance) - before) == 2, "others in their place")

    def back() -> bool:
        return stage.instance.api("GET", "/services").status_code == 200

    wait_for(back, "the control plane to be back")
    assert stage.call() == 200
