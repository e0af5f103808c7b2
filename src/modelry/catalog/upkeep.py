"""What people do about a model that is there: fetch its weights ahead, stop that, delete it."""

from collections.abc import Callable

from modelry.access.principal import Principal
from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Catalog, Model
from modelry.catalog.fetches import Fetches
from modelry.catalog.uses import UsesOf, in_words
from modelry.db import Database
from modelry.errors import Conflict, NotFound

_END_S = 3.0


class Upkeep:
    """`changed` is called when what is wanted of weights has changed."""

    def __init__(
        self,
        db: Database,
        catalog: Catalog,
        fetches: Fetches,
        uses_of: UsesOf,
        changed: Callable[[], None],
    ) -> None:
        self._db = db
        self._catalog = catalog
        self._fetches = fetches
        self._uses_of = uses_of
        self._changed = changed

    async def fetch(self, caller: Principal, model_id: str, variant: str | None) -> Model:
        """Begin to fetch a variant's weights, the first one's where none is named; once more
        where that had failed. Raises `NotFound`.
        """
        async with self._db.begin() as session:
            model = await self._catalog.get(session, caller, model_id)
        chosen = chosen_variant(model, variant)
        for each in (chosen, chosen.projector_variant):
            if each is not None:
                self._fetches.ask(each, caller.owner_id)
        self._changed()
        return model

    async def cancel(self, caller: Principal, model_id: str, variant: str | None) -> Model:
        """Stop a fetch; what it has so far stays for the next one. An operator's word ends also
        what others asked for. Raises `NotFound`, or `Conflict` where somebody waits for it.
        """
        async with self._db.begin() as session:
            model = await self._catalog.get(session, caller, model_id)
            uses = await self._uses_of(session, model.card.id)
        chosen = chosen_variant(model, variant)
        for each in (chosen, chosen.projector_variant):
            if each is not None:
                self._fetches.withdraw(each, None if caller.operator else caller.owner_id)
        waiting = [use for use in uses if use.runs and use.variant == chosen.name]
        if waiting and chosen.weights_id in self._fetches.running():
            raise Conflict(
                f"{in_words(waiting, caller)} wait{'s' if len(waiting) == 1 else ''} for it",
                hint="stop what waits for it",
                code="weights_wanted",
            )
        # Whoever knows what services want stops what nobody wants: models may share weights.
        self._changed()
        await self._fetches.ended(chosen.weights_id, _END_S)
        if self._fetches.is_wanted(chosen.weights_id):
            raise Conflict("others wait for it too", code="weights_wanted")
        return model

    async def delete(self, caller: Principal, model_id: str) -> None:
        """An own model that no service uses. Its weights stay until somebody prunes."""
        async with self._db.begin() as session:
            model = await self._catalog.delete(session, caller, model_id, self._uses_of)
        for variant in model.card.variants:
            self._fetches.withdraw(variant, caller.owner_id)
        self._changed()


def chosen_variant(model: Model, name: str | None) -> Variant:
    """The first one where none is named. Raises `NotFound` with the names there are."""
    variant = model.card.default_variant if name is None else model.card.variant(name)
    if variant is not None:
        return variant
    raise NotFound(
        f"{model.card.name} has no variant {name!r}",
        hint="it has " + ", ".join(variant.name for variant in model.card.variants),
        param="variant",
        code="variant_not_found",
    )
