"""The load generator's process: one job on standard input, its result on standard output.

    python -m bench.gateway.load < job.json

Like the engine it is one epoll loop on plain sockets. It reads the contestant's CPU itself,
at the first and the last moment of the measured span, and it believes nothing: an answer
that is not 200, or not the engine's, ends the job with status 1 and the answer's beginning.
"""

import gc
import os
import sys
import time
from typing import Literal

import msgspec

from bench.gateway import procfs, wire
from bench.gateway.calls import Calls
from bench.gateway.streams import Streams
from bench.gateway.wire import Unexpected


class Job(msgspec.Struct, frozen=True):
    """`callers`: (API key, model) pairs that connections take in turn. `body_bytes`: of each
    request, about. `watched`: the contestant's processes. `engine`: the mock engine's.
    `cores`: the contestant's, and that of engine and load.
    """

    kind: Literal["calls", "streams"]
    port: int
    callers: tuple[tuple[str, str], ...]
    connections: int
    body_bytes: int
    warm_up_s: float
    span_s: float
    watched: tuple[int, ...]
    engine: int
    cores: tuple[int, int]


class Use(msgspec.Struct, frozen=True):
    """Of the span: CPU nanoseconds of each part; busy and stolen shares of the two cores,
    whoever used them; the contestant's resident bytes at its end.
    """

    contestant_ns: int
    engine_ns: int
    load_ns: int
    busy: tuple[float, float]
    stolen: tuple[float, float]
    resident_bytes: int


class CallsDone(msgspec.Struct, frozen=True, tag="calls"):
    """`count` answers within `span_s`; latencies in milliseconds."""

    span_s: float
    use: Use
    count: int
    p50_ms: float
    p99_ms: float


class StreamsDone(msgspec.Struct, frozen=True, tag="streams"):
    """`frames` within `span_s`. `lost` and `streams` are of the whole job. Gaps between
    deltas, in milliseconds; `stalls` are gaps over ten times the median one, or the
    engine's: where frames arrive in clusters, the median says nothing of a stall.
    """

    span_s: float
    use: Use
    frames: int
    streams: int
    lost: int
    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    stalls: int


Done = CallsDone | StreamsDone


class Span:
    """Reads the meters when the measured span begins, and again when it ends."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._parts = ((*job.watched,), (job.engine,), (os.getpid(),))
        self._begun = 0.0
        self.seconds = 0.0

    def begin(self) -> None:
        self._cores = [procfs.core(each) for each in self._job.cores]
        self._cpu = [procfs.cpu(pids) for pids in self._parts]
        self._begun = time.perf_counter()

    def end(self) -> Use:
        self.seconds = time.perf_counter() - self._begun
        contestant, engine, load = (
            procfs.cpu_used_ns(before, procfs.cpu(before)) for before in self._cpu
        )
        shares = [
            procfs.shares(before, procfs.core(number))
            for before, number in zip(self._cores, self._job.cores, strict=True)
        ]
        return Use(
            contestant,
            engine,
            load,
            (shares[0][0], shares[1][0]),
            (shares[0][1], shares[1][1]),
            procfs.resident_bytes(self._job.watched),
        )


def run(job: Job) -> Done:
    stream = job.kind == "streams"
    requests = [
        wire.request(key, model, job.body_bytes, stream=stream) for key, model in job.callers
    ]
    span = Span(job)
    if stream:
        streams = Streams(job.port, requests, job.connections)
        streams.run_for(streams.ramp_s + job.warm_up_s)
        streams.forget()
        span.begin()
        streams.run_for(job.span_s)
        use = span.end()
        gaps, frames = streams.gaps, streams.frames
        streams.finish()
        return StreamsDone(
            span.seconds,
            use,
            frames,
            streams.ended,
            streams.lost,
            gaps.percentile(50),
            gaps.percentile(99),
            gaps.longest_ms,
            gaps.over(10 * max(gaps.percentile(50), wire.DELTA_GAP_S * 1e3)),
        )
    calls = Calls(job.port, requests, job.connections)
    calls.run_for(job.warm_up_s)
    calls.forget()
    span.begin()
    calls.run_for(job.span_s)
    use = span.end()
    latencies = sorted(calls.latencies)
    calls.finish()
    if not latencies:
        raise Unexpected(f"no answer within {job.span_s} s")
    return CallsDone(
        span.seconds,
        use,
        len(latencies),
        latencies[len(latencies) // 2] * 1e3,
        latencies[len(latencies) * 99 // 100] * 1e3,
    )


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    gc.disable()
    try:
        done = run(job)
    except (Unexpected, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
