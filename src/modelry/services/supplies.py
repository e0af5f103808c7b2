"""What a replica needs on its node before it can start, brought there step by step.

Its engine's runtime, its weights, what a conversion makes of them, and its adapter, which is
held against the base before any engine sees it. What can be done at once is begun at once.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from modelry.catalog.adapter_fit import check_adapter_fits, read_base
from modelry.catalog.adapter_numbers import refuse_no_numbers
from modelry.catalog.adapters import read_adapter
from modelry.catalog.cards import Variant
from modelry.catalog.conversions import (
    AdapterConversion,
    AnyConversion,
    Conversion,
    ConversionFailed,
    Conversions,
    Converting,
)
from modelry.catalog.fetches import Absent, Fetches, FetchFailed, Fetching, in_thread
from modelry.catalog.formats import Quantisation
from modelry.catalog.weights import Weights
from modelry.engines.installer import Installed, InstallFailed, Installing, Runtimes
from modelry.errors import ModelryError
from modelry.services.situation import (
    WeightsAbsent,
    WeightsFailed,
    WeightsFetching,
    WeightsReady,
    WeightsSeen,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Needs:
    """Of one service's replicas. `converter`: the runtime that makes GGUF of the weights, None
    where they are run as they are. `gguf`: the engine runs GGUF, adapters included.
    `hosted`: the adapter goes to replicas that run already. `rank_max`: of the adapter.
    `projector`: what turns images into tokens. `images`: chats take them for sure.
    """

    variant: Variant
    runtime: str | None = None
    converter: str | None = None
    quantisation: Quantisation | None = None
    adapter: Variant | None = None
    projector: Variant | None = None
    gguf: bool = True
    hosted: bool = False
    rank_max: int | None = None
    images: bool = False

    @property
    def fetched(self) -> list[Variant]:
        """What comes from elsewhere."""
        named = (self.variant, self.projector, self.adapter)
        return [variant for variant in named if variant is not None]


@dataclass(frozen=True)
class Supplied:
    """All of it is here. `runtime` is the environment's folder."""

    weights: Weights
    adapter: Weights | None = None
    runtime: Path | None = None
    projector: Weights | None = None


@dataclass(frozen=True)
class Part:
    """Something that a service runs. `what`: model, projector, conversion, adapter or
    adapter conversion.
    """

    what: str
    weights: Weights


Begin = Callable[[], None]
_Checked: TypeAlias = tuple[str, str, int | None]
"""Digests of adapter and base, and the rank that is allowed."""


class _Step(Exception):
    """Something is not here: what to tell, and how to begin to bring it."""

    def __init__(self, seen: WeightsSeen, begin: Begin | None = None) -> None:
        self.seen = seen
        self.begin = begin


