"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import fresh_page, running_browser
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
def browser() -> Iterator[Browser]:
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
