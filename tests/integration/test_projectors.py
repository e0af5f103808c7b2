"""Projectors as files: fetched with their model's weights, kept, shown, and carried in bundles."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, running
from tests.support.picture_server import PictureServer, answer
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf

CARD = """
id: sees
name: Sees
provider: tests
licence: MIT
description: A model and its projector.
tasks: [chat]
tags: [vision]
variants:
  - name: only
    format: gguf
    source: {base}/sees.gguf
    projector: {base}/mmproj.gguf
"""
WEIGHTS, PROJECTOR = gguf(50_000, 1), gguf(20_000, 2)
Make = Callable[[str], Instance]


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as made:
        for path, data in (("/sees.gguf", WEIGHTS), ("/mmproj.gguf", PROJECTOR)):
            made.put(path, answer(data, "application/octet-stream"))
        yield made


@pytest.fixture
def make(tmp_path: Path, server: PictureServer) -> Iterator[Make]:
    """Makes instances that know the model."""
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "sees.yaml").write_text(CARD.format(base=server.url("")))
    ends = []

    def start(name: str) -> Instance:
        instance = Instance(tmp_path / name, MODELRY_MODELS_DIR=str(cards))
        context = running(instance)
        started = context.__enter__()
        ends.append(context)
        return started

    yield start
    for context in ends:
        context.__exit__(None, None, None)


def blobs(instance: Instance) -> set[bytes]:
    return {blob.read_bytes() for blob in (instance.paths.weights / "blobs").iterdir()}


def fetched(instance: Instance) -> None:
    assert instance.api("POST", "/models/sees/fetch").status_code == 202
    wait_for(lambda: blobs(instance) == {WEIGHTS, PROJECTOR}, "weights and projector to be here")


def test_a_projector_comes_with_the_weights_and_stays_with_them(make: Make) -> None:
    instance = make("one")
    fetched(instance)
    shares = instance.api("GET", "/weights").json()["models"]
    assert [(share["model"], share["variant"]) for share in shares] == [
        ("sees", "only"),
        ("sees", "projector"),
    ]
    pruned = instance.api("POST", "/weights/prune", json={}).json()
    assert pruned["files"] == 0
    assert blobs(instance) == {WEIGHTS, PROJECTOR}


def test_a_bundle_brings_the_projector_to_where_no_network_leads(
    make: Make, server: PictureServer
) -> None:
    source = make("source")
    missing = source.api("GET", "/bundles?model=sees")
    assert missing.json()["error"]["code"] == "weights_absent"
    fetched(source)
    data = source.api("GET", "/bundles?model=sees").content
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert len(tar.getnames()) == 3
    target = make("target")
    asked = len(server.requests)
    for _ in range(2):
        response = target.api("POST", "/bundles", content=data)
        assert response.status_code == 201, response.text
    assert blobs(target) == {WEIGHTS, PROJECTOR}
    fetched(target)
    assert len(server.requests) == asked
    assert target.api("GET", "/bundles?model=sees").content == data


def test_a_service_tells_that_its_projector_cannot_be_fetched(
    make: Make, server: PictureServer
) -> None:
    server.put("/mmproj.gguf", answer(b"gone", status="404 Not Found"))
    instance = make("one")
    with instance.client() as client:
        client.post("/services", {"name": "sees", "model": "sees"})
    message = instance.await_state("sees", "failed")["status"]["message"]
    assert message.startswith("its projector could not be fetched: ")
