"""Finding models: the catalogue's cards and a user's own models, as one."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy.exc import IntegrityError

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog import store
from modelry.catalog.cards import ModelCard, Task, Variant
from modelry.catalog.sources import LocalFile, parse_source
from modelry.db import Session
from modelry.engines.base import Defaults
from modelry.errors import Conflict, InvalidRequest, NotFound

DEFAULT_TASKS: tuple[Task, ...] = ("chat", "completion")


@dataclass(frozen=True)
class Model:
    """A model on offer to somebody. `owner_id` is None for one of the catalogue."""

    card: ModelCard
    owner_id: str | None = None


class Catalog:
    def __init__(self, cards: dict[str, ModelCard]) -> None:
        self._cards = cards

    async def list(self, session: Session, principal: Principal) -> list[Model]:
        own = await store.own_models(session, principal.owner_id)
        return [Model(card) for card in self._cards.values()] + [_own(row) for row in own]

    async def get(self, session: Session, principal: Principal, reference: str) -> Model:
        """A model by the id of its card, or the id or name of an own one. Raises `NotFound`."""
        row = await store.own_model(session, principal.owner_id, reference)
        if row is not None:
            return _own(row)
        card = self._cards.get(reference)
        if card is None:
            raise NotFound(
                f"there is no model {reference!r}",
                hint="`modelry models` lists the models there are",
                param="model",
                code="model_not_found",
            )
        return Model(card)

    async def by_id(self, session: Session, id_: str) -> Model | None:
        """A model by its id, whoever owns it: for a service that was made from it."""
        row = await store.model_by_id(session, id_)
        if row is not None:
            return _own(row)
        card = self._cards.get(id_)
        return None if card is None else Model(card)

    async def register(
        self,
        session: Session,
        principal: Principal,
        name: str,
        source: str,
        tasks: tuple[Task, ...],
    ) -> Model:
        """Raises `InvalidRequest`, `PermissionDenied` or `Conflict`."""
        place = parse_source(source)
        if isinstance(place, LocalFile):
            # A path is a look into the control plane's own disk.
            principal.require_operator("a model from a file of this machine")
        taken = await store.own_model(session, principal.owner_id, name)
        conflict = Conflict(
            f"there is a model {name!r} already", param="name", code="model_name_taken"
        )
        if taken is not None or name in self._cards:
            raise conflict
        if isinstance(place, LocalFile) and not Path(place.path).is_file():
            raise InvalidRequest(
                f"source: there is no file {place.path} on the control plane's machine",
                param="source",
            )
        row = store.ModelRow(
            id=new_id("mdl"),
            user_id=principal.owner_id,
            name=name,
            source=source,
            tasks=list(tasks),
        )
        session.add(row)
        try:
            await session.flush()
        except IntegrityError:
            raise conflict from None
        return _own(row)


def _own(row: store.ModelRow) -> Model:
    card = ModelCard.model_construct(
        id=row.id,
        name=row.name,
        provider="",
        licence="",
        homepage=None,
        description="",
        tasks=tuple(cast(list[Task], row.tasks)),
        parameters=None,
        context_tokens=None,
        defaults=Defaults(),
        variants=(Variant(name="default", format="gguf", source=row.source),),
    )
    return Model(card, row.user_id)
