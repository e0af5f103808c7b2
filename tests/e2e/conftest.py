"""Fixtures of the end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import fresh_page, running_browser
from tests.support.data_plane import Replica
from tests.support.fixtures import weights_wheel as weights_wheel
from tests.support.instance import Instance
from tests.support.node import Node, install_node
from tests.support.playground import enter


@pytest.fixture(scope="session")
def demo_key(shared: Instance) -> str:
    """A key for every service of the shared instance."""
    return shared.key("end to end")


@pytest.fixture(scope="session")
def demo_path(shared: Instance) -> str:
    """The access path of the shared instance's service."""
    return str(shared.service("demo")["access_path"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module alone: as long as it is there, no other event loop can run."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with fresh_page(browser) as page:
        yield page


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    assert request.config.cache is not None
    return install_node(Path(request.config.cache.mkdir("node")))


@pytest.fixture
def signed_in(page: Page, shared: Instance) -> Page:
    return enter(page, shared)


@pytest.fixture
def played(
    shared: Instance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[str, Replica]]]:
    """Services on a fake engine of its own each; `do` is what it does with every request."""
    made: list[tuple[str, Replica]] = []

    def make(task: str, name: str = "", **do: Any) -> tuple[str, Replica]:
        replica = Replica(tmp_path_factory.mktemp("played"), tcp=True, default=do)
        port = replica.address.address.rpartition(":")[2]
        endpoint = {"url": f"http://127.0.0.1:{port}/v1", "api_key": replica.secret}
        name = name or f"played-{task}"
        made.append((name, replica))
        with shared.client() as client:
            client.post("/services", {"name": name, "endpoint": endpoint, "tasks": [task]})
        return name, replica

    yield make
    for name, replica in made:
        with shared.client() as client:
            client.delete(f"/services/{name}")
        replica.close()
