"""Adapters brought to replicas that run: each is asked once, given each once, and not for ever."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from modelry.engines.base import AdapterRefused, Endpoint, Engine
from modelry.services.hosting import Hosting, HostReplica
from modelry.services.situation import AdapterSeen

ADAPTER = Path("/weights/tuned")
PATHS = {"svc": "u-1/tuned", "other": "u-1/other"}


@dataclass
class FakeHost:
    """Replicas, by their address: what each has. `trouble`: why the next calls are refused.
    `gate`: calls wait for it.
    """

    has: dict[str, set[str]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    calls: Counter[tuple[str, ...]] = field(default_factory=Counter)
    gate: asyncio.Event | None = None
    now: float = 0.0

    async def _call(self, *call: str) -> None:
        self.calls[call] += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble:
            raise AdapterRefused(self.trouble.pop(0))

    async def adapters(self, endpoint: Endpoint) -> frozenset[str]:
        await self._call("ask", endpoint.address)
        return frozenset(self.has.get(endpoint.address, ()))

    async def load_adapter(self, endpoint: Endpoint, name: str, adapter: Path) -> None:
        await self._call("load", endpoint.address, name, str(adapter))
        self.has.setdefault(endpoint.address, set()).add(name)

    async def unload_adapter(self, endpoint: Endpoint, name: str) -> None:
        await self._call("unload", endpoint.address, name)
        self.has[endpoint.address].remove(name)

    def replica(self, id_: str = "rep") -> HostReplica:
        return HostReplica(id_, Endpoint(id_, "secret"), cast(Engine, self))


class Changes:
    """How often it was told that something changed."""

    def __init__(self, hosting: Hosting) -> None:
        self.count = 0
        hosting.on_change = self._more

    def _more(self) -> None:
        self.count += 1


LOAD = ("load", "rep", "u-1/tuned", "/weights/tuned")


def scenario(act: Callable[[Hosting, FakeHost], Awaitable[None]]) -> None:
    async def whole() -> None:
        fake = FakeHost()
        hosting = Hosting(lambda: fake.now)
        try:
            await act(hosting, fake)
        finally:
            await hosting.close()

    asyncio.run(whole())


async def settled() -> None:
    """Until whatever was begun, and waits for no gate, has ended."""
    for _ in range(10):
        await asyncio.sleep(0)


async def loaded(hosting: Hosting, fake: FakeHost, id_: str = "svc") -> AdapterSeen:
    """After a while, so that no pause is in the way."""
    trouble, fake.trouble = fake.trouble, []
    fake.now += 100
    hosting.look([fake.replica()], PATHS)
    await settled()
    fake.trouble = trouble
    hosting.load(id_, fake.replica(), ADAPTER)
    await settled()
    return hosting.seen(id_)


def test_a_replica_is_asked_once_what_it_has() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        changes = Changes(hosting)
        fake.has["a"] = {"u-1/tuned"}
        for _ in range(3):
            hosting.look([fake.replica("a"), fake.replica("b")], PATHS)
            await settled()
        assert fake.calls == {("ask", "a"): 1, ("ask", "b"): 1}
        assert hosting.seen("svc") == AdapterSeen(frozenset({"a"}))
        assert hosting.seen("other") == AdapterSeen()
        assert changes.count == 2

    scenario(act)


def test_it_is_asked_once_though_its_answer_takes_long() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        fake.gate = asyncio.Event()
        for _ in range(3):
            hosting.look([fake.replica()], PATHS)
            await settled()
        assert fake.calls == {("ask", "rep"): 1}

    scenario(act)


def test_where_no_service_is_hosted_nobody_is_asked() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        hosting.look([fake.replica()], {})
        await settled()
        assert not fake.calls
        assert hosting.seen("svc").on == frozenset()

    scenario(act)


def test_a_replica_that_does_not_say_is_asked_again_after_a_pause() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        changes = Changes(hosting)
        fake.trouble = ["not now"]
        fake.has["rep"] = {"u-1/tuned"}
        for _ in range(5):
            hosting.look([fake.replica()], PATHS)
            await settled()
        assert hosting.seen("svc") == AdapterSeen(unsure=frozenset({"rep"}))
        assert fake.calls == {("ask", "rep"): 1}
        assert changes.count == 0, "nothing changed, so nobody need look at once"
        fake.now += 2
        hosting.look([fake.replica()], PATHS)
        await settled()
        assert fake.calls == {("ask", "rep"): 2}
        assert hosting.seen("svc") == AdapterSeen(frozenset({"rep"}))

    scenario(act)


def test_what_no_service_has_is_taken_from_a_replica() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        fake.has["rep"] = {"u-1/tuned", "u-1/deleted"}
        for _ in range(3):
            hosting.look([fake.replica()], PATHS)
            await settled()
        assert fake.has["rep"] == {"u-1/tuned"}
        assert fake.calls["unload", "rep", "u-1/deleted"] == 1

    scenario(act)


def test_an_adapter_is_brought_once() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        hosting.look([fake.replica()], PATHS)
        await settled()
        changes = Changes(hosting)
        fake.gate = asyncio.Event()
        for _ in range(3):
            hosting.load("svc", fake.replica(), ADAPTER)
            await settled()
        assert hosting.seen("svc") == AdapterSeen(unsure=frozenset({"rep"}))
        assert changes.count == 0
        fake.gate.set()
        await settled()
        assert hosting.seen("svc") == AdapterSeen(frozenset({"rep"}))
        hosting.load("svc", fake.replica(), ADAPTER)
        await settled()
        assert fake.calls[LOAD] == 1
        assert changes.count == 1
        assert hosting.seen("other") == AdapterSeen()

    scenario(act)


def test_what_a_replica_has_from_before_is_not_brought() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        fake.has["rep"] = {"u-1/tuned"}
        assert (await loaded(hosting, fake)).on == {"rep"}
        assert fake.calls == {("ask", "rep"): 1}

    scenario(act)


def test_to_a_replica_that_has_not_said_nothing_is_brought() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        fake.gate = asyncio.Event()
        hosting.look([fake.replica()], PATHS)
        hosting.load("svc", fake.replica(), ADAPTER)
        await settled()
        assert fake.calls == {("ask", "rep"): 1}

    scenario(act)


def test_two_adapters_go_to_one_replica_side_by_side() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        hosting.look([fake.replica()], PATHS)
        await settled()
        fake.gate = asyncio.Event()
        hosting.load("svc", fake.replica(), ADAPTER)
        hosting.load("other", fake.replica(), ADAPTER)
        await settled()
        assert fake.calls[LOAD] == 1
        assert fake.calls["load", "rep", "u-1/other", "/weights/tuned"] == 1
        fake.gate.set()
        await settled()
        assert hosting.seen("svc").on == hosting.seen("other").on == {"rep"}

    scenario(act)


# -- refusals ------------------------------------------------------------------


TRIES = 5


def test_after_refusals_in_a_row_it_has_failed_in_the_engines_words() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        for number in range(1, TRIES + 1):
            fake.trouble = [f"refused {number} times"]
            seen = await loaded(hosting, fake)
            assert seen.refusing == {"rep"}
            assert seen.failure == (f"refused {TRIES} times" if number == TRIES else None)
        await loaded(hosting, fake)
        assert fake.calls[LOAD] == TRIES, "not again by itself"
        assert hosting.seen("other").failure is None

    scenario(act)


def test_after_a_refusal_there_is_a_pause_and_the_replica_is_asked_what_it_has() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        fake.trouble = ["too slow"]
        assert (await loaded(hosting, fake)).unsure == {"rep"}
        # It had taken it all the same.
        fake.has["rep"] = {"u-1/tuned"}
        hosting.look([fake.replica()], PATHS)
        hosting.load("svc", fake.replica(), ADAPTER)
        await settled()
        assert fake.calls[LOAD] == 1
        assert hosting.seen("svc").on == {"rep"}

    scenario(act)


async def failed(hosting: Hosting, fake: FakeHost) -> None:
    for _ in range(TRIES):
        fake.trouble = ["no"]
        await loaded(hosting, fake)
    assert hosting.seen("svc").failure == "no"


def test_a_failure_can_be_forgotten_and_then_it_goes() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        await failed(hosting, fake)
        hosting.forget_failures("other")
        assert hosting.seen("svc").failure == "no"
        hosting.forget_failures("svc")
        assert hosting.seen("svc").failure is None
        # As often again, not once.
        fake.trouble = ["no"]
        assert (await loaded(hosting, fake)).failure is None
        assert (await loaded(hosting, fake)).on == {"rep"}

    scenario(act)


def test_refusals_of_a_replica_that_is_gone_do_not_count() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        await failed(hosting, fake)
        hosting.look([fake.replica("next")], PATHS)
        assert hosting.seen("svc") == AdapterSeen(unsure=frozenset({"next"}))

    scenario(act)


def test_refusals_of_a_service_that_is_gone_do_not_count_if_it_comes_again() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        await failed(hosting, fake)
        hosting.look([fake.replica()], {"other": "u-1/other"})
        hosting.look([fake.replica()], PATHS)
        assert hosting.seen("svc").failure is None

    scenario(act)


# -- ends ----------------------------------------------------------------------


def test_a_replica_that_is_gone_has_nothing_and_is_asked_anew_if_it_comes_back() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        assert (await loaded(hosting, fake)).on == {"rep"}
        hosting.look([], PATHS)
        assert hosting.seen("svc") == AdapterSeen()
        fake.has.clear()
        hosting.look([fake.replica()], PATHS)
        await settled()
        assert fake.calls["ask", "rep"] == 2
        assert hosting.seen("svc") == AdapterSeen()

    scenario(act)


def test_what_is_taken_from_a_replica_is_not_there_any_more() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        await loaded(hosting, fake, "other")
        await loaded(hosting, fake)
        changes = Changes(hosting)
        hosting.unload("svc", fake.replica())
        hosting.unload("svc", fake.replica())
        await settled()
        assert fake.calls["unload", "rep", "u-1/tuned"] == 1
        assert hosting.seen("svc") == AdapterSeen()
        assert hosting.seen("other").on == {"rep"}
        assert changes.count == 1

    scenario(act)


@pytest.mark.parametrize("has_it_still", [True, False])
def test_where_it_cannot_be_taken_away_the_replica_says_whether_it_has_it(
    has_it_still: bool,
) -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        await loaded(hosting, fake)
        fake.trouble = ["it did not work"]
        hosting.unload("svc", fake.replica())
        await settled()
        assert hosting.seen("svc") == AdapterSeen(unsure=frozenset({"rep"}))
        if not has_it_still:
            fake.has.clear()
        fake.now += 2
        hosting.look([fake.replica()], PATHS)
        await settled()
        assert hosting.seen("svc").on == (frozenset({"rep"}) if has_it_still else frozenset())

    scenario(act)


def test_its_end_stops_what_is_under_way() -> None:
    async def act(hosting: Hosting, fake: FakeHost) -> None:
        hosting.look([fake.replica()], PATHS)
        await settled()
        fake.gate = asyncio.Event()
        hosting.load("svc", fake.replica(), ADAPTER)
        hosting.load("other", fake.replica(), ADAPTER)
        hosting.look([fake.replica(), fake.replica("b")], PATHS)
        await settled()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(others) == 3
        await hosting.close()
        assert all(task.cancelled() for task in others)
        fake.gate.set()
        await settled()
        assert not fake.has
        # There is nothing left to stop.
        await hosting.close()

    scenario(act)
