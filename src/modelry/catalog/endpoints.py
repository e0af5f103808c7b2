"""`/models` of the management API."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.cards import ModelCard, Task, Variant, check_id
from modelry.catalog.catalog import DEFAULT_TASKS, Catalog, Model, Terms, admit
from modelry.catalog.fetches import Absent, Fetches, FetchFailed, Fetching, WeightsState
from modelry.catalog.views import ProgressView, progress_view
from modelry.catalog.weights import Weights
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page_of


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


class VariantView(BaseModel):
    name: str
    format: str
    source: str
    size_bytes: int | None
    sha256: str | None
    revision: str | None = Field(description="The commit of a hub's repository, once it is here.")
    files: list[FileView] = Field(description="Where there are several, once they are here.")
    weights: Literal["absent", "fetching", "here", "failed"]
    progress: ProgressView | None = Field(description="While they are fetched.")
    message: str | None = Field(description="Why they could not be fetched, and what to do.")
    allow_pickles: bool
    allow_remote_code: bool
    copied: bool = Field(description="Files of this machine, copied into the store.")


class ModelView(BaseModel):
    id: str
    name: str
    provider: str | None
    licence: str | None
    homepage: str | None
    description: str | None
    tasks: tuple[str, ...]
    parameters: int | None
    context_tokens: int | None
    owner: str | None = Field(description="Owner id of an own model, null in the catalogue.")
    variants: list[VariantView]


_IN_WORDS: dict[type[WeightsState], Literal["absent", "fetching", "here", "failed"]] = {
    Absent: "absent",
    Fetching: "fetching",
    FetchFailed: "failed",
    Weights: "here",
}


def _variant_view(variant: Variant, fetches: Fetches) -> VariantView:
    state = fetches.state(variant)
    return VariantView(
        name=variant.name,
        format=variant.format,
        source=variant.source,
        size_bytes=state.size_bytes if isinstance(state, Weights) else variant.size_bytes,
        sha256=state.sha256 if isinstance(state, Weights) else variant.sha256,
        revision=state.revision if isinstance(state, Weights) else None,
        files=[
            FileView(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in (state.files if isinstance(state, Weights) else ())
        ],
        weights=_IN_WORDS[type(state)],
        progress=progress_view(state) if isinstance(state, Fetching) else None,
        message=state.in_words if isinstance(state, FetchFailed) else None,
        allow_pickles=variant.allow_pickles,
        allow_remote_code=variant.allow_remote_code,
        copied=variant.copied,
    )


def model_view(model: Model, fetches: Fetches) -> ModelView:
    card: ModelCard = model.card
    return ModelView(
        id=card.id,
        name=card.name,
        provider=card.provider or None,
        licence=card.licence or None,
        homepage=card.homepage,
        description=card.description or None,
        tasks=card.tasks,
        parameters=card.parameters,
        context_tokens=card.context_tokens,
        owner=model.owner_id,
        variants=[_variant_view(variant, fetches) for variant in card.variants],
    )


def router(
    db: Database, authenticator: Authenticator, catalog: Catalog, fetches: Fetches
) -> APIRouter:
    routes = APIRouter(tags=["models"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    @routes.get("/models")
    async def list_models(caller: Caller, query: PageParams) -> Page[ModelView]:
        async with db.begin() as session:
            models = await catalog.list(session, caller)
        return page_of([model_view(model, fetches) for model in models], query)

    @routes.post("/models", status_code=201)
    async def create_model(caller: Caller, body: NewModel) -> ModelView:
        source = admit(caller, body.source, body.terms)
        async with db.begin() as session:
            await catalog.require_free(session, caller, body.name)
        # It may ask a hub, so there is no transaction meanwhile.
        found = await fetches.look(source, body.terms.allowed)
        async with db.begin() as session:
            model = await catalog.register(
                session, caller, body.name, found, body.tasks, body.terms
            )
        return model_view(model, fetches)

    @routes.get("/models/{model_id}")
    async def get_model(caller: Caller, model_id: str) -> ModelView:
        async with db.begin() as session:
            model = await catalog.get(session, caller, model_id)
        return model_view(model, fetches)

    return routes
