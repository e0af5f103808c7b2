"""Looking after weights, in the management API."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.cards import Variant
from modelry.catalog.catalog import Catalog, Model, roots_of
from modelry.catalog.check_views import check_view
from modelry.catalog.checks import Checks
from modelry.catalog.endpoints import ModelView, model_view
from modelry.catalog.fetches import Fetches, in_thread
from modelry.catalog.offers import Offers
from modelry.catalog.prune import Disk, disk, prune
from modelry.catalog.upkeep import Upkeep, chosen_variant
from modelry.catalog.uses import UsesOf
from modelry.catalog.views import CheckView, DiskView, ModelDiskView, PruneView
from modelry.db import Database
from modelry.errors import Unavailable


class WhichVariant(BaseModel):
    model_config = ConfigDict(extra="forbid")

    variant: str | None = Field(None, description="Its name; the first one without it.")


class Trust(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    allow_pickles: bool | None = None
    allow_remote_code: bool | None = None


class NewPrune(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(False, description="Only say what would be removed.")


def router(
    db: Database,
    authenticator: Authenticator,
    catalog: Catalog,
    fetches: Fetches,
    offers: Offers,
    checks: Checks,
    uses_of: UsesOf,
    changed: Callable[[], None],
) -> APIRouter:
    """`changed` is called when what is wanted of weights has changed."""
    routes = APIRouter(tags=["models"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]
    upkeep = Upkeep(db, catalog, fetches, uses_of, changed)

    async def found(caller: Principal, model_id: str) -> Model:
        async with db.begin() as session:
            return await catalog.get(session, caller, model_id)

    @routes.post("/models/{model_id}/fetch", status_code=202)
    async def fetch_model(
        caller: Caller, model_id: str, body: WhichVariant | None = None
    ) -> ModelView:
        """Fetch its weights before any service needs them; once more, where that had failed."""
        model = await upkeep.fetch(caller, model_id, _named(body))
        return model_view(model, offers.offer(model), fetches, caller)

    @routes.delete("/models/{model_id}/fetch")
    async def cancel_fetch(caller: Caller, model_id: str, variant: str | None = None) -> ModelView:
        """Stop a fetch; what it has so far stays for the next one. An operator's word ends also
        what others asked for.
        """
        model = await upkeep.cancel(caller, model_id, variant)
        return model_view(model, offers.offer(model), fetches, caller)

    @routes.post("/models/{model_id}/verify", status_code=202)
    async def verify_model(
        caller: Caller, model_id: str, body: WhichVariant | None = None
    ) -> CheckView:
        """Read its weights anew, against their digests. What is damaged is moved out of the way."""
        model = await found(caller, model_id)
        if model.owner_id is None:
            caller.require_operator("verifying a model of the catalogue")
        variant = chosen_variant(model, _named(body))
        checks.begin(variant)
        return check_view(variant, checks.state(variant), [], caller)

    @routes.get("/models/{model_id}/verify")
    async def get_check(caller: Caller, model_id: str, variant: str | None = None) -> CheckView:
        """What the latest check found, or how far it is."""
        async with db.begin() as session:
            model = await catalog.get(session, caller, model_id)
            uses = await uses_of(session, model.card.id)
        chosen = chosen_variant(model, variant)
        using = [use for use in uses if use.variant == chosen.name]
        return check_view(chosen, checks.state(chosen), using, caller)

    @routes.delete("/models/{model_id}", status_code=204)
    async def delete_model(caller: Caller, model_id: str) -> Response:
        """An own model that no service uses. Its weights stay until somebody prunes."""
        await upkeep.delete(caller, model_id)
        return Response(status_code=204)

    @routes.patch("/models/{model_id}/trust")
    async def trust_model(caller: Caller, model_id: str, body: Trust) -> ModelView:
        """Allow an own model of anybody what could run programs, or no longer; for operators."""
        async with db.begin() as session:
            model = await catalog.trust(
                session,
                caller,
                model_id,
                allow_pickles=body.allow_pickles,
                allow_remote_code=body.allow_remote_code,
            )
        changed()
        return model_view(model, offers.offer(model), fetches, caller)

    @routes.get("/weights")
    async def get_disk(caller: Caller) -> DiskView:
        """What weights take on disk, of every model; for operators."""
        caller.require_operator("what weights take on disk")
        async with db.begin() as session:
            models = await catalog.every(session)
        each = [
            (model, found)
            for model in models
            for variant in model.card.variants
            for found in (variant, variant.projector_variant)
            if found is not None
        ]
        variants = [variant for _, variant in each]
        found = await in_thread("disk", lambda: disk(fetches.store, variants, roots_of(models)))
        return disk_view(each, found)

    @routes.post("/weights/prune")
    async def prune_weights(caller: Caller, body: NewPrune) -> PruneView:
        """Remove what no model names any more; for operators."""
        caller.require_operator("removing weights")
        async with db.begin() as session:
            roots = roots_of(await catalog.every(session))
        try:
            pruned = await in_thread(
                "prune", lambda: prune(fetches.store, roots, dry_run=body.dry_run)
            )
        except OSError as error:
            raise Unavailable(
                f"the store cannot be cleaned up: {error.strerror or error} ({error.filename})",
                hint="check the permissions of the data directory, then prune again",
            ) from None
        # A service made just now may lack what went: it is fetched again.
        changed()
        return PruneView(dry_run=body.dry_run, files=pruned.files, freed_bytes=pruned.freed_bytes)

    return routes


def disk_view(models: Sequence[tuple[Model, Variant]], found: Disk) -> DiskView:
    return DiskView(
        total_bytes=found.total_bytes,
        free_bytes=found.free_bytes,
        partial_bytes=found.partial_bytes,
        unused_bytes=found.unused_bytes,
        models=[
            ModelDiskView(
                model=model.card.id,
                name=model.card.name,
                owner=model.owner_id,
                variant=variant.name,
                source=variant.source,
                disk_bytes=taken_bytes,
            )
            for (model, variant), taken_bytes in zip(models, found.taken_bytes, strict=True)
            if taken_bytes
        ],
    )


def _named(which: WhichVariant | None) -> str | None:
    return None if which is None else which.variant
