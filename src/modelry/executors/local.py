"""Replicas as processes of this machine.

Each runs in a session of its own, so that neither a restart of the control
plane nor a ^C in a terminal reaches it, and leaves a record in its folder:
pid, start mark, address and secret. The next control plane adopts by that
record what still runs, if all of these match, and reports the rest as exited.
"""

import asyncio
import logging
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from modelry.engines.base import Endpoint, Engine, Failure, Probe, ReplicaPlan
from modelry.errors import ModelryError
from modelry.executors import processes
from modelry.executors.base import Observed, ProcessState
from modelry.executors.inventory import node_name
from modelry.executors.logs import LogFile

log = logging.getLogger(__name__)

# An engine that loads is asked again after a share of the time it has taken so
# far: who waits for it hardly notices, and one that takes minutes is left alone.
_PROBE_SHARE = 0.03
_PROBE_LEAST_S = 0.02
_PROBE_MOST_S = 1.0
_HOUSEKEEPING_S = 2.0
_KILL_WAIT_S = 5.0
TAIL_LINES = 200
"""Of a log, for an engine to explain its end: vLLM's reason stands 64 lines above it."""

# What an engine process may see of this one's environment.
_PASSED_NAMES = frozenset(
    {"PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
)
_PASSED_PREFIXES = (
    "LC_",
    "CUDA_",
    "NVIDIA_",
    "HIP_",
    "ROCR_",
    "OMP_",
    "GGML_",
    "OPENBLAS_",
)


class ExecutorError(ModelryError):
    """A replica's process could not be started."""

    code = "replica_start_failed"


class Record(msgspec.Struct):
    """What is written beside a replica's log. `pid` is 0 until its process runs."""

    replica_id: str
    engine: str
    address: str
    secret: str
    pid: int = 0
    mark: str = ""
    gpus: tuple[int, ...] = ()


class _Replica:
    def __init__(self, record: Record, engine: Engine | None, folder: Path) -> None:
        self.record = record
        self.engine = engine
        self.folder = folder
        self.log = LogFile(folder / "engine.log")
        self.state = ProcessState.STARTING
        self.failure: Failure | None = None
        self.memory_bytes: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.record.address, self.record.secret)


