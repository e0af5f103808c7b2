"""Fixtures of the fault tests."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.data_plane import Plane
from tests.support.fixtures import weights_wheel as weights_wheel
from tests.support.hurried_gateway import hurried
from tests.support.leaks import nothing_leaks, warm


@pytest.fixture(scope="session")
def one_gateway() -> Iterator[Plane]:
    plane = Plane(hurried())
    warm(plane)
    yield plane
    plane.close()


@pytest.fixture
def plane(one_gateway: Plane) -> Iterator[Plane]:
    """A gateway that outlives the test, which must leave nothing behind in it.

    It tells what there is to tell ten times a second.
    """
    with nothing_leaks(one_gateway):
        yield one_gateway


@pytest.fixture
def make_plane() -> Iterator[Callable[..., Plane]]:
    """Makes gateways with settings of their own."""
    made: list[Plane] = []

    def make(**settings: str) -> Plane:
        made.append(Plane(hurried(), **settings))
        warm(made[-1])
        return made[-1]

    yield make
    for plane in made:
        plane.close()
