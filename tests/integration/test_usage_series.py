"""Metrics over time are what was metered, each request once, on both databases."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from modelry.routing.messages import BUCKETS_S
from modelry.usage import store as usage_store
from modelry.usage.series import store
from modelry.usage.series.points import Counted, Gauged, total
from modelry.usage.series.steps import HOUR_S, KEPT_S, MINUTE_S, Window
from tests.support.books import Books, Run, on_database
from tests.support.usage import NOON, event, spooled

START = int(NOON.timestamp())
MINUTES = Window(START, START + HOUR_S, MINUTE_S)
HOURS = Window(START, START + HOUR_S, HOUR_S)


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a story on an empty database of either kind."""
    return on_database(request, tmp_path)


async def counted(
    books: Books, window: Window = MINUTES, service_id: str = "svc_1"
) -> dict[int, Counted]:
    async with books.db.begin() as session:
        return await store.counted(session, service_id, window)


async def requests(books: Books, window: Window = MINUTES) -> int:
    return sum(each.requests for each in (await counted(books, window)).values())


async def note(books: Books, at: int, **seen: Gauged) -> None:
    async with books.db.begin() as session:
        await store.note_gauges(session, at, seen)


async def gauged(
    books: Books, window: Window = MINUTES, service_id: str = "svc_1"
) -> Mapping[int, Gauged]:
    async with books.db.begin() as session:
        return await store.gauged(session, service_id, window)


# -- counts ------------------------------------------------------------------


def test_what_was_metered_is_told_by_minute_and_hour(run: Run) -> None:
    streamed = {"stream": True, "first_token_s": 0.5, "duration_s": 2.5, "queue_s": 0.25}
    first = [0] * (len(BUCKETS_S) + 1)
    first[BUCKETS_S.index(0.5)] = 1

    async def story(books: Books) -> None:
        lines = spooled(
            event(5, **streamed),
            event(59, status=503),
            event(60, status=499, cancelled=True),
            event(61, service_id="svc_2"),
        )
        await books.take(lines)
        assert await counted(books) == {
            START: Counted(2, 1, 0, 20, 64, 5, 2.0, 0.25, tuple(first)),
            START + 60: Counted(1, 0, 1, 10, 60),
        }
        minutes = (await counted(books)).values()
        (hour,) = (await counted(books, HOURS)).values()
        assert total(minutes, ()) == total([hour], ())
        assert sum(each.requests for each in (await counted(books, MINUTES, "svc_2")).values()) == 1

    run(story)


def test_points_of_several_minutes_add_them_up_and_no_others(run: Run) -> None:
    async def story(books: Books) -> None:
        await books.take(spooled(*(event(seconds) for seconds in range(0, 3600, 30))))
        of_ten = Window(START + 600, START + 1800, 600)
        found = {start: each.requests for start, each in (await counted(books, of_ten)).items()}
        assert found == {START + 600: 20, START + 1200: 20}

    run(story)


def test_batches_add_to_what_is_there_and_one_that_comes_again_does_not(run: Run) -> None:
    async def story(books: Books) -> None:
        one, other = spooled(event(1), event(2)), spooled(event(3))
        for _ in range(3):
            await books.take(one)
            await books.take(one + other)
            books.restart()
        assert await requests(books) == 3
        assert await requests(books, HOURS) == 3

    run(story)


def test_the_same_batch_on_two_connections_at_once_counts_once(run: Run) -> None:
    async def story(books: Books) -> None:
        lines = spooled(*(event(number) for number in range(1, 201)))
        await asyncio.gather(*(books.take(lines) for _ in range(4)))
        assert await requests(books) == await requests(books, HOURS) == 200

    run(story)


def test_gateways_that_send_services_in_opposite_orders_do_not_block_each_other(run: Run) -> None:
    events = [event(number, service_id=f"svc_{number}") for number in range(1, 501)]
    forth, back = spooled(*events), spooled(*reversed(events))

    async def story(books: Books) -> None:
        await asyncio.gather(books.take(forth, source="a"), books.take(back, source="b"))
        async with books.db.begin() as session:
            rows = text("select count(*), sum(requests) from metric_counts where step = 60")
            assert tuple((await session.execute(rows)).one()) == (500, 1000)

    run(story)


def test_a_batch_that_failed_counts_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(Exception):
        """The process is gone at this line."""

    async def die(*_: object) -> None:
        raise Died

    async def story(books: Books) -> None:
        lines = spooled(event(1))
        for module, step in ((store, "add_counts"), (usage_store, "move_source")):
            with monkeypatch.context() as broken:
                broken.setattr(module, step, die)
                with pytest.raises(Died):
                    await books.take(lines)
            assert (await books.requests(), await requests(books)) == (0, 0)
        await books.take(lines)
        assert (await books.requests(), await requests(books)) == (1, 1)

    run(story)


def test_what_a_deleted_service_had_under_way_holds_nothing_up(run: Run) -> None:
    async def story(books: Books) -> None:
        # There never was a row of it: nothing here looks for one.
        await books.take(spooled(event(1, service_id="svc_gone"), event(2)))
        assert await requests(books) == 1
        assert await counted(books, MINUTES, "svc_gone") != {}

    run(story)


