"""Work in threads for callers who may leave at any time."""

import asyncio
import threading

import pytest
from starlette.requests import Request
from starlette.types import Message

from modelry.runners.refusals import Cancelled, Refused
from modelry.runners.serving import Feed, in_thread


def caller(leaves: asyncio.Event) -> Request:
    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def waits(gone: threading.Event) -> None:
    if not gone.wait(20):
        raise AssertionError("nobody said that the caller has gone")
    raise Cancelled


def test_who_leaves_before_the_first_item_ends_the_work() -> None:
    ended = threading.Event()

    def make(feed: Feed[int]) -> None:
        try:
            waits(feed.gone)
        finally:
            ended.set()

    async def run() -> None:
        leaves = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, leaves.set)
        with pytest.raises(Cancelled):
            await Feed(make).first(caller(leaves))

    asyncio.run(run())
    assert ended.wait(10)


def test_items_come_in_order_and_no_faster_than_they_are_taken() -> None:
    made: list[int] = []

    def make(feed: Feed[int]) -> None:
        for number in range(100):
            made.append(number)
            feed.put(number)

    async def run() -> list[int | None]:
        feed = Feed(make)
        found = [await feed.first(caller(asyncio.Event()))]
        await asyncio.sleep(0.2)
        assert len(made) < 20
        return found + [item async for item in feed.rest()]

    assert asyncio.run(run()) == list(range(100))


def test_what_goes_wrong_is_told_where_it_is_waited_for() -> None:
    def refuses(_feed: Feed[int]) -> None:
        raise Refused("no")

    def breaks_later(feed: Feed[int]) -> None:
        feed.put(1)
        raise ValueError("broken")

    async def run() -> None:
        with pytest.raises(Refused):
            await Feed(refuses).first(caller(asyncio.Event()))
        feed = Feed(breaks_later)
        assert await feed.first(caller(asyncio.Event())) == 1
        with pytest.raises(ValueError, match="broken"):
            _ = [item async for item in feed.rest()]

    asyncio.run(run())


def test_work_for_a_whole_answer_hears_that_its_caller_left() -> None:
    async def run() -> None:
        leaves = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, leaves.set)
        with pytest.raises(Cancelled):
            await in_thread(caller(leaves), waits)
        assert await in_thread(caller(asyncio.Event()), lambda gone: 7) == 7

    asyncio.run(run())
