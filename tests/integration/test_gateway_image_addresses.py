"""What images behind addresses may cost, and what becomes of answers too large to get any."""

import base64
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from modelry.gateway.image_serving import AT_ONCE_EACH
from tests.support.data_plane import Plane, Replica
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, post

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
GENERATIONS = "/v1/images/generations"
MIB = 1024 * 1024
BASE = "http://gateway"


def answer_of(image: bytes, mebibytes: int = 0) -> dict[str, Any]:
    """Orders for the fake engine: an image, and so many MiB of others in base64."""
    begin = json.dumps({"data": [{"b64_json": base64.b64encode(image).decode()}]})[:-4]
    size = len(begin) + mebibytes * MIB + 4
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    more = {"text": "A" * MIB, "times": mebibytes}
    return {"do": "raw", "pieces": [head + begin, more, '"}]}'], "end": "next"}


def drawn(plane: Plane, wire: Wire, path: str, **wish: Any) -> Answer:
    return wire.ask(post(GENERATIONS, plane.owner_key, {"model": path, "prompt": "a cat", **wish}))


def address(plane: Plane, replica: Replica, image: bytes = PNG, mebibytes: int = 0) -> str:
    replica.now(**answer_of(image, mebibytes))
    path = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        url = drawn(plane, wire, path).json()["data"][0]["url"]
    return str(url.removeprefix(BASE))


def unsigned(target: str, method: str = "GET") -> bytes:
    """A browser's request for an image: without a key."""
    return f"{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def test_callers_who_read_nothing_take_no_memory(plane: Plane) -> None:
    target = address(plane, plane.replica(), mebibytes=12)
    with ExitStack() as open_:
        before, size = plane.gateway.memory_bytes, 0
        for _ in range(30):
            wire = open_.enter_context(plane.wire(receive_buffer=4096))
            wire.send(unsigned(target))
            size = int(wire.head().headers["content-length"])
        # All together would be nine times as much.
        assert plane.gateway.memory_bytes - before < 30 * size // 9
    with plane.wire() as wire:
        assert len(wire.ask(unsigned(target)).body) == size
        head = wire.ask(unsigned(target, "HEAD"), head_only=True)
        assert int(head.headers["content-length"]) == size
        # The connection goes on behind it.
        assert wire.ask(unsigned(target)).body[: len(PNG)] == PNG


def test_so_many_images_are_fetched_at_once(plane: Plane) -> None:
    target = address(plane, plane.replica(), mebibytes=12)
    with ExitStack() as open_, plane.wire() as wire:
        for _ in range(AT_ONCE_EACH):
            slow = open_.enter_context(plane.wire(receive_buffer=4096))
            slow.send(unsigned(target))
            slow.head()
        refusal = wire.ask(unsigned(target))
        assert (refusal.status, refusal.code) == (503, "overloaded")
        open_.close()
        wait_for(lambda: wire.ask(unsigned(target)).status == 200, "the others to be gone")


def test_no_signature_and_no_key_are_nothing_but_refusals(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    with plane.wire() as wire:
        name = "0" * 32 + ".png"
        target = f"/v1/images/files/{name}?expires=99999999999&signature={'0' * 64}"
        assert wire.ask(unsigned(target)).status == 404
        assert not plane.paths.secret_key.exists()
        target = address(plane, plane.replica())
        assert plane.paths.secret_key.exists()
        changed = target.partition("signature=")[0] + "signature=%C3%A9"
        refusal = wire.ask(unsigned(changed))
        assert (refusal.status, refusal.code) == (403, "invalid_signature")


def test_a_store_that_takes_nothing_does_not_look_like_a_failed_replica(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    plane.paths.images.write_bytes(b"in the way")
    replica = plane.replica()
    replica.now(**answer_of(PNG))
    path = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        for _ in range(2):
            answer = drawn(plane, wire, path)
            assert (answer.status, answer.code) == (500, "internal_error")
            assert "could not be kept" in answer.json()["error"]["message"]
        assert drawn(plane, wire, path, response_format="b64_json").status == 200
    assert replica.counts["served"] == 3


def test_an_answer_too_large_to_get_addresses_is_refused(plane: Plane) -> None:
    replica = plane.replica()
    replica.now(**answer_of(PNG, 65))
    path = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        answer = drawn(plane, wire, path)
        assert (answer.status, answer.code) == (502, "answer_too_large")
        assert plane.event(answer).images == 0
        # Nor is the replica to blame: it is asked again at once, and what needs no change passes.
        body = {"model": path, "prompt": "a cat", "response_format": "b64_json"}
        wire.send(post(GENERATIONS, plane.owner_key, body))
        assert wire.head().status == 200
        assert wire.chunk().startswith(b'{"data": [{"b64_json": "')


def test_what_is_held_of_answers_counts_as_memory(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(max_body_bytes="400000", max_buffered_bytes=str(2 * MIB))
    replica = plane.replica()
    replica.now(**answer_of(PNG, 3))
    path = plane.service(replica, tasks=("image",))
    with plane.wire() as wire:
        answer = drawn(plane, wire, path)
        assert (answer.status, answer.code) == (503, "overloaded")
        replica.now(**answer_of(PNG, 1))
        # All that was held is given back, by answers that came to their end as well.
        assert [drawn(plane, wire, path).status for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("wish", ["gif", "url"])
def test_an_endpoint_elsewhere_is_asked_for_what_the_caller_wants(plane: Plane, wish: str) -> None:
    replica = plane.replica(tcp=True, text='{"data": [{"url": "https://elsewhere/1"}]}')
    endpoints = (plane.endpoint(replica, model="theirs"),)
    path = plane.service(endpoints=endpoints, tasks=("image",))
    with plane.wire() as wire:
        answer = drawn(plane, wire, path, response_format=wish)
    assert (answer.status, answer.json()["data"]) == (200, [{"url": "https://elsewhere/1"}])
    (request,) = replica.requests
    assert json.loads(request["body"])["response_format"] == wish
