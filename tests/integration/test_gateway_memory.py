"""Many large bodies at once: what does not fit is refused, and what was held is given back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.data_plane import Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, Wire, post

CHAT = "/v1/chat/completions"
KB = 1000


@pytest.fixture(scope="module")
def small_memory() -> Iterator[Plane]:
    plane = Plane(max_body_bytes=str(400 * KB), max_buffered_bytes=str(1000 * KB))
    yield plane
    plane.close()


def large(plane: Plane, path: str, size: int = 300 * KB) -> bytes:
    return post(CHAT, plane.owner_key, {**chat(path), "padding": "x" * size})


def until_served(ask: Callable[[], Answer]) -> None:
    """What a connection held is given back a moment after it has closed."""
    wait_for(lambda: ask().status == 200, "the memory to be given back", 5)


def test_bodies_that_do_not_fit_together_are_refused(small_memory: Plane) -> None:
    plane = small_memory
    path = plane.service(plane.replica())
    request = large(plane, path)
    with ExitStack() as open_:
        arriving: list[Wire] = []
        for _ in range(3):
            arriving.append(open_.enter_context(plane.wire()))
            arriving[-1].send(request[:-10])
        with plane.wire() as wire:

            def refused() -> Answer | None:
                with plane.wire() as other:
                    answer = other.ask(request)
                return answer if answer.status != 200 else None

            answer = wait_for(refused, "the memory to be full")
            assert (answer.status, answer.code) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            # Nobody else notices.
            assert wire.ask(post(CHAT, plane.owner_key, chat(path))).status == 200
        for wire in arriving:
            assert wire.ask(request[-10:]).status == 200
        # Their connections stay; what they held does not.
        with plane.wire() as wire:
            for _ in range(5):
                assert wire.ask(request).status == 200


@pytest.mark.parametrize("where", ["arriving", "held", "refused", "pipelined"])
def test_a_caller_who_hangs_up_gives_back_what_it_held(small_memory: Plane, where: str) -> None:
    plane = small_memory
    path = plane.service(plane.replica())
    request = large(plane, path)
    hanging = post(CHAT, plane.owner_key, {**chat(path, do="hang"), "padding": "x" * 300 * KB})
    sent = {
        "arriving": request[:-10],
        "held": hanging,
        "refused": request.replace(b"model", b"medal"),
        "pipelined": post(CHAT, plane.owner_key, chat(path, do="hang")) + request[: 200 * KB],
    }[where]
    for _ in range(3):
        # Three times more than there is.
        with ExitStack() as open_:
            for _ in range(3):
                open_.enter_context(plane.wire()).send(sent)

    def ask() -> Answer:
        with plane.wire() as wire:
            return wire.ask(request)

    until_served(ask)
    with ExitStack() as open_:
        # All of it is there.
        wires = [open_.enter_context(plane.wire()) for _ in range(3)]
        for wire in wires:
            wire.send(request[:-10])
        for wire in wires:
            assert wire.ask(request[-10:]).status == 200


def test_strangers_get_no_more_than_their_part(small_memory: Plane) -> None:
    """Here it is one body of theirs; nobody is there to answer it but the gateway."""
    plane = small_memory
    path = plane.service(plane.replica())
    form = post("/login", None, b"x" * 300 * KB)

    def answered() -> str:
        with plane.wire() as wire:
            return wire.ask(form).code

    assert answered() == "unavailable"
    with plane.wire() as one, plane.wire() as caller:
        one.send(form[:-10])
        wait_for(lambda: answered() == "overloaded", "strangers' memory to be full")
        assert caller.ask(large(plane, path)).status == 200
    wait_for(lambda: answered() == "unavailable", "it to be given back")
