"""Who is measured when: within a round everyone takes a turn, each round from another start.

LiteLLM answers some 60 requests a second: it takes part in few rounds, with few connections
and longer spans, and in the smallest of the stream loads.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from bench.gateway import procfs
from bench.gateway.load import CallsDone, Done, Job, StreamsDone
from bench.gateway.peers import ROOT, Contestant, Stage

SLOW = "litellm"
SLOW_CONNECTIONS = 4

STREAM_LEVELS = (64, 256, 1024)
BODY_SIZES = (150_000, 400_000)
SMALL_BODY = 300


class Broken(Exception):
    """A load that ended with something other than a result: the run counts for nothing."""


@dataclass(frozen=True)
class Load:
    """One way to call a contestant, how long, and how often."""

    name: str
    scenario: str
    kind: Literal["calls", "streams"]
    connections: int
    body_bytes: int
    warm_up_s: float
    span_s: float
    rounds: int

    def for_slow(self) -> "Load":
        if self.kind == "streams":
            return replace(self, rounds=min(self.rounds, 2))
        connections = min(self.connections, SLOW_CONNECTIONS)
        return replace(
            self, connections=connections, warm_up_s=0.5, span_s=2.0, rounds=min(self.rounds, 2)
        )

    def takes(self, contestant: str) -> bool:
        return contestant != SLOW or self.kind == "calls" or self.connections == STREAM_LEVELS[0]


def loads(*, quick: bool) -> list[Load]:
    """Rather many short rounds than few long ones: what disturbs a machine lasts for seconds."""

    def calls(name: str, scenario: str, connections: int, body: int, span: float, n: int) -> Load:
        rounds = max(3, n // 3) if quick else n
        return Load(name, scenario, "calls", connections, body, 0.3, span, rounds)

    def streams(level: int, span: float, n: int) -> Load:
        rounds = 1 if quick else n
        name = f"streams-{level}"
        return Load(name, "streams", "streams", level, SMALL_BODY, 0.2, span, rounds)

    return [
        calls("chat", "chat", 16, SMALL_BODY, 0.6, 15),
        calls("latency", "latency", 1, SMALL_BODY, 1.0, 5),
        streams(STREAM_LEVELS[0], 1.0, 11),
        streams(STREAM_LEVELS[1], 1.0, 5),
        streams(STREAM_LEVELS[-1], 1.5, 5),
        *(calls(f"body-{size}", "bodies", 16, size, 0.6, 5) for size in BODY_SIZES),
        calls("scale", "scale", 16, SMALL_BODY, 0.5, 21),
    ]


MEMORY = Load("memory", "memory", "streams", 1024, SMALL_BODY, 0.2, 1.0, 1)


class Results:
    """What came out: by load, by contestant, by round."""

    def __init__(self) -> None:
        self.done: dict[str, dict[str, dict[int, Done]]] = {}

    def add(self, load: str, contestant: str, number: int, done: Done) -> None:
        self.done.setdefault(load, {}).setdefault(contestant, {})[number] = done

    def calls(self, load: str, contestant: str) -> dict[int, CallsDone]:
        rounds = self.done.get(load, {}).get(contestant, {})
        return {n: done for n, done in rounds.items() if isinstance(done, CallsDone)}

    def streams(self, load: str, contestant: str) -> dict[int, StreamsDone]:
        rounds = self.done.get(load, {}).get(contestant, {})
        return {n: done for n, done in rounds.items() if isinstance(done, StreamsDone)}


def run(
    stage: Stage, contestants: Sequence[Contestant], wanted: Sequence[Load], results: Results
) -> None:
    """All rounds of `wanted`."""
    print("  " + ", ".join(f"{load.name} {load.rounds}×" for load in wanted), flush=True)
    for number in range(max(load.rounds for load in wanted)):
        for load in (each for each in wanted if number < each.rounds):
            start = number % len(contestants)
            for contestant in (*contestants[start:], *contestants[:start]):
                mine = load.for_slow() if contestant.name == SLOW else load
                if number < mine.rounds and load.takes(contestant.name):
                    done = measure(stage, contestant, mine)
                    results.add(load.name, contestant.name, number, done)


def measure(stage: Stage, contestant: Contestant, load: Load) -> Done:
    job = Job(
        kind=load.kind,
        port=contestant.port,
        callers=contestant.callers,
        connections=load.connections,
        body_bytes=load.body_bytes,
        warm_up_s=load.warm_up_s,
        span_s=load.span_s,
        watched=contestant.pids,
        engine=stage.engine_pid,
        cores=(stage.gateway_core, stage.load_core),
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench.gateway.load"],
        cwd=ROOT,
        input=msgspec.json.encode(job),
        capture_output=True,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")[-2000:].strip()
        raise Broken(f"{contestant.name}, {load.name}: {said}")
    result: Done = msgspec.json.decode(done.stdout, type=Done)
    return result


@dataclass(frozen=True)
class Memory:
    """Resident bytes of all processes of a contestant; `streams` is what `loaded` was under."""

    idle: int
    loaded: int
    after: int
    streams: int


def memory(stage: Stage, contestant: Contestant) -> Memory:
    """Of one that has just started. `after`: when all its streams have ended."""
    idle = procfs.resident_bytes(contestant.pids)
    load = MEMORY
    if contestant.name == SLOW:
        load = replace(load, connections=STREAM_LEVELS[0])
    done = measure(stage, contestant, load)
    after = procfs.resident_bytes(contestant.pids)
    return Memory(idle, done.use.resident_bytes, after, load.connections)


def cores() -> tuple[int, int]:
    """The contestant's, and that of engine and load. Raises `Broken` where there is but one."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Broken("two cores are needed: one for the gateway, one for engine and load")
    return usable[0], usable[1]
