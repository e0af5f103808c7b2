"""Fixtures of the end-to-end tests."""

from pathlib import Path

import pytest

from tests.support.fixtures import weights_wheel as weights_wheel
from tests.support.instance import Instance
from tests.support.node import Node, install_node


@pytest.fixture(scope="session")
def demo_key(shared: Instance) -> str:
    """A key for every service of the shared instance."""
    return shared.key("end to end")


@pytest.fixture(scope="session")
def demo_path(shared: Instance) -> str:
    """The access path of the shared instance's service."""
    return str(shared.service("demo")["access_path"])


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    assert request.config.cache is not None
    return install_node(Path(request.config.cache.mkdir("node")))
