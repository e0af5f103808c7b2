"""Finding models: the catalogue's cards and a user's own models, as one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy.exc import IntegrityError

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.catalog import store
from modelry.catalog.card_folder import Cards
from modelry.catalog.cards import ModelCard, Task, Variant
from modelry.catalog.formats import Allowed, Format, quantisation_of
from modelry.catalog.look import Found
from modelry.catalog.prune import Roots
from modelry.catalog.sources import (
    BucketFiles,
    LocalFile,
    Source,
    UploadedFiles,
    WebFile,
    parse_source,
)
from modelry.catalog.uses import UsesOf, in_words
from modelry.db import Session
from modelry.engines.base import Defaults
from modelry.errors import Conflict, InvalidRequest, NotFound, PermissionDenied

OWN_VARIANT = "default"
"""The one that an own model has."""
DEFAULT_TASKS: tuple[Task, ...] = ("chat", "completion")


@dataclass(frozen=True)
class Model:
    """A model on offer to somebody. `owner_id` is None for one of the catalogue.

    `size_bytes`: what its weights had when it was registered.
    """

    card: ModelCard
    owner_id: str | None = None
    shared: bool = False
    size_bytes: int | None = None

    def reference(self, user_id: str) -> str:
        """What this user calls it by."""
        if self.owner_id is None:
            return self.card.id
        own = self.owner_id == user_id
        return self.card.name if own else f"{self.owner_id}/{self.card.name}"


@dataclass(frozen=True)
class Change:
    """Of an own model; None leaves a thing as it is."""

    name: str | None = None
    tasks: tuple[Task, ...] | None = None
    description: str | None = None
    shared: bool | None = None


@dataclass(frozen=True)
class Terms:
    """On what terms an own model's weights are taken, as `Variant` has them."""

    allow_pickles: bool = False
    allow_remote_code: bool = False
    copied: bool = False

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.allow_pickles, self.allow_remote_code)


class Catalog:
    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    @property
    def cards(self) -> Cards:
        return self._cards

    async def list(self, session: Session, principal: Principal) -> list[Model]:
        rows = await store.own_models(session, principal.owner_id)
        rows += await store.shared_models(session, but_of=principal.owner_id)
        cards = self._cards.current()
        return [Model(card) for card in cards.values()] + [_own(row) for row in rows]

    async def get(
        self, session: Session, principal: Principal, reference: str, *, keep: bool = False
    ) -> Model:
        """A model by the id of its card, or the id or name of an own one; one that somebody
        shares by its id, or its owner's id and its name. An operator finds everybody's so.

        `keep`: it is not deleted before the transaction ends, so that a service may be made of it.
        Raises `NotFound`.
        """
        row = await self._row(session, principal, reference, "keep" if keep else None)
        if row is not None:
            return _own(row)
        card = self._cards.current().get(reference)
        if card is None:
            raise NotFound(
                f"there is no model {reference!r}",
                hint="`modelry models` lists the models there are",
                param="model",
                code="model_not_found",
            )
        return Model(card)

    async def change(
        self, session: Session, principal: Principal, reference: str, change: Change
    ) -> Model:
        """Raises `NotFound`, `Conflict` for the name, or `PermissionDenied`."""
        row = await self._row(session, principal, reference)
        if row is None:
            model = await self.get(session, principal, reference)
            raise PermissionDenied(
                f"{model.card.id} is of the catalogue",
                hint="an operator's card in MODELRY_MODELS_DIR overrides it",
            )
        if row.user_id != principal.owner_id and not principal.operator:
            raise PermissionDenied(f"{reference} belongs to {row.user_id}")
        if change.name is not None and change.name != row.name:
            await self._require_free(session, row.user_id, change.name)
            row.name = change.name
        row.tasks = list(change.tasks or row.tasks)
        row.description = row.description if change.description is None else change.description
        row.shared = row.shared if change.shared is None else change.shared
        try:
            await session.flush()
        except IntegrityError:
            # Somebody else was quicker by a moment.
            raise _taken(change.name or reference) from None
        return _own(row)

    async def by_ids(self, session: Session, ids: Collection[str]) -> dict[str, Model]:
        """Models by their ids, whoever owns them: for services that were made from them."""
        cards = self._cards.current()
        found = {row.id: _own(row) for row in await store.models_by_ids(session, ids)}
        return {**{id_: Model(cards[id_]) for id_ in ids if id_ in cards}, **found}

    async def every(self, session: Session) -> Sequence[Model]:
        """The catalogue, and everybody's own models."""
        rows = await store.all_models(session)
        cards = self._cards.current().values()
        return [*(Model(card) for card in cards), *(_own(row) for row in rows)]

    async def delete(
        self, session: Session, principal: Principal, reference: str, uses_of: UsesOf
    ) -> Model:
        """An own model; its weights stay until somebody cleans up. Raises `NotFound`, or
        `Conflict` where services use it.
        """
        row = await store.own_model(session, principal.owner_id, reference, "change")
        if row is None:
            # One that is not there either is said not to be.
            card = (await self.get(session, principal, reference)).card
            raise Conflict(
                f"{card.id} is of the catalogue, which is not changed here",
                hint="an operator can take a card of their own out of MODELRY_MODELS_DIR",
                code="model_in_catalogue",
            )
        uses = await uses_of(session, row.id)
        if uses:
            raise Conflict(
                f"model {row.name!r} is used by {in_words(uses, principal)}",
                hint="delete what uses it first",
                code="model_in_use",
            )
        await session.delete(row)
        return _own(row)

    async def trust(
        self,
        session: Session,
        principal: Principal,
        reference: str,
        *,
        allow_pickles: bool | None,
        allow_remote_code: bool | None,
    ) -> Model:
        """Change what an own model of somebody may do; None leaves it. For operators."""
        principal.require_operator("allowing a model to run programs")
        row = await store.own_model(session, principal.owner_id, reference, "change")
        row = row or await store.model_by_id(session, reference)
        if row is None:
            card = (await self.get(session, principal, reference)).card
            raise Conflict(
                f"{card.id} is of the catalogue, which is not changed here",
                hint="its card says allow_pickles and allow_remote_code",
                code="model_in_catalogue",
            )
        if allow_pickles is not None:
            row.allow_pickles = allow_pickles
        if allow_remote_code is not None:
            row.allow_remote_code = allow_remote_code
        return _own(row)

    async def require_free(self, session: Session, principal: Principal, name: str) -> None:
        """Raises `Conflict` where the caller has, or sees, a model of that name."""
        await self._require_free(session, principal.owner_id, name)

    async def _require_free(self, session: Session, user_id: str, name: str) -> None:
        taken = await store.own_model(session, user_id, name)
        if taken is not None or name in self._cards.current():
            raise _taken(name)

    async def _row(
        self,
        session: Session,
        principal: Principal,
        reference: str,
        lock: store.RowLock | None = None,
    ) -> store.ModelRow | None:
        """The own model of that reference that the caller may see."""
        row = await store.own_model(session, principal.owner_id, reference, lock)
        if row is None:
            row = await store.model_of(session, reference, lock)
            if row is not None and not (
                row.shared or principal.operator or row.user_id == principal.owner_id
            ):
                return None
        return row

    async def register(
        self,
        session: Session,
        principal: Principal,
        name: str,
        found: Found,
        tasks: tuple[Task, ...],
        terms: Terms = Terms(),
    ) -> Model:
        """A model of the source that was `admit`ted and looked at. Raises `Conflict`."""
        await self.require_free(session, principal, name)
        row = store.ModelRow(
            id=new_id("mdl"),
            user_id=principal.owner_id,
            name=name,
            source=str(found.source),
            format=found.format,
            size_bytes=found.size_bytes,
            public_only=not principal.operator,
            allow_pickles=terms.allow_pickles,
            allow_remote_code=terms.allow_remote_code,
            copied=terms.copied,
            tasks=list(tasks),
        )
        session.add(row)
        try:
            await session.flush()
        except IntegrityError:
            raise _taken(name) from None
        return _own(row)


