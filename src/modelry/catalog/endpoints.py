"""`/models` of the management API."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.convertors import Convertor, register_url_convertor

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.cards import ModelCard, Task, Variant, check_id
from modelry.catalog.catalog import DEFAULT_TASKS, Catalog, Change, Model, Terms, admit
from modelry.catalog.fetches import Absent, Fetches, FetchFailed, Fetching, WeightsState
from modelry.catalog.fit import Place, Verdict, weights_bytes
from modelry.catalog.offers import Offer, Offers, Size
from modelry.catalog.sources import LocalFile, WebFile
from modelry.catalog.views import ProgressView, progress_view
from modelry.catalog.weights import Weights
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page_of


class _OwnerId(Convertor[str]):
    """So that `/models/{owner id}/{name}` takes no other path below a model."""

    regex = "u-[0-9a-f]{12}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("owner", _OwnerId())


class NewModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(check_id)]
    source: str = Field(max_length=1000)
    tasks: tuple[Task, ...] = Field(DEFAULT_TASKS, min_length=1)
    allow_pickles: bool = Field(
        False, description="Weights in files that can run a program; operators only."
    )
    allow_remote_code: bool = Field(
        False, description="Programs of the model's own may run; operators only."
    )
    copied: bool = Field(False, alias="copy", description="Copy a file:// source into the store.")

    @property
    def terms(self) -> Terms:
        return Terms(self.allow_pickles, self.allow_remote_code, self.copied)


class FileView(BaseModel):
    name: str
    size_bytes: int
    sha256: str


class FitView(BaseModel):
    """Whether a replica fits here, before anything is fetched; see docs/guides/cards.md."""

    verdict: Verdict
    where: Place | None
    memory_bytes: int | None
    message: str


class VariantView(BaseModel):
    name: str
    format: str
    quantisation: str | None
    source: str
    projector: str | None
    size_bytes: int | None
    estimated_bytes: int | None = Field(description="About its size, where that is not known.")
    sha256: str | None
    revision: str | None = Field(description="The commit of a hub's repository, once it is here.")
    files: list[FileView] = Field(description="Where there are several, once they are here.")
    weights: Literal["absent", "fetching", "here", "failed"]
    progress: ProgressView | None = Field(description="While they are fetched.")
    message: str | None = Field(description="Why they could not be fetched, and what to do.")
    allow_pickles: bool
    allow_remote_code: bool
    copied: bool = Field(description="Files of this machine, copied into the store.")
    default: bool = Field(description="A service gets this one where it names none.")
    fit: FitView
    reason: str | None = Field(description="Why no engine here runs it.")


class ModelView(BaseModel):
    id: str
    name: str
    reference: str = Field(description="What `POST /services` takes for it from this caller.")
    provider: str | None
    licence: str | None
    homepage: str | None
    description: str | None
    tasks: tuple[str, ...]
    tags: tuple[str, ...]
    parameters: int | None
    context_tokens: int | None
    owner: str | None = Field(description="Owner id of an own model, null in the catalogue.")
    shared: bool = Field(description="Everyone here may use it.")
    deployable: bool
    reason: str | None = Field(description="Why no engine here runs it.")
    variants: list[VariantView]


_IN_WORDS: dict[type[WeightsState], Literal["absent", "fetching", "here", "failed"]] = {
    Absent: "absent",
    Fetching: "fetching",
    FetchFailed: "failed",
    Weights: "here",
}


def _text(text: str) -> str:
    """Others' terminals show it, so it has nothing that steers one."""
    if not all(letter.isprintable() or letter == "\n" for letter in text):
        raise ValueError("must be text without control characters")
    return text


class ModelChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, AfterValidator(check_id)] | None = None
    tasks: tuple[Task, ...] | None = Field(None, min_length=1)
    description: Annotated[str, AfterValidator(_text)] | None = Field(
        None, max_length=1000, description="null clears it."
    )
    shared: bool | None = Field(None, description="Whether everyone here may use it.")

    def change(self) -> Change:
        cleared = "description" in self.model_fields_set and self.description is None
        return Change(
            name=self.name,
            tasks=self.tasks,
            description="" if cleared else self.description,
            shared=self.shared,
        )


class SizeQuery(BaseModel):
    """What the estimates are made for."""

    context_tokens: int | None = Field(None, ge=64, le=10_000_000)
    slots: int | None = Field(None, ge=1, le=4096)


class ProblemView(BaseModel):
    file: str
    message: str


