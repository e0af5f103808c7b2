"""What must hold, each as a figure of one run against its limit."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.gateway.figures import compared, cpu_us, per_core_second
from bench.gateway.load import CallsDone, StreamsDone
from bench.gateway.rounds import STREAM_LEVELS, Memory, Results

US = "modelry"
MANY = "modelry-many"
FEW = "modelry-few"


@dataclass(frozen=True)
class Outcome:
    results: Results
    memory: dict[str, Memory]


@dataclass(frozen=True)
class Bar:
    """`needs`: the contestants whose figures it takes. `at_most`: otherwise at least."""

    name: str
    scenario: str
    needs: tuple[str, ...]
    figure: Callable[[Outcome], float | None]
    limit: float
    at_most: bool
    unit: str = ""

    def verdict(self, outcome: Outcome) -> "Verdict":
        measured = self.figure(outcome)
        if measured is None:
            return Verdict(self, None, False)
        return Verdict(
            self, measured, measured <= self.limit if self.at_most else measured >= self.limit
        )


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    measured: float | None
    holds: bool


def _calls_ratio(
    load: str, ours: str, theirs: str, figure: Callable[[CallsDone], float]
) -> Callable[[Outcome], float | None]:
    return lambda outcome: compared(
        outcome.results.calls(load, ours),
        outcome.results.calls(load, theirs),
        lambda mine, other: figure(mine) / figure(other),
    )


def _frames_ratio(level: int, theirs: str) -> Callable[[Outcome], float | None]:
    return lambda outcome: compared(
        outcome.results.streams(f"streams-{level}", US),
        outcome.results.streams(f"streams-{level}", theirs),
        lambda mine, other: cpu_us(mine) / cpu_us(other),
    )


def _added_p50_ms(outcome: Outcome) -> float | None:
    return compared(
        outcome.results.calls("latency", US),
        outcome.results.calls("latency", "direct"),
        lambda mine, other: mine.p50_ms - other.p50_ms,
    )


def _of_streams(figure: Callable[[list[StreamsDone]], float]) -> Callable[[Outcome], float | None]:
    def measured(outcome: Outcome) -> float | None:
        rounds = outcome.results.streams("streams-1024", US)
        return figure(list(rounds.values())) if rounds else None

    return measured


def _resident_mb(outcome: Outcome) -> float | None:
    memory = outcome.memory.get(US)
    return None if memory is None else memory.loaded / 1e6


BARS = (
    Bar("CPU per request, of nginx's", "chat", ("nginx",),
        _calls_ratio("chat", US, "nginx", cpu_us), 2.0, True, "×"),
    Bar("requests per core-second, of nginx's", "chat", ("nginx",),
        _calls_ratio("chat", US, "nginx", per_core_second), 0.5, False, "×"),
    Bar("requests per core-second, of vllm-router's", "chat", ("vllm-router",),
        _calls_ratio("chat", US, "vllm-router", per_core_second), 1.5, False, "×"),
    Bar("requests per core-second, of LiteLLM's", "chat", ("litellm",),
        _calls_ratio("chat", US, "litellm", per_core_second), 100, False, "×"),
    Bar("added p50 at one connection", "latency", ("direct",), _added_p50_ms, 0.3, True, "ms"),
    *(
        Bar(f"CPU per frame of {level} streams, of vllm-router's", "streams", ("vllm-router",),
            _frames_ratio(level, "vllm-router"), 1.0, True, "×")
        for level in STREAM_LEVELS
    ),
    Bar("frames lost of 1,024 streams, all rounds", "streams", (),
        _of_streams(lambda rounds: sum(done.lost for done in rounds)), 0, True),
    Bar("stalls of 1,024 streams, all rounds", "streams", (),
        _of_streams(lambda rounds: sum(done.stalls for done in rounds)), 0, True),
    Bar("resident memory with 1,024 streams", "memory", (), _resident_mb, 80, True, "MB"),
    Bar("requests per core-second with 100,000 keys and 10,000 routes, of that with few",
        "scale", (), _calls_ratio("scale", MANY, FEW, per_core_second), 0.95, False, "×"),
)  # fmt: skip
"""The first two say the same of two sides: the issue names both."""


def verdicts(outcome: Outcome, asked: set[str], scenarios: set[str]) -> list[Verdict]:
    """Of the bars that were asked for; a bar whose peer could not be had does not hold."""
    return [
        bar.verdict(outcome)
        for bar in BARS
        if bar.scenario in scenarios and {US, *bar.needs} <= asked
    ]
