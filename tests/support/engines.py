"""A look past the gateway: what a replica's engine itself is doing."""

import json
from pathlib import Path

import httpx2

from modelry.client import Json
from tests.support.instance import Instance


def record_file(instance: Instance, replica_id: str) -> Path:
    """What the executor wrote down of a replica: pid, address and secret."""
    return instance.paths.replicas / replica_id / "record.json"


def only_replica(instance: Instance, name: str) -> str:
    """The id of a service's one replica."""
    (replica,) = instance.service(name)["status"]["replicas"]
    return str(replica["id"])


def busy_slots(instance: Instance, replica_id: str) -> int:
    """How many slots the engine works on now, asked over its own socket."""
    record: Json = json.loads(record_file(instance, replica_id).read_text())
    path = record["address"].removeprefix("unix:")
    with httpx2.Client(
        transport=httpx2.HTTPTransport(uds=path), base_url="http://replica", timeout=10
    ) as engine:
        answer = engine.get("/slots", headers={"authorization": f"Bearer {record['secret']}"})
    assert answer.status_code == 200
    return sum(slot["is_processing"] for slot in answer.json())
