"""What the kernel says of processes and cores: CPU, resident memory, how busy a core was.

CPU comes from `/proc/<pid>/task/<tid>/schedstat`, nanoseconds on the CPU, of all threads.
A thread that ended within the span took its count along; then `/proc/<pid>/stat` counts,
which keeps it, in ticks of 10 ms.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Cpu:
    """Of one process: nanoseconds by thread, and by its own books."""

    threads: dict[str, int]
    total_ns: int


@dataclass(frozen=True)
class Core:
    """Ticks of one core since boot. Stolen ones went to another virtual machine."""

    busy: int
    stolen: int
    total: int


def cpu(pids: Iterable[int]) -> dict[int, Cpu]:
    return {pid: _process_cpu(_PROC / str(pid)) for pid in pids}


def cpu_used_ns(before: dict[int, Cpu], after: dict[int, Cpu]) -> int:
    return sum(_used(before[pid], after[pid]) for pid in before)


def _used(before: Cpu, after: Cpu) -> int:
    if before.threads and before.threads.keys() <= after.threads.keys():
        return sum(after.threads.values()) - sum(before.threads.values())
    return after.total_ns - before.total_ns


def _process_cpu(process: Path) -> Cpu:
    threads: dict[str, int] = {}
    for task in (process / "task").iterdir():
        try:
            threads[task.name] = int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    # The name, in parentheses, may hold spaces.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Cpu(threads, (int(fields[11]) + int(fields[12])) * _TICK_NS)


def resident_bytes(pids: Iterable[int]) -> int:
    return sum(int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE for pid in pids)


def core(number: int) -> Core:
    for line in (_PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{number}":
            user, nice, system, idle, iowait, irq, softirq, stolen = map(int, ticks[:8])
            busy = user + nice + system + irq + softirq
            return Core(busy, stolen, busy + idle + iowait + stolen)
    raise LookupError(f"there is no core {number}")


def shares(before: Core, after: Core) -> tuple[float, float]:
    """Of the span between them, the busy and the stolen part."""
    total = max(1, after.total - before.total)
    return (after.busy - before.busy) / total, (after.stolen - before.stolen) / total
