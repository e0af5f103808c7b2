"""The same product on PostgreSQL."""

from collections.abc import Callable

import pytest
from openai import AuthenticationError

from tests.support.calls import ask, await_serving
from tests.support.instance import Instance
from tests.support.postgres import Postgres
from tests.support.waiting import wait_for


def test_an_instance_lives_on_postgresql(
    make_instance: Callable[..., Instance], postgres: Postgres
) -> None:
    url = postgres.make_database("whole_life")
    instance = make_instance(MODELRY_DATABASE_URL=url).start()
    path = instance.deploy("first")["access_path"]
    key = instance.key("kept")
    spare = instance.key("revoked")
    assert ask(instance, key, path)
    assert instance.stop() == 0
    assert instance.engine_pids() == []
    assert not instance.paths.database.exists()

    instance.start()
    await_serving(instance, key, path)
    instance.await_state("first", "running")
    keys = {row["name"]: row for row in instance.api("GET", "/keys").json()["data"]}
    wait_for(lambda: used(instance, "kept"), "the key's use to be noted")
    assert instance.api("DELETE", f"/keys/{keys['revoked']['id']}").status_code == 204
    with instance.openai(spare) as client, pytest.raises(AuthenticationError):
        client.models.list()
    events = [row["state"] for row in instance.api("GET", "/services/first/events").json()["data"]]
    assert "running" in events

    assert instance.api("POST", "/services/first/stop").json()["status"]["state"] == "stopped"
    wait_for(lambda: not instance.engine_pids(), "the replica to end")
    assert instance.api("DELETE", "/services/first").status_code == 202
    wait_for(
        lambda: instance.api("GET", "/services/first").status_code == 404,
        "the service to be gone",
    )


def used(instance: Instance, name: str) -> bool:
    rows = instance.api("GET", "/keys").json()["data"]
    return any(row["name"] == name and row["last_used_at"] for row in rows)
