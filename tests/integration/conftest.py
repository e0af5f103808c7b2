"""Gateways with their surroundings, and a whole instance that has no model to run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from modelry.routing.messages import Limits
from tests.support.data_plane import GatewayProcess, Plane, Replica, chat
from tests.support.instance import ADMIN_TOKEN, Instance, running
from tests.support.waiting import wait_for
from tests.support.wire import Wire, post

CHAT = "/v1/chat/completions"


class KeptConnection(Instance):
    """An instance whose calls share one client: making one costs more than a call."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        super().__init__(data_dir, **environment)
        self.http = httpx2.Client(timeout=60, trust_env=False)

    def api(self, method: str, path: str, **options: Any) -> httpx2.Response:
        token = options.pop("token", ADMIN_TOKEN)
        headers = options.pop("headers", {})
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return self.http.request(method, f"{self.url}/api/v1{path}", headers=headers, **options)


@pytest.fixture(scope="session")
def one_gateway() -> Iterator[Plane]:
    plane = Plane(max_body_bytes="2000000", start_wait_s="20")
    yield plane
    plane.close()


@pytest.fixture
def plane(one_gateway: Plane) -> Iterator[Plane]:
    """The shared gateway; make services, keys and replicas of your own on it."""
    yield one_gateway
    one_gateway.end_replicas()


@pytest.fixture
def make_plane() -> Iterator[Callable[..., Plane]]:
    """Makes gateways with settings of their own."""
    made: list[Plane] = []

    def make(**settings: str) -> Plane:
        made.append(Plane(**settings))
        return made[-1]

    yield make
    for plane in made:
        plane.close()


@pytest.fixture(scope="session")
def both_gateways() -> Iterator[tuple[Plane, GatewayProcess]]:
    plane = Plane(gateway_workers="2")
    other = plane.another_gateway()
    replica = plane.replica()
    path = plane.service(replica)
    for one, another in ((plane.gateway, other), (other, plane.gateway)):
        _await_sharing(plane, replica, path, one.port, another.port)
    plane.end_replicas()
    yield plane, other
    plane.close()


def _await_sharing(plane: Plane, replica: Replica, path: str, one: int, other: int) -> None:
    """A gateway looks now and then who else there is. Once it knows, a key for one request at a
    time is refused by it while the other works on one.
    """
    key = plane.key(limits=Limits(concurrency=1))
    with Wire(one) as held, Wire(other) as wire:
        held.send(post(CHAT, key, chat(path, do="hang")))
        wait_for(lambda: replica.seen()["busy"], "the request to arrive")
        request = post(CHAT, key, chat(path))
        wait_for(lambda: wire.ask(request).status == 429, "the gateways to share limits")
    wait_for(lambda: not replica.seen()["busy"], "the replica to be hung up on")


@pytest.fixture
def two_gateways(
    both_gateways: tuple[Plane, GatewayProcess],
) -> Iterator[tuple[Plane, GatewayProcess]]:
    """Two gateways on one data directory that know of each other. Leave both running."""
    yield both_gateways
    both_gateways[0].end_replicas()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A running instance for calls of the management API; it has no weights."""
    data_dir = tmp_path_factory.mktemp("api") / "data"
    instance = KeptConnection(data_dir, MODELRY_ADMIN_PASSWORD="preset-password")
    with instance.http, running(instance):
        yield instance