# -- gauges ------------------------------------------------------------------


def test_of_what_is_seen_the_most_is_kept(run: Run) -> None:
    async def story(books: Books) -> None:
        await note(books, START, svc_1=Gauged(2, 0, 100, 1), svc_2=Gauged(9, 9, 9, 9))
        await note(books, START, svc_1=Gauged(1, 3, 50, 1))
        await note(books, START + 60, svc_1=Gauged(0, 0, 300, 2))
        assert await gauged(books) == {
            START: Gauged(2, 3, 100, 1),
            START + 60: Gauged(0, 0, 300, 2),
        }
        assert await gauged(books, HOURS) == {START: Gauged(2, 3, 300, 2)}

    run(story)


def test_what_was_not_seen_takes_nothing_away(run: Run) -> None:
    async def story(books: Books) -> None:
        await note(books, START, svc_1=Gauged(None, None, None, 1))
        assert await gauged(books) == {START: Gauged(None, None, None, 1)}
        await note(books, START, svc_1=Gauged(1, 0, 7, 0))
        await note(books, START, svc_1=Gauged(None, None, None, 0))
        assert await gauged(books) == {START: Gauged(1, 0, 7, 1)}
        await note(books, START)

    run(story)


# -- what is kept ------------------------------------------------------------


def test_minutes_are_forgotten_before_hours_and_hours_in_the_end(run: Run) -> None:
    async def rows(books: Books) -> dict[tuple[str, int], int]:
        found = {}
        async with books.db.begin() as session:
            for table in (store.METRIC_COUNTS, store.METRIC_GAUGES):
                by_step = select(table.c.step, func.count()).group_by(table.c.step)
                for step, count in await session.execute(by_step):
                    found[table.name, step] = count
        return found

    async def prune(books: Books, now: float) -> None:
        async with books.db.begin() as session:
            await store.prune(session, now)

    counts, gauges = store.METRIC_COUNTS.name, store.METRIC_GAUGES.name
    tables = (counts, gauges)

    async def story(books: Books) -> None:
        # The last minute of one hour, and the first of the next.
        for at in (START - 1, START):
            await books.take(spooled(event(at=at)), source=f"spool-{at}")
            await note(books, at, svc_1=Gauged(1, 1, 1, 1))
        before = {(table, step): 2 for table in tables for step in KEPT_S}
        await prune(books, START - 60 + KEPT_S[MINUTE_S])
        assert await rows(books) == before
        await prune(books, START + KEPT_S[MINUTE_S])
        after = before | {(table, MINUTE_S): 1 for table in tables}
        assert await rows(books) == after
        await prune(books, START + KEPT_S[HOUR_S])
        assert await rows(books) == {(table, HOUR_S): 1 for table in tables}
        await prune(books, START + KEPT_S[HOUR_S] + 1)
        assert await rows(books) == {}

    run(story)


# -- rates -------------------------------------------------------------------


async def rates(books: Books, seconds: float) -> Mapping[str, store.Rate]:
    async with books.db.begin() as session:
        return await store.rates(session, NOON + timedelta(seconds=seconds))


def test_rates_are_of_the_last_minute_of_all_services_at_once(run: Run) -> None:
    async def story(books: Books) -> None:
        older = [event(0, at=START + 119.0 - each, completion_tokens=100) for each in range(10)]
        newer = [event(0, at=START + 121.0, completion_tokens=50) for _ in range(2)]
        other = event(0, at=START + 125.0, service_id="svc_2", completion_tokens=30)
        await books.take(spooled(*older, *newer, other))
        # Of the minute before, two thirds lie within the last sixty seconds.
        found = await rates(books, 140)
        assert set(found) == {"svc_1", "svc_2"}
        assert found["svc_1"].requests_per_minute == pytest.approx(2 + 10 * 2 / 3)
        assert found["svc_1"].completion_tokens_per_s == pytest.approx((100 + 1000 * 2 / 3) / 60)
        assert found["svc_2"] == store.Rate(1.0, 0.5)
        assert await rates(books, 300) == {}

    run(story)


def test_rates_of_a_steady_stream_are_its_own_at_any_second(run: Run) -> None:
    async def story(books: Books) -> None:
        before = 0
        for second in (120, 137, 179, 180):
            # One request a second, of six tokens, up to now.
            ends = range(START + before, START + second)
            lines = spooled(*(event(6, at=end) for end in ends))
            await books.take(lines, source=f"spool-{second}")
            before = second
            rate = (await rates(books, second))["svc_1"]
            assert rate.requests_per_minute == pytest.approx(60)
            assert rate.completion_tokens_per_s == pytest.approx(6)

    run(story)


def test_five_hundred_services_cost_one_question(run: Run) -> None:
    async def story(books: Books) -> None:
        await books.take(spooled(*(event(1, service_id=f"svc_{each}") for each in range(500))))
        found = await rates(books, 30)
        assert len(found) == 500
        assert {rate.requests_per_minute for rate in found.values()} == {1.0}

    run(story)
