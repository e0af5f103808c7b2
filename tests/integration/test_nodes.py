"""What a node shows: this machine as it is, and its replicas to who may see them."""

import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from modelry.access.store import UserRow
from modelry.db import Database
from modelry.engines.base import Endpoint
from modelry.executors.base import Observed, ProcessState
from modelry.executors.nodes import NodeReading
from modelry.services import store
from modelry.services.node_endpoints import NodeView, node_view
from modelry.services.states import ReplicaState
from tests.support.databases import KINDS, Play, empty_database, play
from tests.support.instance import Instance

MINE, THEIRS = "u-000000000001", "u-000000000002"
HERE, THERE = "here", "there"
MOVING = ("cpu_percent", "used_memory_bytes", "free_disk_bytes")
"""What a node tells anew each time."""


@pytest.fixture(params=KINDS)
def on(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    return partial(play, empty_database(request, request.param, "nodes", tmp_path))


def seen(replica_id: str, node: str = HERE, gpus: tuple[int, ...] = ()) -> Observed:
    endpoint = Endpoint("unix:/x", "secret")
    return Observed(replica_id, ProcessState.READY, node, endpoint, memory_bytes=7, gpus=gpus)


def reading(name: str) -> NodeReading:
    return NodeReading(
        name=name,
        cores=2,
        cpu_percent=1.5,
        memory_bytes=4,
        used_memory_bytes=3,
        disk_bytes=2,
        free_disk_bytes=1,
    )


async def add(db: Database, owner: str, name: str, **replicas: ReplicaState) -> None:
    async with db.begin() as session:
        if await session.scalar(select(UserRow.id).where(UserRow.id == owner)) is None:
            session.add(UserRow(id=owner, name=owner, operator=owner == MINE))
            await session.flush()
        service = store.ServiceRow(
            id=f"svc_{name}",
            owner_id=owner,
            name=name,
            tasks=["chat"],
            want="run",
            since=store.now(),
            state="running",
            message="",
        )
        session.add(service)
        await session.flush()
        for id_, state in replicas.items():
            session.add(
                store.ReplicaRow(id=id_, service_id=service.id, revision=1, state=str(state))
            )


async def shown(db: Database, owner: str | None, observed: Mapping[str, Observed]) -> NodeView:
    async with db.begin() as session:
        live = await store.live_replicas_with_services(session, owner)
        return node_view(reading(HERE), live, observed)


def test_replicas_that_run_there_are_shown_with_their_service(on: Play) -> None:
    async def story(db: Database) -> None:
        await add(
            db,
            MINE,
            "chat",
            ready=ReplicaState.READY,
            draining=ReplicaState.DRAINING,
            failed=ReplicaState.FAILED,
            stopped=ReplicaState.STOPPED,
            coming=ReplicaState.STARTING,
            elsewhere=ReplicaState.READY,
        )
        ids = ("ready", "draining", "failed", "stopped")
        observed = {id_: seen(id_) for id_ in ids} | {"elsewhere": seen("elsewhere", THERE)}
        observed["ready"] = seen("ready", gpus=(0, 2))
        node = await shown(db, None, observed)
        assert [(each.id, each.state) for each in node.replicas] == [
            ("ready", "ready"),
            ("draining", "draining"),
        ]
        assert node.replicas[0].model_dump() == {
            "id": "ready",
            "service_id": "svc_chat",
            "access_path": f"{MINE}/chat",
            "state": "ready",
            "memory_bytes": 7,
            "gpus": [0, 2],
        }

    on(story)


def test_others_see_those_of_their_own_services_alone(on: Play) -> None:
    async def story(db: Database) -> None:
        await add(db, MINE, "mine", one=ReplicaState.READY)
        await add(db, THEIRS, "theirs", two=ReplicaState.READY)
        observed = {id_: seen(id_) for id_ in ("one", "two")}
        whole = await shown(db, None, observed)
        own = await shown(db, THEIRS, observed)
        assert [each.id for each in whole.replicas] == ["one", "two"]
        assert [each.access_path for each in own.replicas] == [f"{THEIRS}/theirs"]

    on(story)


def test_this_machine_is_the_one_node(api: Instance) -> None:
    (node,) = api.api("GET", "/nodes").json()["data"]
    assert node["name"] == socket.gethostname()
    assert node["state"] == "ready"
    assert 1 <= node["cores"] <= (psutil.cpu_count() or 1)
    assert 0 <= node["cpu_percent"] <= 100
    assert 0 < node["used_memory_bytes"] <= node["memory_bytes"]
    assert 0 < node["free_disk_bytes"] <= node["disk_bytes"]
    assert node["disk_bytes"] == psutil.disk_usage(str(api.paths.data)).total
    one = api.api("GET", f"/nodes/{node['name']}").json()
    assert {**one, **dict.fromkeys(MOVING)} == {**node, **dict.fromkeys(MOVING)}
