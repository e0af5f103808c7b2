"""`/nodes` of the management API: the hosts that replicas run on, and what runs on each."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from modelry.access.authenticator import Authenticator
from modelry.access.principal import Principal
from modelry.db import Database
from modelry.db.pages import Page, PageParams, page_of
from modelry.errors import NotFound
from modelry.executors.base import Executor, Observed
from modelry.executors.nodes import NodeReading, Nodes
from modelry.services import store


class GpuView(BaseModel):
    index: int = Field(description="As the driver counts them.")
    name: str
    memory_bytes: int
    used_memory_bytes: int | None = Field(description="Null where its driver does not say.")


class NodeReplicaView(BaseModel):
    id: str
    service_id: str
    access_path: str
    state: str
    memory_bytes: int | None
    gpus: list[int] = Field(description="The indexes of those it has.")


class NodeView(BaseModel):
    name: str
    state: Literal["ready"] = Field(description="`ready`: replicas run there.")
    cores: int = Field(description="Those that Modelry may run on.")
    cpu_percent: float = Field(description="Of the whole machine, over a moment just now.")
    memory_bytes: int = Field(description="What Modelry may use, of a container its limit.")
    used_memory_bytes: int
    disk_bytes: int = Field(description="Of the disk that the data directory lies on.")
    free_disk_bytes: int
    gpus: list[GpuView]
    replicas: list[NodeReplicaView] = Field(description="Those that the caller may see.")


def node_view(
    reading: NodeReading,
    live: list[tuple[store.ReplicaRow, store.ServiceRow]],
    observed: Mapping[str, Observed],
) -> NodeView:
    """`live`: replicas of any node, each with its service."""
    return NodeView(
        name=reading.name,
        state="ready",
        cores=reading.cores,
        cpu_percent=reading.cpu_percent,
        memory_bytes=reading.memory_bytes,
        used_memory_bytes=reading.used_memory_bytes,
        disk_bytes=reading.disk_bytes,
        free_disk_bytes=reading.free_disk_bytes,
        gpus=[
            GpuView(
                index=each.gpu.index,
                name=each.gpu.name,
                memory_bytes=each.gpu.memory_bytes,
                used_memory_bytes=each.used_bytes,
            )
            for each in reading.gpus
        ],
        replicas=[
            NodeReplicaView(
                id=replica.id,
                service_id=service.id,
                access_path=service.access_path,
                state=replica.state,
                memory_bytes=seen.memory_bytes,
                gpus=list(seen.gpus),
            )
            for replica, service in live
            # One that is about to start is on no node yet.
            if (seen := observed.get(replica.id)) is not None and seen.node == reading.name
        ],
    )


async def node_views(
    db: Database, executor: Executor, nodes: Nodes, caller: Principal
) -> list[NodeView]:
    """Every node, each with the replicas on it that the caller may see."""
    readings = await nodes.read()
    async with db.begin() as session:
        live = await store.live_replicas_with_services(
            session, None if caller.operator else caller.owner_id
        )
    observed = executor.observe()
    return [node_view(reading, live, observed) for reading in readings]


def router(
    db: Database, authenticator: Authenticator, executor: Executor, nodes: Nodes
) -> APIRouter:
    routes = APIRouter(tags=["nodes"])
    Caller = Annotated[Principal, Depends(authenticator.principal)]

    async def views(caller: Principal) -> list[NodeView]:
        return await node_views(db, executor, nodes, caller)

    @routes.get("/nodes")
    async def list_nodes(caller: Caller, query: PageParams) -> Page[NodeView]:
        """Operators see every replica, others those of their own services."""
        return page_of(await views(caller), query)

    @routes.get("/nodes/{name}")
    async def get_node(caller: Caller, name: str) -> NodeView:
        for view in await views(caller):
            if view.name == name:
                return view
        raise NotFound(
            f"there is no node {name!r}",
            hint="`modelry nodes` lists them",
            code="node_not_found",
        )

    return routes