class Supplies:
    def __init__(self, fetches: Fetches, conversions: Conversions, runtimes: Runtimes) -> None:
        self._fetches = fetches
        self._conversions = conversions
        self._runtimes = runtimes
        # Adapters held against bases: None while that is being done.
        self._checked: dict[_Checked, str | None] = {}
        self.on_change: Callable[[], None] = lambda: None

    def state(self, needs: Needs) -> WeightsSeen:
        supplied, steps = self._look(needs)
        if supplied is not None:
            return WeightsReady()
        # What failed first, then what goes on.
        for kind in (WeightsFailed, WeightsFetching):
            for step in steps:
                if isinstance(step.seen, kind):
                    return step.seen
        return WeightsAbsent()

    def ensure(self, needs: Needs) -> None:
        """Begin all that can be begun."""
        for step in self._look(needs)[1]:
            if step.begin is not None:
                step.begin()

    def ready(self, needs: Needs) -> Supplied | None:
        return self._look(needs)[0]

    def parts(self, needs: Needs) -> list[Part]:
        """What is here of it, in the order in which it came."""
        found = []
        for what, variant in (
            ("model", needs.variant),
            ("projector", needs.projector),
            ("adapter", needs.adapter),
        ):
            weights = None if variant is None else self._fetches.state(variant)
            if isinstance(weights, Weights):
                found.append(Part(what, weights))
        for conversion in self._conversions_of(needs):
            made = self._conversions.state(conversion)
            if isinstance(made, Weights):
                whole = isinstance(conversion, Conversion)
                found.append(Part("conversion" if whole else "adapter conversion", made))
        return found

    def forget_failures(self, needs: Needs) -> None:
        """Let the next `ensure` try again what failed."""
        for variant in needs.fetched:
            self._fetches.forget_failure(variant)
        for runtime in (needs.runtime, needs.converter):
            if runtime is not None:
                self._runtimes.forget_failure(runtime)
        for conversion in self._conversions_of(needs):
            self._conversions.forget_failure(conversion)
        adapter = None if needs.adapter is None else self._fetches.state(needs.adapter)
        if isinstance(adapter, Weights):
            for key in [key for key, told in self._checked.items() if told]:
                if key[0] == adapter.sha256:
                    del self._checked[key]

    def keep_only(self, wanted: list[Needs]) -> None:
        """Stop the fetches and conversions that nobody wants any more."""
        ids = {variant.weights_id for needs in wanted for variant in needs.fetched}
        self._fetches.keep_only(ids)
        if self._conversions.running():
            keys = {each.key for needs in wanted for each in self._conversions_of(needs)}
            self._conversions.keep_only(keys)

    def busy(self) -> bool:
        """Whether anything is on its way, so that progress is worth a look."""
        return (
            bool(self._fetches.running())
            or self._conversions.running()
            or self._runtimes.installing()
        )

    # ------------------------------------------------------------------------

    def _look(self, needs: Needs) -> tuple[Supplied | None, list[_Step]]:
        steps: list[_Step] = []
        runtime = weights = adapter = projector = None
        try:
            if needs.runtime is not None and not needs.hosted:
                runtime = self._runtime(needs.runtime)
        except _Step as step:
            steps.append(step)
        if needs.converter is not None:
            try:
                self._runtime(needs.converter)
            except _Step as step:
                steps.append(step)
        try:
            weights = self._weights(needs)
        except _Step as step:
            steps.append(step)
        try:
            if needs.projector is not None:
                projector = self._fetched(needs.projector, "projector")
        except _Step as step:
            steps.append(step)
        try:
            adapter = self._adapter(needs, weights)
        except _Step as step:
            steps.append(step)
        if steps or weights is None:
            return None, steps
        return Supplied(weights, adapter, runtime, projector), []

    def _runtime(self, runtime_id: str) -> Path:
        match self._runtimes.state(runtime_id):
            case Installed(folder):
                return folder
            case Installing(message, done, total):
                raise _Step(WeightsFetching(done, total, message))
            case InstallFailed(message, hint):
                told = f"{message} ({hint})" if hint else message
                raise _Step(WeightsFailed(f"its runtime {runtime_id} is not here: {told}"))
            case _:
                if runtime_id not in self._runtimes.known:
                    raise _Step(
                        WeightsFailed(
                            f"its runtime {runtime_id} is not installed, and this version of "
                            "Modelry does not know it"
                        )
                    )
                raise _Step(WeightsAbsent(), lambda: self._runtimes.ensure(runtime_id))

    def _weights(self, needs: Needs) -> Weights:
        source = self._fetched(needs.variant, "weights")
        if needs.converter is None:
            return source
        conversion = self._conversion(source, needs)
        if conversion is None:
            raise _Step(WeightsAbsent())
        return self._converted(conversion, "converting its weights to GGUF")

    def _adapter(self, needs: Needs, weights: Weights | None) -> Weights | None:
        if needs.adapter is None:
            return None
        adapter = self._fetched(needs.adapter, "adapter")
        if weights is None:
            raise _Step(WeightsAbsent())
        self._check(adapter, weights, needs.rank_max)
        conversion = _adapter_conversion(needs, adapter, weights)
        if conversion is None:
            return adapter
        return self._converted(conversion, "converting its adapter")

    def _fetched(self, variant: Variant, what: str) -> Weights:
        match self._fetches.state(variant):
            case Weights() as weights:
                return weights
            case Fetching(done, total, speed, left_s):
                doing = f"fetching its {what}"
                raise _Step(WeightsFetching(done, total, doing, speed, left_s))
            case FetchFailed() as failed:
                raise _Step(WeightsFailed(f"its {what} could not be fetched: {failed.in_words}"))
            case _:
                raise _Step(WeightsAbsent(), lambda: self._fetches.ensure(variant))

    def _converted(self, conversion: AnyConversion, doing: str) -> Weights:
        match self._conversions.state(conversion):
            case Weights() as weights:
                return weights
            case Converting(done, total):
                raise _Step(WeightsFetching(done, total, doing))
            case ConversionFailed(message):
                raise _Step(WeightsFailed(message))
            case Absent():
                raise _Step(WeightsAbsent(), lambda: self._conversions.ensure(conversion))

    def _conversion(self, source: Weights, needs: Needs) -> Conversion | None:
        """None while the converter is not installed."""
        assert needs.converter is not None
        converter = self._runtimes.state(needs.converter)
        if not isinstance(converter, Installed):
            return None
        return Conversion(source, converter.python, needs.quantisation)

    def _conversions_of(self, needs: Needs) -> list[AnyConversion]:
        """Those that can be named by now."""
        source = self._fetches.state(needs.variant)
        if not isinstance(source, Weights):
            return []
        found: list[AnyConversion] = []
        base: Weights | None = source
        if needs.converter is not None:
            conversion = self._conversion(source, needs)
            if conversion is None:
                return []
            found.append(conversion)
            made = self._conversions.state(conversion)
            base = made if isinstance(made, Weights) else None
        if needs.adapter is not None and base is not None:
            adapter = self._fetches.state(needs.adapter)
            if isinstance(adapter, Weights):
                made_of_it = _adapter_conversion(needs, adapter, base)
                found += [] if made_of_it is None else [made_of_it]
        return found

    # -- adapters held against their base ----------------------------------------

    def _check(self, adapter: Weights, base: Weights, rank_max: int | None) -> None:
        key = (adapter.sha256, base.sha256, rank_max)
        if key not in self._checked:
            raise _Step(WeightsAbsent(), lambda: self._begin_check(key, adapter, base))
        told = self._checked[key]
        if told is None:
            raise _Step(WeightsFetching(0, 0, "holding its adapter against its base"))
        if told:
            raise _Step(WeightsFailed(f"its adapter does not fit: {told}"))

    def _begin_check(self, key: _Checked, adapter: Weights, base: Weights) -> None:
        if key in self._checked:
            return
        self._checked[key] = None

        def check() -> str:
            try:
                read, rank_max = read_adapter(adapter.path), key[2]
                check_adapter_fits(read, read_base(base.path))
                if read.kind == "peft":
                    refuse_no_numbers(adapter.path)
                if rank_max is not None and read.rank > rank_max:
                    return f"its rank is {read.rank}, and the engine takes {rank_max} at most"
            except ModelryError as error:
                return f"{error.message} ({error.hint})" if error.hint else error.message
            return ""

        def done(told: "asyncio.Future[str]") -> None:
            if told.exception() is not None:
                log.error("an adapter could not be checked", exc_info=told.exception())
                self._checked[key] = str(told.exception()) or "it could not be read"
            else:
                self._checked[key] = told.result()
            self.on_change()

        in_thread("adapter check", check).add_done_callback(done)


def _adapter_conversion(needs: Needs, adapter: Weights, base: Weights) -> AdapterConversion | None:
    """None where the engine takes the adapter as it is."""
    return AdapterConversion(adapter, base) if needs.gguf and adapter.path.is_dir() else None
