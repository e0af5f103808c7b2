"""A whole answer that is made ready in a thread, and what is held of one."""

import asyncio
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelry.errors import ModelryError
from modelry.gateway.heads import Head
from modelry.gateway.held import Held
from modelry.gateway.memory import Memory
from modelry.gateway.replies import Reply
from modelry.gateway.request import Request
from modelry.gateway.usage import Usage
from modelry.gateway.whole_answers import WholeAnswers

JSON = Head(200, [(b"content-type", b"application/json")])
MIB = 1024 * 1024


class Thread(Executor):
    """Works when it is told to."""

    def __init__(self) -> None:
        self.work: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.work.append((future, lambda: fn(*args, **kwargs)))
        return future

    async def go(self) -> None:
        ((future, work),) = self.work
        try:
            future.set_result(work())
        except Exception as problem:
            future.set_exception(problem)
        # The loop hears of it in its next round.
        for _ in range(3):
            await asyncio.sleep(0)


class Shaped:
    """The shaping of a call. `makes`: what becomes of its answer."""

    changes_answer = in_thread = True

    def __init__(self, makes: bytes | Exception) -> None:
        self.makes = makes

    def request(self, body: bytes | bytearray) -> bytes | bytearray:
        return body

    def answer(self, answer: bytes) -> bytes:
        if isinstance(self.makes, Exception):
            raise self.makes
        return self.makes

    def estimated(self) -> Usage:
        raise NotImplementedError


class Call(WholeAnswers):
    """Notes what becomes of it."""

    def __init__(self, shaping: Shaped, memory: Memory) -> None:
        self.threads = Thread()
        self.sent: list[bytes] = []
        self.said: list[Reply] = []
        self.given_up: list[str] = []
        desk = SimpleNamespace(memory=memory, threads=self.threads)
        client = SimpleNamespace(
            translates=False,
            respond_whole=lambda _status, _lines, body: self.sent.append(body),
        )
        service = SimpleNamespace(route=SimpleNamespace(access_path="u/x", dialect=""))
        key = SimpleNamespace(id="key", probe=False)
        given = cast(Any, (desk, service, key, Request("", 0.0), None, client, None, 0, shaping))
        super().__init__(*given)
        self._replica = cast(Any, SimpleNamespace(weighted=False, route=service.route))
        self._answer = JSON

    def comes(self, answer: bytes) -> None:
        self._hold(JSON)
        self._came(answer)
        if not self._ended:
            self._done()

    def leaves(self) -> None:
        self._end(499)

    def _end(self, status: int, usage: Usage | None = None) -> None:
        self._ended = True
        self._drop_held()

    def _respond(self, reply: Reply) -> None:
        self._end(reply.status)
        self.said.append(reply)

    def _give_up(self, why: str) -> None:
        self.given_up.append(why)


def test_an_answer_is_held_until_the_thread_is_done_with_it() -> None:
    async def story() -> None:
        memory = Memory(MIB)
        call = Call(Shaped(b'{"made": 1}'), memory)
        call.comes(b"x" * 500_000)
        assert memory.held_bytes == 500_000
        assert call.sent == []
        await call.threads.go()
        assert call.sent == [b'{"made": 1}']
        assert memory.held_bytes == 0

    asyncio.run(story())


@pytest.mark.parametrize("makes", [b"{}", ModelryError("no"), ValueError("no"), OSError("no")])
def test_a_caller_may_leave_while_the_thread_works(makes: bytes | Exception) -> None:
    async def story() -> None:
        memory = Memory(MIB)
        call = Call(Shaped(makes), memory)
        call.comes(b"x" * 500_000)
        call.leaves()
        await call.threads.go()
        assert (call.sent, call.said, call.given_up) == ([], [], [])
        assert memory.held_bytes == 0

    asyncio.run(story())


@pytest.mark.parametrize("in_thread", [True, False])
@pytest.mark.parametrize("problem", [OSError("no space"), RuntimeError("?"), ModelryError("no")])
def test_what_goes_wrong_here_is_not_the_replicas_fault(
    problem: Exception, in_thread: bool
) -> None:
    async def story() -> None:
        shaping = Shaped(problem)
        shaping.in_thread = in_thread
        call = Call(shaping, Memory(MIB))
        call.comes(b"{}")
        if in_thread:
            await call.threads.go()
        assert call.given_up == []
        assert [reply.status for reply in call.said] == [500]

    asyncio.run(story())


def test_an_answer_to_something_else_is_the_replicas_fault() -> None:
    async def story() -> None:
        call = Call(Shaped(ValueError("it has not one vector for each input")), Memory(MIB))
        call.comes(b"{}")
        await call.threads.go()
        assert call.given_up == ["its answer is none to what was asked"]
        assert call.said == []

    asyncio.run(story())


def test_what_there_is_no_memory_for_is_refused() -> None:
    memory = Memory(MIB)
    call = Call(Shaped(b"{}"), memory)
    call.comes(b"x" * 2 * MIB)
    assert [reply.status for reply in call.said] == [503]
    assert memory.held_bytes == 0


@pytest.mark.parametrize(("changed", "most"), [(False, 4 * MIB), (True, 64 * MIB)])
def test_so_much_is_held_and_counted(changed: bool, most: int) -> None:
    memory = Memory(1 << 30)
    held = Held(JSON, memory, changed=changed)
    assert held.add(b"x" * most)
    assert memory.held_bytes == most
    assert not held.add(b"y")
    assert not held.crowded
    assert held.refusal().status == 502
    assert held.let_go() == b"x" * most + b"y"
    assert memory.held_bytes == 0
    held.passed(b'"usage": {"prompt_tokens": 3}}')
    assert held.usage == Usage(3, 0)


def test_of_a_refusal_the_start_is_held() -> None:
    held = Held(Head(400, []), Memory(0), changed=True)
    assert all(held.add(b"x" * 50_000) for _ in range(5))
    assert held.taken() == b"x" * 64 * 1024
