"""Tables for people, and the JSON file with every round in it."""

import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TypeVar

import msgspec

from bench.gateway.bars import Outcome, Verdict
from bench.gateway.figures import (
    compared,
    core_share,
    cpu_us,
    load_share,
    middle,
    per_core_second,
    per_second,
)
from bench.gateway.installs import PINNED
from bench.gateway.load import CallsDone, Done, StreamsDone
from bench.gateway.rounds import Load

Some = TypeVar("Some", CallsDone, StreamsDone)
Column = tuple[str, Callable[[Some], float], str]

_SHARES: list[tuple[str, Callable[[Done], float], str]] = [
    ("core %", lambda done: core_share(done) * 100, "{:.0f}"),
    ("load core %", lambda done: load_share(done) * 100, "{:.0f}"),
]
_CALLS: list[Column[CallsDone]] = [
    ("requests/s", per_second, "{:,.0f}"),
    ("CPU µs each", cpu_us, "{:,.1f}"),
    ("per core-second", lambda done: per_core_second(done) if cpu_us(done) else 0, "{:,.0f}"),
    *_SHARES,
    ("p50 ms", lambda done: done.p50_ms, "{:.3f}"),
    ("p99 ms", lambda done: done.p99_ms, "{:.3f}"),
]
_STREAMS: list[Column[StreamsDone]] = [
    ("frames/s", per_second, "{:,.0f}"),
    ("CPU µs each", cpu_us, "{:,.1f}"),
    *_SHARES,
    ("gap p50 ms", lambda done: done.gap_p50_ms, "{:.1f}"),
    ("p99", lambda done: done.gap_p99_ms, "{:.1f}"),
    ("max", lambda done: done.gap_max_ms, "{:.1f}"),
    ("stalls", lambda done: done.stalls, "{:.0f}"),
]


def show(outcome: Outcome, loads: Sequence[Load]) -> None:
    for load in loads:
        by_name = outcome.results.done.get(load.name, {})
        if not by_name:
            continue
        size = f"bodies of {load.body_bytes / 1000:g} kB"
        print(f"\n{load.name}: {load.connections} {_noun(load)}, {size}, {load.rounds} rounds")
        rows = [
            _streams_row(outcome, load.name, name)
            if load.kind == "streams"
            else _calls_row(outcome, load.name, name)
            for name in by_name
        ]
        titles = (
            [title for title, _, _ in _STREAMS] + ["lost", "streams done"]
            if load.kind == "streams"
            else [title for title, _, _ in _CALLS] + ["added p50", "added p99", "answers"]
        )
        _table(["", *titles], rows)
        _remarks(load, list(by_name.items()))
    if outcome.memory:
        print("\nmemory, MB resident")
        rows = [
            [name, *(f"{each / 1e6:.0f}" for each in (has.idle, has.loaded, has.after)),
             str(has.streams)]
            for name, has in outcome.memory.items()
        ]  # fmt: skip
        _table(["", "idle", "loaded", "after", "with streams"], rows)


def _remarks(load: Load, by_name: list[tuple[str, dict[int, Done]]]) -> None:
    """What a reader must know of the machine to judge the rates above."""
    all_done = [done for _, rounds in by_name for done in rounds.values()]
    others = [
        median(done.use.busy[core] + done.use.stolen[core] - share(done) for done in all_done)
        for core, share in enumerate((core_share, load_share))
    ]
    gateways, loads = (f"{max(0.0, each):.0%}" for each in others)
    print(f"  used by others: {gateways} of the contestants' core, {loads} of engine's and load's")
    full = [
        name
        for name, rounds in by_name
        if median(map(load_share, rounds.values())) > median(map(core_share, rounds.values())) > 0
    ]
    if full and load.kind == "calls" and load.connections > 1:
        print(
            f"  engine and load worked harder than {', '.join(full)}: there, trust CPU, not rates"
        )


def _noun(load: Load) -> str:
    return "streams" if load.kind == "streams" else f"connection{'s' * (load.connections > 1)}"


def _calls_row(outcome: Outcome, load: str, name: str) -> list[str]:
    rounds = outcome.results.calls(load, name)
    direct = outcome.results.calls(load, "direct")
    p50 = compared(rounds, direct, lambda mine, other: mine.p50_ms - other.p50_ms)
    p99 = compared(rounds, direct, lambda mine, other: mine.p99_ms - other.p99_ms)
    cells = [shown.format(middle(rounds, figure)) for _, figure, shown in _CALLS]
    added = ["" if each is None or name == "direct" else f"{each:.3f}" for each in (p50, p99)]
    return [name, *cells, *added, f"{sum(done.count for done in rounds.values()):,}"]


def _streams_row(outcome: Outcome, load: str, name: str) -> list[str]:
    rounds = outcome.results.streams(load, name)
    cells = [shown.format(middle(rounds, figure)) for _, figure, shown in _STREAMS]
    lost = sum(done.lost for done in rounds.values())
    return [name, *cells, str(lost), f"{sum(done.streams for done in rounds.values()):,}"]


def _table(titles: list[str], rows: Iterable[list[str]]) -> None:
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        first, *others = (cell for cell in line)
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *cells]).rstrip())


def show_bars(verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        print("\nno bar has all it compares in this run")
        return
    print("\nbars")
    rows = []
    for verdict in verdicts:
        bar = verdict.bar
        sign = "≤" if bar.at_most else "≥"
        measured = "not measured" if verdict.measured is None else f"{verdict.measured:.3g}"
        told = "holds" if verdict.holds else "FALLS SHORT"
        rows.append([bar.name, measured, f"{sign} {bar.limit:g} {bar.unit}".rstrip(), told])
    _table(["", "measured", "limit", ""], rows)


def write(
    path: Path, outcome: Outcome, verdicts: Sequence[Verdict], absent: dict[str, str]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "peers": PINNED,
        "not_there": absent,
        "memory": {name: asdict(memory) for name, memory in outcome.memory.items()},
        "rounds": msgspec.to_builtins(outcome.results.done, str_keys=True),
        "bars": [
            {
                "bar": verdict.bar.name,
                "measured": verdict.measured,
                "limit": verdict.bar.limit,
                "at_most": verdict.bar.at_most,
                "holds": verdict.holds,
            }
            for verdict in verdicts
        ],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
