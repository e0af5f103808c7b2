"""`/engines` of the management API: the engines, and the runtimes that are installed of them."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.catalog.choice import Machine
from modelry.db import Database, Session
from modelry.db.pages import Page
from modelry.engines.installer import Installed, InstallFailed, Installing, Runtimes
from modelry.engines.runtimes import default_runtime
from modelry.errors import Conflict, NotFound
from modelry.services import store
from modelry.services.spec import ServiceSpec

State = Literal["embedded", "absent", "installing", "installed", "failed"]


class EngineView(BaseModel):
    id: str = Field(description="An engine's name where it is embedded, otherwise a runtime's id.")
    engine: str
    version: str | None = Field(description="Null of an embedded engine: it is Modelry's own.")
    flavour: str | None = Field(description="`cpu` or `cuda`.")
    default: bool = Field(description="What a new service of that engine gets.")
    state: State
    message: str | None = Field(description="What is done, or why it failed.")
    size_bytes: int | None
    installed_at: datetime | None
    services: int = Field(description="How many services are pinned to it.")


def router(
    db: Database, authenticator: Authenticator, machine: Machine, runtimes: Runtimes
) -> APIRouter:
    routes = APIRouter(tags=["engines"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    async def users(session: Session) -> dict[str, int]:
        """How many services each engine or runtime has, also by revisions that still serve."""
        specs = [*(await store.current_specs(session)).items()]
        specs += [(id_, spec) for (id_, _), spec in (await store.live_specs(session)).items()]
        found: dict[str, set[str]] = {}
        for service_id, spec in specs:
            if isinstance(spec, ServiceSpec):
                for id_ in {spec.runtime or spec.engine, spec.gguf_converter} - {None}:
                    found.setdefault(str(id_), set()).add(service_id)
        return {id_: len(services) for id_, services in found.items()}

    def view(runtime_id: str, used: dict[str, int]) -> EngineView:
        state = runtimes.state(runtime_id)
        runtime = runtimes.known.get(runtime_id)
        engine = runtime_id if runtime is None else runtime.engine
        default = default_runtime(runtimes.known.values(), engine, machine.inventory)
        installed = state if isinstance(state, Installed) else None
        return EngineView(
            id=runtime_id,
            engine=engine,
            version=None if runtime is None else runtime.version,
            flavour=None if runtime is None else runtime.flavour,
            default=runtime is not None and runtime == default,
            state=_STATES.get(type(state), "absent"),
            message=state.message if isinstance(state, Installing | InstallFailed) else None,
            size_bytes=None if installed is None else installed.size_bytes,
            installed_at=None if installed is None else installed.installed_at,
            services=used.get(runtime_id, 0),
        )

    def known(runtime_id: str) -> str:
        if runtime_id not in runtimes.known and runtime_id not in runtimes.here():
            hint = "`modelry engines list` lists them"
            if runtime_id in machine.engines and machine.engines[runtime_id].embedded:
                hint = f"{runtime_id} is embedded: it comes with Modelry"
            raise NotFound(f"there is no runtime {runtime_id!r}", hint=hint)
        return runtime_id

    @routes.get("/engines")
    async def list_engines(caller: Caller) -> Page[EngineView]:
        async with db.begin() as session:
            used = await users(session)
        embedded = [
            EngineView(
                id=engine.name,
                engine=engine.name,
                version=None,
                flavour=None,
                default=True,
                state="embedded",
                message=None,
                size_bytes=None,
                installed_at=None,
                services=used.get(engine.name, 0),
            )
            for engine in machine.engines.values()
            if engine.embedded
        ]
        ids = list(dict.fromkeys([*runtimes.known, *runtimes.here()]))
        return Page(data=[*embedded, *(view(id_, used) for id_ in ids)])

    @routes.post("/engines/{runtime_id}/install", status_code=202)
    async def install_runtime(caller: Caller, runtime_id: str) -> EngineView:
        """Begins it; `GET /engines` tells how far it is."""
        caller.require_operator("installing a runtime")
        if known(runtime_id) not in runtimes.known:
            raise Conflict(f"this version of Modelry cannot install {runtime_id}")
        runtimes.forget_failure(runtime_id)
        runtimes.ensure(runtime_id)
        async with db.begin() as session:
            return view(runtime_id, await users(session))

    @routes.delete("/engines/{runtime_id}", status_code=202)
    async def remove_runtime(caller: Caller, runtime_id: str) -> EngineView:
        """Stops its installation, if that is under way, and deletes its environment."""
        caller.require_operator("removing a runtime")
        known(runtime_id)
        async with db.begin() as session:
            used = await users(session)
        if used.get(runtime_id):
            raise Conflict(
                f"{runtime_id} is in use, by services: {used[runtime_id]}",
                hint="delete them first, or let them use another",
                code="runtime_in_use",
            )
        await runtimes.remove(runtime_id)
        return view(runtime_id, used)

    return routes


_STATES: dict[type, State] = {
    Installing: "installing",
    InstallFailed: "failed",
    Installed: "installed",
}
