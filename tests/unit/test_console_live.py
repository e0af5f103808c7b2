"""The stream of changes that open pages listen to."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from modelry.console import live
from modelry.console.live import Live

CHANGE = b"event: change\ndata: \n\n"
OWNER = "u-0123456789ab"


class Changing(Live):
    """Services that are others each time they are looked at; every second look fails."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), cast(Any, None))
        self.looks = 0

    async def _signatures(self) -> dict[str, tuple[str, str]]:
        self.looks += 1
        if self.looks % 2 == 0:
            raise OSError("the database is away")
        return {"svc-one": (OWNER, str(self.looks))}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LOOK_S", 0.001)
    monkeypatch.setattr(live, "_HEARTBEAT_S", 0.02)


def heard(owner_id: str, may_listen: Callable[[], Awaitable[bool]], most: int) -> list[bytes]:
    """What a listener hears first, at most so much of it."""

    async def listen() -> list[bytes]:
        changing = Changing()
        found: list[bytes] = []
        async for said in changing.stream(owner_id, None, may_listen):
            found.append(said)
            if len(found) == most:
                break
        await changing.close()
        return found

    return asyncio.run(asyncio.wait_for(listen(), 20))


def test_a_look_that_fails_is_not_the_last() -> None:
    async def always() -> bool:
        return True

    found = heard(OWNER, always, 5)
    assert all(said.endswith(CHANGE) for said in found)


@pytest.mark.parametrize("owner_id", [OWNER, "u-ba9876543210"])
def test_nothing_is_told_after_the_session(owner_id: str) -> None:
    """Neither of changes, nor where there is none to tell of."""
    answers = iter([True, True, False])

    async def twice() -> bool:
        return next(answers)

    found = heard(owner_id, twice, 100)
    assert len(found) == 3
    assert (CHANGE in found[1:]) == (owner_id == OWNER)