def roots_of(models: Sequence[Model]) -> Roots:
    """What must stay in the store for them."""
    variants = [variant for model in models for variant in model.card.variants]
    variants += [each.projector_variant for each in variants if each.projector_variant is not None]
    return Roots(
        frozenset(variant.weights_id for variant in variants),
        frozenset(variant.sha256 for variant in variants if variant.sha256 is not None),
    )


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a model {name!r} already", param="name", code="model_name_taken")


def admit(principal: Principal, text: str, terms: Terms = Terms()) -> Source:
    """The source, if the caller may name such. Raises `InvalidRequest` or `PermissionDenied`."""
    if terms.allow_pickles or terms.allow_remote_code:
        principal.require_operator("allowing a model to run programs")
    source = parse_source(text)
    if isinstance(source, UploadedFiles):
        # Whoever knows a digest would have the weights, whoever's they are.
        raise InvalidRequest(
            "source: an upload cannot be named by its address",
            hint="upload the files: modelry models upload PATH",
            param="source",
        )
    if terms.copied and not isinstance(source, LocalFile):
        raise InvalidRequest(
            "copy: only files of the control plane's machine can be copied",
            hint="leave it out: what comes from elsewhere is in the store anyway",
            param="copy",
        )
    if isinstance(source, LocalFile):
        # A path is a look into the control plane's own disk.
        principal.require_operator("a model from a file of this machine")
    if isinstance(source, BucketFiles):
        # It is read with the installation's own credentials.
        principal.require_operator("a model from a bucket")
    if isinstance(source, WebFile) and source.url.startswith("http:"):
        principal.require_operator("a model from a web server without TLS")
    return source


def _own(row: store.ModelRow) -> Model:
    card = ModelCard.model_construct(
        id=row.id,
        name=row.name,
        provider="",
        licence="",
        homepage=None,
        description=row.description or "",
        tasks=tuple(cast(list[Task], row.tasks)),
        tags=(),
        parameters=None,
        context_tokens=None,
        kv_bytes_per_token=None,
        defaults=Defaults(),
        variants=(
            Variant(
                name=OWN_VARIANT,
                format=cast(Format, row.format),
                source=row.source,
                quantisation=quantisation_of(row.source),
                public_only=row.public_only,
                allow_pickles=row.allow_pickles,
                allow_remote_code=row.allow_remote_code,
                copied=row.copied,
            ),
        ),
    )
    return Model(card, row.user_id, row.shared, row.size_bytes)