def _variant_view(
    variant: Variant, model: Model, offer: Offer, fetches: Fetches, *, trusted: bool
) -> VariantView:
    state = fetches.state(variant)
    weights = state if isinstance(state, Weights) else None
    size_bytes = weights.size_bytes if weights else variant.size_bytes or model.size_bytes
    return VariantView(
        name=variant.name,
        format=variant.format,
        quantisation=variant.quantisation,
        source=variant.source if trusted else _told(variant),
        projector=variant.projector,
        size_bytes=size_bytes,
        estimated_bytes=weights_bytes(model.card, variant) if size_bytes is None else None,
        sha256=variant.sha256 if weights is None else weights.sha256,
        revision=None if weights is None else weights.revision,
        files=[
            FileView(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in (() if weights is None else weights.files)
        ],
        default=variant is offer.variant,
        fit=FitView(**vars(offer.fits[variant.name])),
        reason=offer.refusals.get(variant.name),
        weights=_IN_WORDS[type(state)],
        progress=progress_view(state) if isinstance(state, Fetching) else None,
        message=state.in_words if isinstance(state, FetchFailed) else None,
        allow_pickles=variant.allow_pickles,
        allow_remote_code=variant.allow_remote_code,
        copied=variant.copied,
    )


def _told(variant: Variant) -> str:
    """The source without what its owner alone may know: paths of a disk, tokens in a query."""
    match variant.parsed_source:
        case LocalFile():
            return f"file:///…/{variant.source.rpartition('/')[2]}"
        case WebFile(url):
            return url.partition("?")[0]
        case _:
            return variant.source


def model_view(model: Model, offer: Offer, fetches: Fetches, caller: Principal) -> ModelView:
    card: ModelCard = model.card
    trusted = caller.operator or model.owner_id in (None, caller.owner_id)
    return ModelView(
        id=card.id,
        name=card.name,
        reference=model.reference(caller.owner_id),
        provider=card.provider or None,
        licence=card.licence or None,
        homepage=card.homepage,
        description=card.description or None,
        tasks=card.tasks,
        tags=card.tags,
        parameters=card.parameters,
        context_tokens=card.context_tokens,
        owner=model.owner_id,
        shared=model.shared,
        deployable=offer.refusal is None,
        reason=offer.refusal,
        variants=[
            _variant_view(variant, model, offer, fetches, trusted=trusted)
            for variant in card.variants
        ],
    )


async def register(
    db: Database, catalog: Catalog, fetches: Fetches, caller: Principal, body: NewModel
) -> Model:
    """A new model of the caller's, once its source has been looked at. Raises `ModelryError`."""
    source = admit(caller, body.source, body.terms)
    async with db.begin() as session:
        await catalog.require_free(session, caller, body.name)
    # It may ask a hub, so there is no transaction meanwhile.
    found = await fetches.look(source, body.terms.allowed)
    async with db.begin() as session:
        return await catalog.register(session, caller, body.name, found, body.tasks, body.terms)


def router(
    db: Database, authenticator: Authenticator, catalog: Catalog, fetches: Fetches, offers: Offers
) -> APIRouter:
    routes = APIRouter(tags=["models"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    def view(caller: Principal, model: Model, size: SizeQuery = SizeQuery()) -> ModelView:  # noqa: B008
        offer = offers.offer(model, Size(size.context_tokens, size.slots))
        return model_view(model, offer, fetches, caller)

    @routes.get("/models")
    async def list_models(caller: Caller, query: PageParams) -> Page[ModelView]:
        async with db.begin() as session:
            models = await catalog.list(session, caller)
        found = page_of(models, query)
        return Page(data=[view(caller, model) for model in found.data], next=found.next)

    @routes.post("/models", status_code=201)
    async def create_model(caller: Caller, body: NewModel) -> ModelView:
        return view(caller, await register(db, catalog, fetches, caller, body))

    @routes.get("/models/{model_id}")
    async def get_model(
        caller: Caller, model_id: str, size: Annotated[SizeQuery, Query()]
    ) -> ModelView:
        """`model_id`: an id, or an own name. A name of others' is `{owner_id}/{name}`."""
        async with db.begin() as session:
            model = await catalog.get(session, caller, model_id)
        return view(caller, model, size)

    @routes.patch("/models/{model_id}")
    async def update_model(caller: Caller, model_id: str, body: ModelChanges) -> ModelView:
        async with db.begin() as session:
            model = await catalog.change(session, caller, model_id, body.change())
        return view(caller, model)

    @routes.get("/models/{owner_id:owner}/{name}")
    async def get_shared_model(
        caller: Caller, owner_id: str, name: str, size: Annotated[SizeQuery, Query()]
    ) -> ModelView:
        return await get_model(caller, f"{owner_id}/{name}", size)

    @routes.get("/catalog/problems")
    async def list_problems(caller: Caller, query: PageParams) -> Page[ProblemView]:
        """Cards of the operator's folder that cannot be used as they are."""
        caller.require_operator("a look at the cards' faults")
        catalog.cards.current()
        return page_of([ProblemView(**vars(each)) for each in catalog.cards.problems], query)

    return routes
