"""llama.cpp, embedded through the prebuilt `xllamacpp` wheel.

Each replica is a process of `llama_cpp_runner`. The weights are one GGUF file.
"""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import msgspec

from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.llama_cpp_runner import (
    EXIT_LIBRARY_MISSING,
    EXIT_UNLOADABLE,
    RunnerConfig,
)

_PROBE_TIMEOUT_S = 5.0
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

# The engine's own words for why weights do not load, newest first in its log.
_LOAD_ERROR = re.compile(r"error loading model[^:]*: (?P<reason>.+)$")
_NOT_GGUF = re.compile(r"(?P<reason>invalid magic characters.*)$")
_NOT_BOUND = "couldn't bind HTTP server socket"
_OTHER_ERROR = re.compile(r"^\S+ E (?:\S+\s+\S+: )?(?P<reason>.+)$")


def usable_cores() -> int:
    """The cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LlamaCpp:
    name = "llama.cpp"
    tasks = ("chat", "completion")
    # Seen with xllamacpp 2026.10: a stream ends 0.1 s after its client has
    # hung up, an answer that is not a stream is generated to its end.
    stops_whole_answers = False
    # The wheel on Python's index is built for processors.
    uses_gpu = False

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format != "gguf":
            return f"llama.cpp runs GGUF weights, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"llama.cpp does not do {', '.join(missing)} here"
        return None

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        config = RunnerConfig(
            weights=str(_gguf(plan.weights)),
            alias=plan.access_path,
            address=endpoint.address,
            secret=endpoint.secret,
            slots=plan.slots,
            context_tokens=plan.context_tokens,
            threads=usable_cores(),
            temperature=plan.defaults.temperature,
            top_p=plan.defaults.top_p,
            max_tokens=plan.defaults.max_tokens,
        )
        argv = (
            sys.executable,
            "-P",
            "-m",
            "modelry.engines.llama_cpp_runner",
            plan.replica_id,
        )
        return Command(argv=argv, stdin=msgspec.json.encode(config), env=_environment())

    async def probe(self, endpoint: Endpoint) -> Probe:
        health = await _status(endpoint, "/health")
        if health is None:
            return Probe.UNREACHABLE
        if health != 200:
            return Probe.LOADING
        # /health is open to everyone; /slots asks for the secret.
        known = await _status(endpoint, "/slots") == 200
        return Probe.READY if known else Probe.FOREIGN

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        if exit_code == EXIT_UNLOADABLE and any(_NOT_BOUND in line for line in log_tail):
            return Failure(f"llama.cpp {_NOT_BOUND}")
        if exit_code == EXIT_UNLOADABLE:
            reason = _reason(log_tail) or "the engine gave no reason"
            return Failure(f"llama.cpp could not load the weights: {reason}", lasting=True)
        if exit_code == EXIT_LIBRARY_MISSING:
            reason = log_tail[-1] if log_tail else "a shared library is missing"
            return Failure(f"llama.cpp cannot start on this machine: {reason}", lasting=True)
        if exit_code is None:
            return Failure("llama.cpp ended while nobody watched it")
        if exit_code == -signal.SIGKILL:
            return Failure("llama.cpp was killed (by hand, or because memory ran out)")
        if exit_code < 0:
            return Failure(f"llama.cpp crashed with {_signal_name(-exit_code)}")
        told = _reason(log_tail)
        end = f"llama.cpp exited with status {exit_code}"
        return Failure(f"{end}: {told}" if told else end)


def _gguf(weights: Path) -> Path:
    """The file to open: of one that is split, the first part, which leads to the others."""
    return min(weights.glob("*.gguf")) if weights.is_dir() else weights


async def _status(endpoint: Endpoint, path: str) -> int | None:
    """The status of a GET; None where nothing speaks HTTP there.

    Written by hand for what it costs: a replica that loads is asked dozens of
    times a second, at 0.4 ms of CPU for both questions instead of the 33 ms
    that fresh clients of a library took.
    """
    kind, _, rest = endpoint.address.partition(":")
    host, _, port = rest.rpartition(":")
    request = (
        f"GET {path} HTTP/1.1\r\nhost: replica\r\n"
        f"authorization: Bearer {endpoint.secret}\r\nconnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            if kind == "unix":
                reader, writer = await asyncio.open_unix_connection(rest)
            else:
                reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(request.encode())
                match = _STATUS_LINE.match(await reader.readline())
            finally:
                writer.close()
    except (OSError, ValueError):
        return None
    return None if match is None else int(match[1])


def _environment() -> dict[str, str]:
    """Threads of the engine sleep while they wait for each other, unless told otherwise.

    By default they spin. Measured on two cores: 64 tokens of the embedded model
    take 0.9 s either way on an idle machine, but 9 s against 2 s with three
    replicas at work, since a thread that spins keeps the one it waits for from
    running.
    """
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _reason(log_tail: list[str]) -> str | None:
    for pattern in (_NOT_GGUF, _LOAD_ERROR, _OTHER_ERROR):
        for line in reversed(log_tail):
            match = pattern.search(line)
            if match:
                return match["reason"].strip()
    return None
