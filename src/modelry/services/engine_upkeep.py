"""The engines of this installation and their runtimes: which there are, what uses each, installing
and removing one.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from modelry.access.principal import Principal
from modelry.catalog.choice import Machine
from modelry.db import Database, Session
from modelry.engines.installer import Installed, InstallFailed, Installing, Runtimes
from modelry.engines.runtimes import default_runtime
from modelry.errors import Conflict, NotFound
from modelry.services import store
from modelry.services.spec import ServiceSpec

State = Literal["embedded", "absent", "installing", "installed", "failed"]
_STATES: dict[type, State] = {
    Installing: "installing",
    InstallFailed: "failed",
    Installed: "installed",
}


class InstallProgress(BaseModel):
    """Of what is downloaded, as far as that is known."""

    done_bytes: int
    total_bytes: int


class EngineView(BaseModel):
    id: str = Field(description="An engine's name where it is embedded, otherwise a runtime's id.")
    engine: str
    version: str | None = Field(description="Null of an embedded engine: it is Modelry's own.")
    flavour: str | None = Field(description="`cpu` or `cuda`.")
    default: bool = Field(description="What a new service of that engine gets.")
    state: State
    message: str | None = Field(description="What is done, or why it failed.")
    hint: str | None = Field(description="What may help, of one that failed.")
    progress: InstallProgress | None = Field(description="Of one that is `installing`.")
    size_bytes: int | None
    installed_at: datetime | None
    services: int = Field(description="How many services are pinned to it.")


class EngineUpkeep:
    def __init__(self, db: Database, machine: Machine, runtimes: Runtimes) -> None:
        self._db = db
        self._machine = machine
        self._runtimes = runtimes

    async def views(self) -> list[EngineView]:
        """The embedded engines, then each runtime that is known or here."""
        used = await self.users()
        embedded = [
            EngineView(
                id=engine.name,
                engine=engine.name,
                version=None,
                flavour=None,
                default=True,
                state="embedded",
                message=None,
                hint=None,
                progress=None,
                size_bytes=None,
                installed_at=None,
                services=len(used.get(engine.name, ())),
            )
            for engine in self._machine.engines.values()
            if engine.embedded
        ]
        ids = dict.fromkeys([*self._runtimes.known, *self._runtimes.here()])
        return [*embedded, *(self._view(id_, used) for id_ in ids)]

    async def users(self) -> dict[str, list[store.ServiceRow]]:
        """The services of each engine or runtime that has any."""
        async with self._db.begin() as session:
            return await _users(session)

    async def install(self, caller: Principal, runtime_id: str) -> EngineView:
        """Begin it; the list tells how far it is."""
        caller.require_operator("installing a runtime")
        if self._named(runtime_id) not in self._runtimes.known:
            raise Conflict(f"this version of Modelry cannot install {runtime_id}")
        self._runtimes.forget_failure(runtime_id)
        self._runtimes.ensure(runtime_id)
        return self._view(runtime_id, await self.users())

    async def remove(self, caller: Principal, runtime_id: str) -> EngineView:
        """Stop its installation, if that is under way, and delete its environment."""
        caller.require_operator("removing a runtime")
        used = await self.users()
        if services := used.get(self._named(runtime_id)):
            raise Conflict(
                f"{runtime_id} is in use, by services: {len(services)}",
                hint="delete them first, or let them use another",
                code="runtime_in_use",
            )
        await self._runtimes.remove(runtime_id)
        return self._view(runtime_id, used)

    def _view(self, runtime_id: str, used: dict[str, list[store.ServiceRow]]) -> EngineView:
        state = self._runtimes.state(runtime_id)
        runtime = self._runtimes.known.get(runtime_id)
        engine = runtime_id if runtime is None else runtime.engine
        default = default_runtime(self._runtimes.known.values(), engine, self._machine.inventory)
        installed = state if isinstance(state, Installed) else None
        return EngineView(
            id=runtime_id,
            engine=engine,
            version=None if runtime is None else runtime.version,
            flavour=None if runtime is None else runtime.flavour,
            default=runtime is not None and runtime == default,
            state=_STATES.get(type(state), "absent"),
            message=state.message if isinstance(state, Installing | InstallFailed) else None,
            hint=state.hint if isinstance(state, InstallFailed) else None,
            progress=InstallProgress(done_bytes=state.done_bytes, total_bytes=state.total_bytes)
            if isinstance(state, Installing)
            else None,
            size_bytes=None if installed is None else installed.size_bytes,
            installed_at=None if installed is None else installed.installed_at,
            services=len(used.get(runtime_id, ())),
        )

    def _named(self, runtime_id: str) -> str:
        if runtime_id not in self._runtimes.known and runtime_id not in self._runtimes.here():
            hint = "`modelry engines list` lists them"
            engine = self._machine.engines.get(runtime_id)
            if engine is not None and engine.embedded:
                hint = f"{runtime_id} is embedded: it comes with Modelry"
            raise NotFound(f"there is no runtime {runtime_id!r}", hint=hint)
        return runtime_id


async def _users(session: Session) -> dict[str, list[store.ServiceRow]]:
    """Those of revisions that still serve are in use as well."""
    rows, current = await store.services_with_specs(session)
    specs = [*current.items()]
    specs += [(id_, spec) for (id_, _), spec in (await store.live_specs(session)).items()]
    users: dict[str, set[str]] = {}
    for service_id, spec in specs:
        if isinstance(spec, ServiceSpec):
            for id_ in {spec.runtime or spec.engine, spec.gguf_converter} - {None}:
                users.setdefault(str(id_), set()).add(service_id)
    return {
        id_: [row for row in rows.values() if row.id in services] for id_, services in users.items()
    }