class LocalExecutor:
    """`folder` holds one folder a replica; `sockets` their Unix sockets.

    `on_change` is called whenever a replica became ready or exited.
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._folder = folder
        self._sockets = sockets
        self._replicas: dict[str, _Replica] = {}
        self._node = node_name()

    async def adopt(self, engines: Mapping[str, Engine]) -> None:
        found = []
        for folder in sorted(self._folder.iterdir()):
            try:
                record = msgspec.json.decode((folder / "record.json").read_bytes(), type=Record)
            except (OSError, ValueError):
                log.warning("%s holds no readable record; removed", folder.name)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            found.append(_Replica(record, engines.get(record.engine), folder))
        # At once: one that does not answer takes seconds to say so.
        await asyncio.gather(*(self._adopt(replica) for replica in found))

    async def start(self, plan: ReplicaPlan, engine: Engine) -> None:
        folder = self._folder / plan.replica_id
        record = Record(
            replica_id=plan.replica_id,
            engine=engine.name,
            address=f"unix:{self._sockets / plan.replica_id}.sock",
            secret=secrets.token_hex(24),
            gpus=plan.gpus,
        )
        replica = _Replica(record, engine, folder)
        try:
            folder.mkdir(mode=0o700)
            # Written before there is a process: one that starts while we die
            # is found again by its argument.
            _write_record(replica)
            replica.process = await asyncio.to_thread(_spawn, plan, engine, replica)
            record.pid = replica.process.pid
            record.mark = processes.start_mark(record.pid) or ""
            _write_record(replica)
        except OSError as error:
            if replica.process is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                processes.signal_group(replica.process.pid, signal.SIGKILL)
            raise ExecutorError(f"the engine's process could not be started: {error}") from None
        self._replicas[plan.replica_id] = replica
        self._watch(replica)

    def stop(self, replica_id: str, grace_s: float) -> None:
        replica = self._replicas.get(replica_id)
        if replica is None or replica.state in (
            ProcessState.STOPPING,
            ProcessState.EXITED,
        ):
            return
        replica.state = ProcessState.STOPPING
        replica.tasks.append(asyncio.create_task(self._end(replica, grace_s)))

    def forget(self, replica_id: str) -> None:
        replica = self._replicas.get(replica_id)
        if replica is not None and replica.state is ProcessState.EXITED:
            del self._replicas[replica_id]
            shutil.rmtree(replica.folder, ignore_errors=True)

    def observe(self) -> Mapping[str, Observed]:
        return {id_: self._observed(replica) for id_, replica in self._replicas.items()}

    def log_tail(self, replica_id: str, lines: int) -> list[str]:
        replica = self._replicas.get(replica_id)
        return [] if replica is None else replica.log.tail(lines)

    async def follow_log(self, replica_id: str, lines: int) -> AsyncIterator[str]:
        replica = self._replicas.get(replica_id)
        if replica is not None:
            async for line in replica.log.follow(lines):
                yield line

    async def close(self) -> None:
        tasks = [task for replica in self._replicas.values() for task in replica.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------

    async def _adopt(self, replica: _Replica) -> None:
        record = replica.record
        self._replicas[record.replica_id] = replica
        if record.pid == 0:
            record.pid = processes.find_by_argument(record.replica_id) or 0
            record.mark = processes.start_mark(record.pid) or "" if record.pid else ""
            _write_record(replica)
        alive = record.pid != 0 and processes.start_mark(record.pid) == record.mark
        if not alive or replica.engine is None:
            processes.end_what_is_left(record.pid, record.mark)
            self._exited(replica, None)
            return
        found = await replica.engine.probe(replica.endpoint)
        if found is Probe.FOREIGN:
            # Not to be signalled either: it is somebody else's.
            log.warning("%s answers with another secret; not adopted", record.replica_id)
            self._exited(replica, None)
            return
        if found is Probe.READY:
            replica.state = ProcessState.READY
        log.info("adopted %s (pid %s)", record.replica_id, record.pid)
        self._watch(replica)

    def _watch(self, replica: _Replica) -> None:
        replica.tasks += [
            asyncio.create_task(self._await_ready(replica)),
            asyncio.create_task(self._await_exit(replica)),
            asyncio.create_task(_keep_house(replica)),
        ]

    async def _await_ready(self, replica: _Replica) -> None:
        assert replica.engine is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        while replica.state is ProcessState.STARTING:
            if await replica.engine.probe(replica.endpoint) is Probe.READY:
                # Looked at again: it may have been stopped during the probe.
                if replica.state is ProcessState.STARTING:
                    replica.state = ProcessState.READY
                    self.on_change()
                return
            pause_s = (loop.time() - started) * _PROBE_SHARE
            await asyncio.sleep(min(max(pause_s, _PROBE_LEAST_S), _PROBE_MOST_S))

    async def _await_exit(self, replica: _Replica) -> None:
        await processes.wait_until_gone(replica.record.pid, replica.record.mark)
        exit_code = None
        if replica.process is not None:
            exit_code = await asyncio.to_thread(replica.process.wait)
        # What the leader of the group left behind goes with it.
        processes.signal_group(replica.record.pid, signal.SIGKILL)
        self._exited(replica, exit_code)

    def _exited(self, replica: _Replica, exit_code: int | None) -> None:
        asked = replica.state is ProcessState.STOPPING
        replica.state = ProcessState.EXITED
        if not asked:
            tail = replica.log.tail(TAIL_LINES)
            if replica.engine is None:
                replica.failure = Failure(f"no engine {replica.record.engine!r} here", lasting=True)
            else:
                replica.failure = replica.engine.explain(exit_code, tail)
        kind, _, path = replica.record.address.partition(":")
        if kind == "unix":
            Path(path).unlink(missing_ok=True)
        self.on_change()

    async def _end(self, replica: _Replica, grace_s: float) -> None:
        pid, mark = replica.record.pid, replica.record.mark
        processes.ask_to_end(pid)
        try:
            await asyncio.wait_for(processes.wait_until_gone(pid, mark), grace_s + _KILL_WAIT_S)
        except TimeoutError:
            log.warning("%s did not end in time; killed", replica.record.replica_id)
            processes.signal_group(pid, signal.SIGKILL)

    def _observed(self, replica: _Replica) -> Observed:
        alive = replica.state is not ProcessState.EXITED
        return Observed(
            replica_id=replica.record.replica_id,
            state=replica.state,
            node=self._node,
            endpoint=replica.endpoint,
            memory_bytes=replica.memory_bytes if alive else None,
            failure=replica.failure,
            gpus=replica.record.gpus if alive else (),
        )


async def _keep_house(replica: _Replica) -> None:
    while replica.state is not ProcessState.EXITED:
        replica.memory_bytes = await asyncio.to_thread(processes.memory_bytes, replica.record.pid)
        try:
            await asyncio.to_thread(replica.log.rotate_if_large)
        except OSError as error:
            log.warning("the log of %s cannot be rotated: %s", replica.record.replica_id, error)
        await asyncio.sleep(_HOUSEKEEPING_S)


def _spawn(plan: ReplicaPlan, engine: Engine, replica: _Replica) -> subprocess.Popen[bytes]:
    command = engine.command(plan, replica.endpoint)
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_NAMES or name.startswith(_PASSED_PREFIXES)
    }
    output = replica.log.open_for_engine()
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**passed, "PYTHONUNBUFFERED": "1", **command.env},
            cwd=replica.folder,
            start_new_session=True,
        )
    finally:
        os.close(output)
    assert process.stdin is not None
    try:
        process.stdin.write(command.stdin)
        process.stdin.close()
    except BrokenPipeError:
        # It ended before it read a word; its exit is seen and explained.
        process.stdin = None
    return process


def _write_record(replica: _Replica) -> None:
    path = replica.folder / "record.json"
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(replica.record))
    draft.replace(path)
