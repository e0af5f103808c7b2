"""A cross-encoder as people bring it: a folder, converted, and asked for an order."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from modelry.client import Json
from tests.slow.conftest import running
from tests.support.instance import Instance

pytestmark = pytest.mark.timeout(3600)

MINILM = "all-minilm-l6-v2"


class Told(msgspec.Struct):
    """What `scripts/make_reranker.py` wrote down of a query: PyTorch's scores of its documents."""

    query: str
    documents: list[str]
    scores: list[float]


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance]) -> Instance:
    started = make_slow_instance().start()
    # Its weights are what the reranker is made of, and the runtime that converts it makes it.
    running(started, "minilm", model=MINILM)
    return started


@pytest.fixture(scope="module")
def service(instance: Instance, reranker: Path) -> Json:
    source = reranker.as_uri()
    body = {"name": "ranker", "source": source, "tasks": ["rerank"]}
    made = instance.api("POST", "/models", json=body)
    assert made.status_code == 201, made.text
    return running(instance, "ranker", model="ranker", context_tokens=256)


@pytest.fixture(scope="module")
def told(reranker: Path) -> list[Told]:
    return msgspec.json.decode((reranker / "scores.json").read_bytes(), type=list[Told])


def rank(instance: Instance, key: str, **body: Any) -> Any:
    answer = httpx2.post(
        f"{instance.url}/v1/rerank",
        json={"model": "ranker", **body},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_scores_are_those_of_pytorch_and_the_best_comes_first(
    instance: Instance, service: Json, told: list[Told]
) -> None:
    key = instance.key()
    for each in told:
        answer = rank(instance, key, query=each.query, documents=each.documents)
        found = {result["index"]: result["relevance_score"] for result in answer["results"]}
        for at, score in enumerate(each.scores):
            assert found[at] == pytest.approx(1 / (1 + math.exp(-score)), abs=0.01)
        order = sorted(range(len(each.scores)), key=lambda at: -each.scores[at])
        assert [result["index"] for result in answer["results"]] == order
        assert answer["usage"]["total_tokens"] > 20


def test_a_document_that_answers_is_above_those_that_do_not(
    instance: Instance, service: Json, told: list[Told]
) -> None:
    key = instance.key()
    for each in told:
        answer = rank(instance, key, query=each.query, documents=each.documents, top_n=1)
        [best] = answer["results"]
        assert set(best) == {"index", "relevance_score"}
        # By the script, the first of a query's documents is the one that answers.
        assert best["index"] == 0


def test_a_long_list_comes_back_whole_and_in_order(instance: Instance, service: Json) -> None:
    documents = [f"Number {at} is a number." for at in range(200)]
    answer = rank(instance, instance.key(), query="a number", documents=documents, top_n=500)
    scores = [each["relevance_score"] for each in answer["results"]]
    assert sorted(each["index"] for each in answer["results"]) == list(range(200))
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_document_that_is_too_long_is_refused_and_harms_nothing(
    instance: Instance, service: Json
) -> None:
    key = instance.key()
    answer = httpx2.post(
        f"{instance.url}/v1/rerank",
        json={"model": "ranker", "query": "q", "documents": ["a", "word " * 1000]},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "256" in answer.json()["error"]["message"]
    assert rank(instance, key, query="q", documents=["a"])["results"]
