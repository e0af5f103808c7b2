"""Every usage event is taken exactly once, on both databases."""

import asyncio
import itertools
import logging
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from modelry.routing.messages import UsageEvent
from modelry.usage import store
from modelry.usage.intake import Intake
from tests.support.books import Books, Run, on_database
from tests.support.usage import NOON, OWNER, event, spooled

STRANGER = "u-ba9876543210"


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a story on an empty database of either kind."""
    return on_database(request, tmp_path)


def test_a_batch_is_stored_and_summed_up(run: Run) -> None:
    whole = event(
        5,
        queue_s=0.25,
        first_token_s=0.125,
        replica_id="rep_1",
        stream=True,
        cached_tokens=4,
        estimated=True,
        cancelled=True,
        status=499,
        images=2,
        pixels=2 * 512 * 512,
        audio_s=7.25,
        characters=11,
    )

    async def story(books: Books) -> None:
        lines = spooled(whole, event(6))
        assert await books.take(lines) == (1, len(lines))
        async with books.db.begin() as session:
            row = (await session.scalars(select(store.UsageEventRow))).first()
        assert row is not None
        stored = {
            name: getattr(row, name) for name in UsageEvent.__struct_fields__ if name != "owner_id"
        }
        stored |= {"at": row.at.timestamp(), "owner_id": row.user_id}
        assert UsageEvent(**stored) == whole
        assert await books.sums("hour", "service", "key", "user") == [
            (
                NOON,
                f"{OWNER}/demo",
                "svc_1",
                "key_1",
                OWNER,
                2,
                0,
                1,
                20,
                11,
                4,
                2,
                524288,
                7.25,
                11,
            )
        ]

    run(story)


# -- exactly once ------------------------------------------------------------


def test_a_batch_whose_answer_was_lost_is_taken_once(run: Run) -> None:
    async def story(books: Books) -> None:
        lines = spooled(event(1), event(2))
        for _ in range(3):
            assert await books.take(lines) == (1, len(lines))
            books.restart()
        assert await books.events() == ["req_1", "req_2"]
        assert await books.requests() == 2

    run(story)


def test_batches_of_other_boundaries_take_each_event_once(run: Run) -> None:
    events = [event(number) for number in range(1, 41)]
    ends = [0, *itertools.accumulate(len(spooled(each)) for each in events)]
    chance = random.Random(1)

    async def story(books: Books) -> None:
        reached = 0
        while reached < len(events):
            # From somewhere that is taken already, to somewhere.
            first = chance.randint(0, reached)
            last = chance.randint(first, min(first + 15, len(events)))
            reached = max(reached, last)
            taken = await books.take(spooled(*events[first:last]), ends[first])
            assert taken == (1, ends[reached])
        assert await books.events() == sorted(each.request_id for each in events)
        assert await books.requests() == len(events)

    run(story)


def test_a_batch_that_failed_is_not_half_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(Exception):
        """The process is gone at this line."""

    async def die(*_: object) -> None:
        raise Died

    async def story(books: Books) -> None:
        lines = spooled(event(1))
        for step in ("add_events", "add_to_hours", "move_source"):
            with monkeypatch.context() as broken:
                broken.setattr(store, step, die)
                with pytest.raises(Died):
                    await books.take(lines)
            assert await books.events() == []
        assert await books.take(lines) == (1, len(lines))
        assert (await books.events(), await books.requests()) == (["req_1"], 1)

    run(story)


def test_the_same_batch_on_two_connections_at_once_is_taken_once(run: Run) -> None:
    async def story(books: Books) -> None:
        lines = spooled(*(event(number) for number in range(1, 201)))
        await asyncio.gather(*(books.take(lines) for _ in range(4)))
        assert len(await books.events()) == 200
        assert await books.requests() == 200

    run(story)


def test_batches_of_two_gateways_do_not_block_each_other(run: Run) -> None:
    # In opposite orders, so that they would lock the hours' rows crosswise.
    events = [event(number, key_id=f"key_{number}") for number in range(1, 2001)]
    forth, back = spooled(*events), spooled(*reversed(events))

    async def story(books: Books) -> None:
        for each in (0, 1):
            taken = await asyncio.gather(
                books.take(forth, each * len(forth), source="a"),
                books.take(back, each * len(back), source="b"),
            )
            assert list(taken) == [(1, len(forth) * (each + 1))] * 2
        assert await books.requests() == 4 * len(events)

    run(story)


def test_a_segment_follows_the_one_before_and_what_is_older_is_known(run: Run) -> None:
    async def story(books: Books) -> None:
        first, second = spooled(event(1)), spooled(event(2))
        assert await books.take(first, segment=7) == (7, len(first))
        assert await books.take(second, segment=8) == (8, len(second))
        assert await books.take(first, segment=7) == (8, len(second))
        assert await books.take(b"", len(second), segment=8) == (8, len(second))
        assert await books.events() == ["req_1", "req_2"]

    run(story)


def test_a_spool_that_is_deleted_is_forgotten(run: Run) -> None:
    async def story(books: Books) -> None:
        await books.take(spooled(event(1)), source="a")
        await books.take(spooled(event(2)), source="b")
        await books.intake.end("a")
        await books.intake.end("never-heard-of")
        async with books.db.begin() as session:
            assert list(await session.scalars(select(store.UsageSourceRow.source))) == ["b"]
        assert await books.requests() == 2

    run(story)


# -- what is no event --------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 300,
        b"\xff\xfe\r\r",
        b"{}",
        b"[1, 2]",
        spooled(event(9))[:-20],
        spooled(event(9))[30:-1],
        spooled(event(9, at=1e300))[:-1],
        spooled(event(9, at=-1.0))[:-1],
        spooled(event(9, prompt_tokens=2**62))[:-1],
        spooled(event(9, completion_tokens=-1))[:-1],
        spooled(event(9, images=-1))[:-1],
        spooled(event(9, pixels=2**62))[:-1],
        spooled(event(9, audio_s=-0.5))[:-1],
        spooled(event(9, audio_s=1e300))[:-1],
        spooled(event(9, characters=2**62))[:-1],
        spooled(event(9, status=10**12))[:-1],
        spooled(event(9, duration_s=-1.0))[:-1],
        spooled(event(9, queue_s=1e300))[:-1],
        spooled(event(9, first_token_s=-1.0))[:-1],
        spooled(event(9, access_path="public/\0"))[:-1],
    ],
)
def test_a_line_that_is_no_event_is_skipped_and_holds_nothing_up(
    run: Run, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    async def story(books: Books) -> None:
        before = spooled(event(1)) + garbage + b"\n"
        after = spooled(event(2))
        assert await books.take(before + after) == (1, len(before + after))
        assert await books.take(spooled(event(3)), len(before + after)) > (1, len(before + after))
        assert await books.events() == ["req_1", "req_2", "req_3"]
        (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert f"before {len(before)}" in record.getMessage()

    run(story)


def test_a_line_that_was_cut_off_is_taken_where_it_comes_whole_later(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(books: Books) -> None:
        first, second, third = (spooled(event(number)) for number in (1, 2, 3))
        # Down to the line that lacks nothing but its end.
        for missing in (40, 20, 1):
            cut = first + second[:-missing]
            assert await books.take(cut) == (1, len(cut))
            assert await books.events() == ["req_1"]
            assert "cut off" in caplog.messages[-1]
            caplog.clear()
        whole = first + second + third
        assert await books.take(second + third, len(first)) == (1, len(whole))
        assert await books.events() == ["req_1", "req_2", "req_3"]
        assert await books.requests() == 3

    run(story)


# -- what is kept ------------------------------------------------------------


def test_old_events_are_forgotten_and_their_hours_stay(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    old, young = (now - timedelta(days=days) for days in (91, 89))

    async def story(books: Books) -> None:
        events = [event(number, at=at.timestamp()) for number, at in enumerate((old, young))]
        with monkeypatch.context() as then:
            then.setattr(store, "now", lambda: old)
            await books.take(spooled(*events), source="unseen")
        books.intake = Intake(books.db, keep_days=90)
        await books.take(b"", source="seen")
        assert await books.events() == ["req_1"]
        assert await books.requests() == 2
        async with books.db.begin() as session:
            # A spool that comes back after years is not counted again.
            sources = await session.scalars(select(store.UsageSourceRow.source))
            assert sorted(sources) == ["seen", "unseen"]

    run(story)


# -- sums --------------------------------------------------------------------


def at(hours: float) -> float:
    return (NOON + timedelta(hours=hours)).timestamp()


def test_usage_is_summed_up_by_what_is_asked_for(run: Run) -> None:
    events = [
        event(1, at=at(0)),
        event(2, at=at(0.99), key_id="key_2", status=404),
        event(3, at=at(1), key_id="key_2"),
        event(4, at=at(12), access_path="public/all", service_id="svc_2", owner_id=STRANGER),
    ]

    async def story(books: Books) -> None:
        await books.take(spooled(*events))
        tokens = {row[0]: row[1:] for row in await books.sums("key")}
        nothing_else = (0, 0, 0.0, 0)
        assert tokens == {
            "key_1": (2, 0, 0, 20, 5, 0, *nothing_else),
            "key_2": (2, 1, 0, 20, 5, 0, *nothing_else),
        }
        assert [row[:4] for row in await books.sums("service")] == [
            ("public/all", "svc_2", 1, 0),
            (f"{OWNER}/demo", "svc_1", 3, 1),
        ]
        assert [row[:2] for row in await books.sums("hour")] == [
            (NOON, 2),
            (NOON + timedelta(hours=1), 1),
            (NOON + timedelta(hours=12), 1),
        ]
        day = NOON - timedelta(hours=12)
        by_day = [row[:3] for row in await books.sums("day", "user")]
        assert by_day == [(day, OWNER, 3), (day + timedelta(days=1), STRANGER, 1)]
        some = await books.sums("key", start=NOON, end=NOON + timedelta(hours=1))
        assert [row[:2] for row in some] == [("key_1", 1), ("key_2", 1)]

    run(story)


def test_what_calls_use_beyond_tokens_is_added_up(run: Run) -> None:
    events = [
        event(1, endpoint="images/generations", images=2, pixels=8192),
        event(2, endpoint="images/edits", images=1, pixels=4096),
        event(3, endpoint="audio/transcriptions", audio_s=1.5),
        event(4, endpoint="audio/transcriptions", audio_s=2.25),
        event(5, endpoint="audio/speech", characters=40),
    ]

    async def story(books: Books) -> None:
        lines = spooled(*events)
        half = len(spooled(*events[:3]))
        # In two batches: the second adds to the row that the first made.
        await books.take(lines[:half])
        await books.take(lines[half:], half)
        assert [row[-4:] for row in await books.sums("hour")] == [(3, 12288, 3.75, 40)]

    run(story)


def test_an_event_of_before_such_units_were_counted_is_taken(run: Run) -> None:
    line = spooled(event(1))
    # What is nothing is not written, now as then.
    assert not [unit for unit in (b"images", b"audio_s", b"characters") if unit in line]

    async def story(books: Books) -> None:
        await books.take(line)
        assert {row[-4:] for row in await books.sums("key")} == {(0, 0, 0.0, 0)}

    run(story)


@pytest.mark.parametrize("groups", [("key",), ("hour", "key"), ("day", "service", "key", "user")])
def test_pages_of_sums_visit_each_row_once(run: Run, groups: tuple[str, ...]) -> None:
    events = [
        event(number, at=at(number % 30), key_id=f"key_{number % 7}", owner_id=f"u-{number % 2}")
        for number in range(100)
    ]

    async def story(books: Books) -> None:
        await books.take(spooled(*events))
        whole = await books.sums(*groups)
        paged: list[tuple[Any, ...]] = []
        while rows := await books.sums(
            *groups, limit=3, after=paged[-1][: -len(store.SUMS)] if paged else None
        ):
            paged += rows
        assert paged == whole
        assert sum(row[-len(store.SUMS)] for row in whole) == len(events)

    run(story)


def test_people_see_usage_by_their_keys_and_of_their_services(run: Run) -> None:
    events = [
        event(1, key_id="mine"),
        event(2, key_id="theirs", owner_id=STRANGER),
        event(3, key_id="mine-elsewhere", access_path="public/all"),
        event(4, key_id="not-mine", access_path="public/all", owner_id=STRANGER),
        event(5, key_id="not-mine-either", access_path=f"{STRANGER}/demo", owner_id=STRANGER),
    ]

    async def story(books: Books) -> None:
        await books.take(spooled(*events))
        seen = [row[0] for row in await books.sums("key", owner_id=OWNER)]
        assert seen == ["mine", "mine-elsewhere", "theirs"]

    run(story)
