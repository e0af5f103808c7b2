"""Fixtures of the fault tests."""

from tests.support.fixtures import weights_wheel as weights_wheel
