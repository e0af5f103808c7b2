"""Fixtures for every kind of test: fresh instances, and one that tests share."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.instance import MODEL, Instance, end, running, share_weights
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def weights_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's weights, fetched as a newcomer's would be, once a checkout."""
    assert request.config.cache is not None
    cache = Path(request.config.cache.mkdir("weights"))
    if not any(cache.glob("blobs/*")):
        with running(Instance(tmp_path_factory.mktemp("fetch") / "data")) as instance:
            instance.deploy("first")
        shutil.copytree(instance.paths.weights, cache, dirs_exist_ok=True)
    return cache


@pytest.fixture
def make_instance(weights_cache: Path, tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Makes instances that are not started yet, on data directories of their own."""
    made: list[Instance] = []

    def make(**environment: str) -> Instance:
        data_dir = tmp_path / f"data-{len(made)}"
        share_weights(weights_cache, data_dir)
        instance = Instance(data_dir, **environment)
        made.append(instance)
        return instance

    yield make
    for instance in made:
        end(instance)


@pytest.fixture(scope="session")
def shared(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One running instance with the real model as service `demo`. Leave it as you found it."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    share_weights(weights_cache, data_dir)
    with running(Instance(data_dir)) as instance:
        instance.deploy("demo", MODEL)
        yield instance


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server
