"""What of a model can be deployed here: which variant, by which engine, and whether it fits.

The same answer is shown in the catalogue and given to a service that is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Model
from modelry.catalog.fetches import Fetches, in_thread
from modelry.catalog.fit import DEFAULT_CONTEXT_TOKENS, DEFAULT_SLOTS, Fit, best_variant, estimate
from modelry.catalog.weights import Weights
from modelry.engines.base import Engine
from modelry.engines.inventory import Inventory
from modelry.errors import InvalidRequest


@dataclass(frozen=True)
class Size:
    """How much a replica is to keep: `context_tokens` in each of its slots; None is the default."""

    context_tokens: int | None = None
    slots: int | None = None


_DEFAULT = Size()


@dataclass(frozen=True)
class Offer:
    """The variant that is best here. `fits` and `refusals`, why no engine here runs it, are of
    each variant by its name.
    """

    variant: Variant
    fits: Mapping[str, Fit]
    refusals: Mapping[str, str]

    @property
    def refusal(self) -> str | None:
        """Why the model cannot be deployed here."""
        return self.refusals.get(self.variant.name)


class Offers:
    """`read` looks at the machine; it may block, and is asked once."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        fetches: Fetches,
        read: Callable[[], Inventory],
    ) -> None:
        self._engines = engines
        self._fetches = fetches
        self._read = read
        self._inventory: Inventory | None = None

    async def inventory(self) -> Inventory:
        if self._inventory is None:
            self._inventory = await in_thread("inventory", self._read)
        return self._inventory

    async def offer(self, model: Model, size: Size = _DEFAULT, wanted: str | None = None) -> Offer:
        """The variant of a model that is best here. `wanted`: by this engine alone.

        Raises `InvalidRequest` where there is no such engine.
        """
        candidates = self._candidates(wanted)
        card = model.card
        tokens = context_of(model, size.context_tokens) * (size.slots or DEFAULT_SLOTS)
        inventory = await self.inventory()
        found = {each.name: _pick(candidates, each, card.tasks) for each in card.variants}

        def fit(variant: Variant) -> Fit:
            engine = found[variant.name]
            blind = not isinstance(engine, str) and not engine.uses_gpu
            return estimate(
                card,
                variant,
                replace(inventory, gpus=()) if blind else inventory,
                tokens=tokens,
                size_bytes=self._size_of(variant) or model.size_bytes,
            )

        fits = {each.name: fit(each) for each in card.variants}
        chosen = best_variant(
            card,
            runs=lambda variant: not isinstance(found[variant.name], str),
            fit=lambda variant: fits[variant.name],
        )
        refusals = {name: each for name, each in found.items() if isinstance(each, str)}
        return Offer(chosen, fits, refusals)

    def _size_of(self, variant: Variant) -> int | None:
        state = self._fetches.state(variant)
        return state.size_bytes if isinstance(state, Weights) else variant.size_bytes

    def engine_for(self, model: Model, variant: Variant, engine: str | None) -> Engine:
        """Which engine is to run it. Raises `InvalidRequest` with the engines' reasons."""
        found = _pick(self._candidates(engine), variant, model.card.tasks)
        if isinstance(found, str):
            raise InvalidRequest(f"engine: {found}", param="engine")
        return found

    def _candidates(self, name: str | None) -> list[Engine]:
        if name is None:
            return list(self._engines.values())
        if name not in self._engines:
            raise InvalidRequest(
                f"engine: there is no engine {name!r}",
                hint=f"there are: {', '.join(self._engines)}",
                param="engine",
            )
        return [self._engines[name]]


def variant_of(model: Model, name: str) -> Variant:
    """The variant of that name. Raises `InvalidRequest` that lists those there are."""
    for variant in model.card.variants:
        if variant.name == name:
            return variant
    there_are = ", ".join(variant.name for variant in model.card.variants)
    raise InvalidRequest(
        f"variant: {model.card.name} has no variant {name!r}",
        hint=f"there are: {there_are}",
        param="variant",
        code="variant_not_found",
    )


def context_of(model: Model, wished: int | None) -> int:
    """The context a service of it gets, of each request."""
    if wished is not None:
        return wished
    return min(model.card.context_tokens or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)


def _pick(engines: list[Engine], variant: Variant, tasks: tuple[str, ...]) -> Engine | str:
    """The engine to run it, as the card prefers; or why none of these can."""
    if variant.engines:
        by_name = {engine.name: engine for engine in engines}
        engines = [by_name[name] for name in variant.engines if name in by_name]
        if not engines:
            named = " or ".join(variant.engines)
            return f"{variant.name} is for {named}, which is not installed here"
    reasons = []
    for engine in engines:
        reason = engine.supports(variant.format, tasks)
        if reason is None:
            return engine
        reasons.append(reason)
    return "; ".join(reasons)
