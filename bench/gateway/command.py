"""`just bench gateway`: options, the run, the tables, and whether every bar holds."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.gateway import ours, report, rounds
from bench.gateway.bars import FEW, MANY, US, Outcome, verdicts
from bench.gateway.installs import NotInstalled
from bench.gateway.peers import (
    CONTESTANTS,
    ROOT,
    STANDARD,
    Contestant,
    NotStarted,
    Stage,
    modelry,
    stage,
)
from bench.gateway.rounds import Broken, Load, Results

SCENARIOS = ("memory", "chat", "latency", "streams", "bodies", "scale")
RESULTS = ROOT / "bench" / "results" / "gateway.json"
PARTIAL = ROOT / ".bench" / "gateway-partial.json"


def main(arguments: Sequence[str] = ()) -> int:
    options = _options(arguments)
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="modelry-bench-") as scratch:
            outcome, absent = _run(options, Path(scratch))
    except Broken as error:
        print(f"the run is broken, nothing of it counts: {error}")
        return 1
    report.show(outcome, rounds.loads(quick=options.quick))
    for name, why in absent.items():
        print(f"\nnot there: {name}: {why}")
    told = verdicts(outcome, set(options.only), set(options.scenario))
    report.show_bars(told)
    report.write(RESULTS if _whole(options) else PARTIAL, outcome, told, absent)
    short = [each for each in told if not each.holds]
    print(f"\n{len(told) - len(short)} of {len(told)} bars hold, {time.monotonic() - begun:.0f} s")
    for each in short:
        print(f"falls short: {each.bar.name}")
    return 1 if short else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just bench gateway")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--only", type=_names(tuple(CONTESTANTS)), default=STANDARD, metavar="NAME,…",
        help=f"of {', '.join(CONTESTANTS)}; bars that need another are left out",
    )  # fmt: skip
    parser.add_argument(
        "--scenario", type=_names(SCENARIOS), default=SCENARIOS, metavar="NAME,…",
        help=f"of {', '.join(SCENARIOS)}",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _whole(options: argparse.Namespace) -> bool:
    """Whether all is measured, and as long as it should be."""
    everyone = {*STANDARD} <= {*options.only} and {*SCENARIOS} <= {*options.scenario}
    return everyone and not options.quick


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return given

    return names


def _run(options: argparse.Namespace, scratch: Path) -> tuple[Outcome, dict[str, str]]:
    outcome = Outcome(Results(), {})
    absent: dict[str, str] = {}
    gateway_core, load_core = rounds.cores()
    print(f"contestants on core {gateway_core}, engine and load on core {load_core}", flush=True)
    wanted = [
        load for load in rounds.loads(quick=options.quick) if load.scenario in options.scenario
    ]
    with stage(gateway_core, load_core, scratch) as here:
        common = [load for load in wanted if load.scenario != "scale"]
        if common or "memory" in options.scenario:
            _compare(here, options, common, outcome, absent)
        scale = [load for load in wanted if load.scenario == "scale"]
        if scale and US in options.only:
            _scale(here, scale, outcome, absent)
    return outcome, absent


def _compare(
    here: Stage,
    options: argparse.Namespace,
    wanted: Sequence[Load],
    outcome: Outcome,
    absent: dict[str, str],
) -> None:
    starts = [partial(CONTESTANTS[name], here) for name in options.only]
    with _all(options.only, starts, absent) as there:
        if "memory" in options.scenario:
            print("  memory", flush=True)
            for contestant in there:
                if contestant.pids:
                    outcome.memory[contestant.name] = rounds.memory(here, contestant)
        # A scenario at a time, so that what is compared lies close together in time.
        for scenario in SCENARIOS:
            of_it = [load for load in wanted if load.scenario == scenario]
            if of_it and there:
                rounds.run(here, there, of_it, outcome.results)


def _scale(here: Stage, wanted: Sequence[Load], outcome: Outcome, absent: dict[str, str]) -> None:
    few = ours.many(here.engine_port, 2 * ours.CALLED, 2 * ours.CALLED)
    many = ours.many(here.engine_port, ours.MANY_ROUTES, ours.MANY_KEYS)
    starts = [partial(modelry, here, FEW, few), partial(modelry, here, MANY, many)]
    with _all((FEW, MANY), starts, absent) as there:
        if len(there) == len(starts):
            rounds.run(here, there, wanted, outcome.results)


@contextmanager
def _all(
    names: Sequence[str],
    starts: Sequence[Callable[[], AbstractContextManager[Contestant]]],
    absent: dict[str, str],
) -> Iterator[list[Contestant]]:
    """Those that could be started; why the others could not goes to `absent`."""
    there: list[Contestant] = []
    with ExitStack() as running:
        for name, start in zip(names, starts, strict=True):
            print(f"  starting {name}", flush=True)
            try:
                there.append(running.enter_context(start()))
            except (NotInstalled, NotStarted) as error:
                absent[name] = str(error)
                print(f"  {name} is not there: {error}", flush=True)
        yield there
