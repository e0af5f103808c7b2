"""What the engines share whose server is a runner of ours, `modelry.runners`."""

from pathlib import Path
from typing import Any

from modelry import runners
from modelry.engines.base import Command, Endpoint, Failure, Probe, ReplicaPlan
from modelry.engines.inventory import Inventory, usable_cores
from modelry.engines.options import OptionRules, Options
from modelry.engines.probing import ended_from_outside, probe
from modelry.engines.runner_arguments import Arguments, check, parse
from modelry.engines.waiting import waiting_environment
from modelry.runners.configuration import EXIT_UNLOADABLE, RunnerConfig

_LAUNCH = Path(runners.__file__).parent / "launch.py"


class RunnerEngine:
    """An engine whose runner is of `kind`. `runs` says in words what weights it does; `arguments`
    are those that it takes; `on_gpus`: a replica of it takes one where there is any.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    formats: tuple[str, ...]
    runs: str
    arguments: Arguments
    rules: OptionRules
    on_gpus = False

    stops_whole_answers = True
    embedded = False
    takes_adapters = False
    adapter_rank_max: int | None = None

    def open_to_adapters(self, weights: Path) -> bool:
        return False

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format not in self.formats:
            return f"{self.name} runs {self.runs}, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"{self.name} does not do {', '.join(missing)}"
        return None

    def converts(self, format: str) -> str | None:
        return None

    def preference(self, format: str, inventory: Inventory) -> int:
        return 10

    def gpus(self, inventory: Inventory) -> int:
        return 1 if self.on_gpus and inventory.gpus else 0

    def check(self, options: Options) -> None:
        check(self.name, self.arguments, options)

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        options = parse(self.arguments, plan.options.arguments)
        return runner_command(self.kind, plan, endpoint, options)

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        return explain_runner(self.name, exit_code, log_tail)


def runner_command(
    kind: str, plan: ReplicaPlan, endpoint: Endpoint, options: dict[str, Any]
) -> Command:
    """How to start the runner of `kind` for a replica."""
    assert plan.runtime is not None
    config = RunnerConfig(
        alias=plan.access_path,
        address=endpoint.address,
        secret=endpoint.secret,
        weights=str(plan.weights),
        slots=plan.slots,
        threads=usable_cores(),
        gpus=len(plan.gpus),
        options=options,
    )
    environment = {
        # All that it needs is here; what it would fetch, nobody has looked at.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        # Measured with pictures of 64x64 on two cores that others were busy on: 1.8 s instead of
        # 21 s for 20 steps.
        **waiting_environment(),
        **plan.options.environment,
    }
    if plan.gpus:
        # As `nvidia-smi` counts them; by itself CUDA begins with the fastest.
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in plan.gpus)
    argv = (
        str(plan.runtime / "bin" / "python"),
        "-P",
        *("-X", plan.replica_id),
        str(_LAUNCH),
        kind,
    )
    return Command(argv=argv, stdin=config.encode(), env=environment)


def explain_runner(engine: str, exit_code: int | None, log_tail: list[str]) -> Failure:
    """Why a runner ended, by its exit status and the last it said."""
    outside = ended_from_outside(engine, exit_code)
    if outside is not None:
        return outside
    said = next((line.strip() for line in reversed(log_tail) if line.strip()), "")
    if exit_code == EXIT_UNLOADABLE:
        return Failure(f"{engine} could not load the weights: {said}", lasting=True)
    end = f"{engine} exited with status {exit_code}"
    return Failure(f"{end}: {said}" if said else end)
