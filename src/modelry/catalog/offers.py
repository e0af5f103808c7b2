"""What of a model can be deployed here: which variant, by which engine, and whether it fits.

The same answer is shown in the catalogue and given to a service that is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Model
from modelry.catalog.choice import ANY, Choice, Machine, Wanted, choose
from modelry.catalog.fetches import Fetches
from modelry.catalog.fit import DEFAULT_CONTEXT_TOKENS, DEFAULT_SLOTS, Fit, best_variant, estimate
from modelry.catalog.weights import Weights
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
    def __init__(self, machine: Machine, fetches: Fetches) -> None:
        self._machine = machine
        self._fetches = fetches

    def offer(self, model: Model, size: Size = _DEFAULT, wanted: Wanted = ANY) -> Offer:
        """The variant of a model that is best here, as it is wanted.

        Raises `InvalidRequest` where there is no such engine.
        """
        card, inventory = model.card, self._machine.inventory
        tokens = context_of(model, size.context_tokens) * (size.slots or DEFAULT_SLOTS)
        found = {
            each.name: choose(self._machine, each, card.tasks, wanted) for each in card.variants
        }

        def fit(variant: Variant) -> Fit:
            choice = found[variant.name]
            blind = isinstance(choice, Choice) and not choice.engine.gpus(inventory)
            return estimate(
                card,
                variant,
                replace(inventory, gpus=()) if blind else inventory,
                tokens=tokens,
                size_bytes=self._size_of(variant) or model.size_bytes,
                projector_bytes=self._projector_bytes(variant),
            )

        def effort(variant: Variant) -> tuple[bool, int] | None:
            choice = found[variant.name]
            if isinstance(choice, str):
                return None
            preference = choice.engine.preference(variant.format, inventory)
            return choice.converter is not None, preference

        fits = {each.name: fit(each) for each in card.variants}
        chosen = best_variant(card, effort, fit=lambda variant: fits[variant.name])
        refusals = {name: each for name, each in found.items() if isinstance(each, str)}
        return Offer(chosen, fits, refusals)

    def choice(self, model: Model, variant: Variant, wanted: Wanted = ANY) -> Choice:
        """What is to run it. Raises `InvalidRequest` with the engines' reasons."""
        found = choose(self._machine, variant, model.card.tasks, wanted)
        if isinstance(found, str):
            raise InvalidRequest(f"engine: {found}", param="engine")
        return found

    def _projector_bytes(self, variant: Variant) -> int:
        projector = variant.projector_variant
        return 0 if projector is None else self._size_of(projector) or 0

    def _size_of(self, variant: Variant) -> int | None:
        state = self._fetches.state(variant)
        return state.size_bytes if isinstance(state, Weights) else variant.size_bytes


def variant_of(model: Model, name: str) -> Variant:
    """The variant of that name. Raises `InvalidRequest` that lists those there are."""
    variant = model.card.variant(name)
    if variant is not None:
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
