"""The checks' port on a real gateway: what comes back, and how it is told when nothing does."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest

from modelry.client import pinned
from modelry.services.conformance import http_caller
from modelry.services.conformance.asking import CHAT, chat, events
from modelry.services.conformance.caller import (
    Answer,
    Busy,
    File,
    Interrupted,
    Skipped,
    Subject,
    Wrong,
    accepted,
)
from modelry.services.conformance.checks import checks_for
from modelry.services.conformance.examining import examine
from modelry.services.conformance.http_caller import HttpCaller
from modelry.services.conformance.report import Found
from tests.support.certificates import Authority
from tests.support.data_plane import Plane
from tests.support.waiting import wait_for

Value = TypeVar("Value")


def through(
    plane: Plane,
    work: Callable[[HttpCaller], Awaitable[Value]],
    key: str = "",
    is_there: Callable[[], bool] = lambda: True,
) -> Value:
    async def run() -> Value:
        caller = HttpCaller(plane.gateway.url, key or plane.owner_key, None, is_there)
        async with caller:
            return await work(caller)

    return asyncio.run(run())


def asking(path: str, **fake: object) -> Callable[[HttpCaller], Awaitable[Answer]]:
    body = chat(Subject(path, ("chat",)), fake=fake) if fake else chat(Subject(path, ("chat",)))
    return lambda caller: caller.ask(CHAT, body)


def test_an_answer_comes_with_its_status_type_and_json(plane: Plane) -> None:
    path = plane.service(plane.replica(text='{"object": "x"}'))
    answer = through(plane, asking(path))
    assert (answer.status, answer.type, answer.value) == (200, "application/json", {"object": "x"})
    assert accepted(answer) == {"object": "x"}


def test_a_refusal_is_an_answer(plane: Plane) -> None:
    path = plane.service(plane.replica(), tasks=("completion",))
    answer = through(plane, asking(path))
    assert (answer.status, answer.value["error"]["code"]) == (400, "unsupported_task")


def test_a_file_goes_out_as_a_form(plane: Plane) -> None:
    replica = plane.replica(text='{"text": ""}')
    path = plane.service(replica, tasks=("transcription",))
    file = File("silence.wav", "audio/wav", b"RIFF-and-so-on")
    form = {"model": path, "response_format": "json"}
    answer = through(plane, lambda caller: caller.ask("/v1/audio/transcriptions", form, file))
    assert answer.value == {"text": ""}


def test_a_stream_comes_line_by_line_and_leaving_it_hangs_up(plane: Plane) -> None:
    replica = plane.replica()
    path = plane.service(replica)
    body = chat(Subject(path, ("chat",)), stream=True)

    async def begin_and_leave(caller: HttpCaller) -> str:
        gated = {**body, "fake": {"do": "stream", "chunks": 3, "gated": True}}
        replica.go()
        async with caller.stream(CHAT, gated) as stream:
            assert (stream.status, stream.type) == (200, "text/event-stream")
            async with aclosing(stream.lines()) as lines:
                return await anext(lines)

    assert through(plane, begin_and_leave).startswith("data: {")
    wait_for(lambda: replica.counts["abandoned"] == 1, "the engine to be hung up on")
    whole = {**body, "fake": {"do": "stream", "chunks": 3}}
    assert len(through(plane, lambda caller: events(caller, CHAT, whole))) >= 3


def test_a_replica_that_dies_within_its_stream_is_what_is_wrong(plane: Plane) -> None:
    path = plane.service(plane.replica())
    body = chat(Subject(path, ("chat",)))
    dying = {**body, "fake": {"do": "stream", "chunks": 99, "die_after": 300}}
    with pytest.raises(Wrong, match="broke off"):
        through(plane, lambda caller: events(caller, CHAT, dying))


def test_a_replica_that_dies_before_it_answers_fails_the_check(plane: Plane) -> None:
    path = plane.service(plane.replica(do="answer", die_after=0))
    with pytest.raises(Wrong, match="502"):
        accepted(through(plane, asking(path)))


def test_a_probe_that_finds_no_free_slot_is_told_so_whole_or_streamed(plane: Plane) -> None:
    path = plane.service(state="starting")
    probe = plane.key(probe=True)
    with pytest.raises(Busy):
        through(plane, asking(path), probe)
    body = chat(Subject(path, ("chat",)))
    with pytest.raises(Busy):
        through(plane, lambda caller: events(caller, CHAT, body), probe)


def test_a_service_that_is_gone_interrupts(plane: Plane) -> None:
    path = plane.service(state="stopped", message="stopped by its owner")
    with pytest.raises(Interrupted, match="stopped by its owner"):
        through(plane, asking(path))
    for gone, key in ((f"{path}-gone", ""), (path, "sk-unknown")):
        with pytest.raises(Interrupted):
            through(plane, asking(gone), key)
    replica = plane.replica()
    there = plane.service(replica)
    with pytest.raises(Interrupted, match="meanwhile"):
        through(plane, asking(there), is_there=lambda: False)
    assert replica.requests == []


def test_an_answer_that_does_not_come_in_time_skips(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_caller, "_TIMEOUT_S", 0.3)
    path = plane.service(plane.replica())
    with pytest.raises(Skipped, match=r"0\.3 s"):
        through(plane, asking(path, do="hang"))


def test_a_gateway_that_is_away_interrupts(plane: Plane) -> None:
    async def run() -> None:
        # Nothing listens on the discard port of this machine.
        async with HttpCaller("http://127.0.0.1:9", "sk-any", None, lambda: True) as caller:
            await caller.ask(CHAT, {})

    with pytest.raises(Interrupted, match="gateway"):
        asyncio.run(run())


def test_over_tls_the_gateways_own_certificate_is_trusted_and_no_other(
    plane: Plane, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("models.example")
    other, _ = authority.issue("other.example")
    secure = plane.another_gateway(tls_cert=str(certificate), tls_key=str(key))
    path = plane.service(plane.replica(text='{"object": "x"}'))
    url = f"https://127.0.0.1:{secure.port}"

    async def ask(trusted: Path) -> Answer:
        context = pinned(str(trusted))
        async with HttpCaller(url, plane.owner_key, context, lambda: True) as caller:
            return await caller.ask(CHAT, chat(Subject(path, ("chat",))))

    assert wait_for(lambda: asyncio.run(ask(certificate)), "an answer").status == 200
    with pytest.raises(Interrupted):
        asyncio.run(ask(other))
    secure.close()


def test_a_whole_probe_of_an_engine_that_answers_nothing_sensible_comes_to_its_end(
    plane: Plane,
) -> None:
    replica = plane.replica(text='{"choices": "none"}')
    path = plane.service(replica, tasks=("chat", "completion"), collect=True)
    subject = Subject(path, ("chat", "completion"), context_tokens=256, slots=4)
    told: list[Found] = []
    checks = checks_for(subject.tasks)
    through(plane, lambda caller: examine(caller, subject, checks, told.append))
    assert len(told) == len(checks)
    assert {found.name: found.result for found in told}["chat.answer"] == "failed"


def test_an_answer_without_an_end_is_not_held(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns an endpoint elsewhere chooses what it sends."""
    monkeypatch.setattr(http_caller, "_ANSWER_MOST", 1_000_000)
    replica = plane.replica()
    path = plane.service(replica)
    endless = {"do": "flood", "bytes": 64_000_000}

    async def read_lines(caller: HttpCaller) -> None:
        body = chat(Subject(path, ("chat",)), stream=True, fake=endless)
        async with caller.stream(CHAT, body) as stream, aclosing(stream.lines()) as lines:
            async for _ in lines:
                pass

    for work in (asking(path, **endless), read_lines):
        with pytest.raises(Wrong, match="longer than"):
            through(plane, work)
