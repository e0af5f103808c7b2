"""Two hundred calls that have to come, and two hundred answers by a schema: all valid."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI

from tests.support.instance import Instance
from tests.support.structured_answers import (
    Came,
    Way,
    call_of,
    is_valid_call,
    is_valid_json,
    json_of,
    ways,
)
from tests.support.structured_asks import ASKS, Ask

pytestmark = pytest.mark.timeout(3600)

SLOTS = 4
ROUNDS = 10


def wrong(
    openai: OpenAI,
    model: str,
    get: Callable[[OpenAI, str, Ask, Way], Came],
    is_valid: Callable[[Ask, Came], bool],
) -> list[tuple[str, Way, Came]]:
    jobs = [(ask, way) for way in ways(ROUNDS) for ask in ASKS]
    assert len(jobs) == 200
    with ThreadPoolExecutor(SLOTS) as threads:
        found = list(threads.map(lambda job: get(openai, model, *job), jobs))
    return [
        (ask.name, way, came)
        for (ask, way), came in zip(jobs, found, strict=True)
        if not is_valid(ask, came)
    ]


def test_two_hundred_calls_are_valid(shared: Instance, key: str, path: str) -> None:
    with shared.openai(key, timeout=900) as openai:
        assert wrong(openai, path, call_of, is_valid_call) == []


def test_two_hundred_answers_are_valid(shared: Instance, key: str, path: str) -> None:
    with shared.openai(key, timeout=900) as openai:
        assert wrong(openai, path, json_of, is_valid_json) == []


@pytest.fixture(scope="module")
def key(shared: Instance) -> str:
    return shared.key("structured")


@pytest.fixture(scope="module")
def path(shared: Instance) -> str:
    return str(shared.service("demo")["access_path"])
