"""What a service would run as it is typed so far: variant, engine, and the memory it takes here."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelry.access.principal import Principal
from modelry.catalog.catalog import Model
from modelry.catalog.choice import Choice, Machine, Wanted, choose
from modelry.catalog.endpoints import VariantView, model_view
from modelry.catalog.fit import DEFAULT_SLOTS, Fit
from modelry.catalog.offers import Size, context_of, variant_of
from modelry.console.deploy_form import Typed
from modelry.console.site import Site
from modelry.engines.inventory import Inventory
from modelry.errors import InvalidRequest
from modelry.services.spec import MAX_SLOTS

CONTEXT_LEAST, CONTEXT_MOST = 64, 10_000_000
_TONES = {"fits": "good", "tight": "wait", "too_large": "bad"}


@dataclass(frozen=True)
class Fitting:
    """`has_bytes`: of the place that it was held against. `refusal`: why nothing here runs it.

    `context_tokens` and `slots` are what the estimate was made for.
    """

    variant: VariantView
    fit: Fit
    has_bytes: int | None
    context_tokens: int
    slots: int
    replicas: int
    choice: Choice | None
    refusal: str | None

    @property
    def verdict(self) -> str:
        return "unsupported" if self.refusal else self.fit.verdict

    @property
    def tone(self) -> str:
        return _TONES.get(self.verdict, "")


def fitting(site: Site, principal: Principal, model: Model, form: Typed) -> Fitting:
    """Numbers that cannot be are passed over: they are complained of when the form is sent."""
    context = form.number("context_tokens", CONTEXT_LEAST, CONTEXT_MOST)
    slots = form.number("slots", 1, MAX_SLOTS)
    wanted, refusal = form.wanted, None
    try:
        offer = site.offers.offer(model, Size(context, slots), wanted)
    except InvalidRequest as error:
        wanted, refusal = Wanted(), error.message.removeprefix("engine: ")
        offer = site.offers.offer(model, Size(context, slots))
    variant = offer.variant
    if form["variant"]:
        try:
            variant = variant_of(model, form["variant"])
        except InvalidRequest as error:
            refusal = refusal or error.message.removeprefix("variant: ")
    found = choose(site.machine, variant, model.card.tasks, wanted)
    views = model_view(model, offer, site.fetches, principal).variants
    fit = offer.fits[variant.name]
    return Fitting(
        variant=next(view for view in views if view.name == variant.name),
        fit=fit,
        has_bytes=_has_bytes(site.machine.inventory, fit),
        context_tokens=context_of(model, context),
        slots=slots or DEFAULT_SLOTS,
        replicas=form.number("replicas", 1, 64) or 1,
        choice=found if isinstance(found, Choice) else None,
        refusal=refusal or (found if isinstance(found, str) else None),
    )


def _has_bytes(inventory: Inventory, fit: Fit) -> int | None:
    if fit.where == "gpu":
        return max(gpu.memory_bytes for gpu in inventory.gpus)
    return inventory.memory_bytes if fit.where == "memory" else None


def engines_for(machine: Machine, model: Model) -> list[tuple[str, str]]:
    """The engines that run any of its variants, each as the form's value and its name; where
    there are several runtimes of one, these too.
    """
    found: list[tuple[str, str]] = []
    for name in machine.engines:
        if not any(
            isinstance(choose(machine, variant, model.card.tasks, Wanted(name)), Choice)
            for variant in model.card.variants
        ):
            continue
        found.append((name, name))
        runtimes = [
            runtime.id
            for runtime in machine.runtimes.values()
            if runtime.engine == name
            and any(
                isinstance(
                    choose(machine, variant, model.card.tasks, Wanted(name, runtime.id)), Choice
                )
                for variant in model.card.variants
            )
        ]
        if len(runtimes) > 1:
            found += [(f"{name}/{id_}", id_) for id_ in runtimes]
    return found


def converts(machine: Machine, model: Model) -> bool:
    """Whether any of its variants would be made GGUF first, in a quantisation to choose."""
    return any(
        isinstance(found := choose(machine, variant, model.card.tasks), Choice)
        and found.converter is not None
        for variant in model.card.variants
    )


def adapters_of(models: Sequence[Model], principal: Principal) -> list[str]:
    """References to those of the models that are adapters."""
    return [
        model.reference(principal.owner_id)
        for model in models
        if model.card.default_variant.format == "lora"
    ]
