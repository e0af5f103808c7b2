"""Many services and events are listed with a few queries, on both databases."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from modelry.access.store import UserRow
from modelry.db import Database, Session
from modelry.services import store
from modelry.services.listing import (
    Filter,
    count_events,
    counts_by_state,
    events_before,
    failed_logs,
    listed,
)
from modelry.services.spec import EndpointSpec, EndpointsSpec, ServiceSpec, Spec
from tests.support.postgres import Postgres

OWNER, STRANGER = "u-0123456789ab", "u-ba9876543210"
Story: TypeAlias = Callable[[Database], Awaitable[None]]
Run: TypeAlias = Callable[[Story], None]
_names = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a story on an empty database of either kind, with two users."""
    url = None
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.make_database(f"listing_{next(_names)}")

    async def play(story: Story) -> None:
        async with AsyncExitStack() as stack:
            db = Database(url, tmp_path / "modelry.db")
            stack.push_async_callback(db.close)
            await db.migrate()
            async with db.begin() as session:
                session.add_all(UserRow(id=id_, name=id_, operator=False) for id_ in USERS)
            await story(db)

    return lambda story: asyncio.run(play(story))


USERS = (OWNER, STRANGER)


def spec(model: str) -> ServiceSpec:
    return ServiceSpec(model=model, model_name=model, engine="llama.cpp", variant="Q4")


async def add(
    session: Session,
    name: str,
    *,
    owner: str = OWNER,
    state: str = "running",
    tasks: tuple[str, ...] = ("chat", "completion"),
    runs: Spec | None = None,
) -> str:
    id_ = f"svc_{owner[-1]}_{name}"
    row = store.ServiceRow(
        id=id_,
        owner_id=owner,
        name=name,
        tasks=list(tasks),
        want="run",
        since=store.now(),
        revision=1,
        state=state,
        message="",
    )
    session.add(row)
    await session.flush()
    stored = (runs or spec("small")).model_dump(mode="json")
    session.add(store.RevisionRow(service_id=id_, number=1, spec=stored))
    return id_


async def names(db: Database, limit: int = 50, offset: int = 0, **wanted: str) -> list[str]:
    async with db.begin() as session:
        found = await listed(session, Filter(OWNER, **wanted), offset, limit)
        return [each.row.name for each in found]


def test_the_newest_come_first_page_after_page_and_nobody_else_s(run: Run) -> None:
    async def story(db: Database) -> None:
        async with db.begin() as session:
            for number in range(5):
                await add(session, f"mine-{number}")
            await add(session, "foreign", owner=STRANGER)
        assert await names(db) == [f"mine-{number}" for number in (4, 3, 2, 1, 0)]
        pages = [await names(db, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert pages == [["mine-4", "mine-3"], ["mine-2", "mine-1"], ["mine-0"], []]

    run(story)


def test_a_text_is_found_in_name_path_id_and_model_whatever_its_case(run: Run) -> None:
    async def story(db: Database) -> None:
        elsewhere = EndpointsSpec(endpoints=(EndpointSpec(id="e", url="http://x/v1"),))
        async with db.begin() as session:
            await add(session, "alpha", runs=spec("Qwen3-0.6B"))
            await add(session, "beta-100", runs=spec(f"{OWNER}/tuned"))
            await add(session, "gamma", runs=elsewhere)
        assert await names(db, text="ALPH") == ["alpha"]
        assert await names(db, text="qwen3") == ["alpha"]
        assert await names(db, text=f"{OWNER}/gam") == ["gamma"]
        assert await names(db, text="svc_b_beta") == ["beta-100"]
        assert await names(db, text="tuned") == ["beta-100"]
        # Signs that a database takes for any others are just signs.
        assert await names(db, text="%") == []
        assert await names(db, text="beta_100") == []
        assert await names(db, text="alpha\0") == []

    run(story)


def test_states_are_counted_whichever_is_looked_at(run: Run) -> None:
    async def story(db: Database) -> None:
        async with db.begin() as session:
            await add(session, "one")
            await add(session, "two", state="failed", tasks=("embedding",))
            await add(session, "three", tasks=("image",))
        assert await names(db, state="failed") == ["two"]
        assert await names(db, task="image") == ["three"]
        # A task's name within another's is none.
        assert await names(db, task="chat") == ["one"]
        async with db.begin() as session:
            everything = await counts_by_state(session, Filter(OWNER, state="failed"))
            images = await counts_by_state(session, Filter(OWNER, task="image"))
        assert everything == {"running": 2, "failed": 1}
        assert images == {"running": 1}

    run(story)


def test_ready_replicas_are_counted(run: Run) -> None:
    async def story(db: Database) -> None:
        async with db.begin() as session:
            busy = await add(session, "busy")
            await add(session, "quiet")
            for number, state in enumerate(("ready", "ready", "starting", "failed")):
                replica = store.ReplicaRow(id=f"rep_{number}", service_id=busy, revision=1)
                replica.state = state
                session.add(replica)
        async with db.begin() as session:
            found = await listed(session, Filter(OWNER), 0, 50)
        assert {each.row.name: each.ready for each in found} == {"busy": 2, "quiet": 0}
        assert {each.spec.model_name for each in found} == {"small"}

    run(story)


def test_events_come_newest_first_and_the_last_log_of_each_failure_is_known(run: Run) -> None:
    async def story(db: Database) -> None:
        async with db.begin() as session:
            id_ = await add(session, "one")
            for number in range(5):
                tail = [f"line {number}"] if number % 2 else None
                event = store.EventRow(service_id=id_, state="failed", message=str(number))
                event.replica_id, event.log_tail = f"rep_{number % 3}", tail
                session.add(event)
                await session.flush()
        async with db.begin() as session:
            assert await count_events(session, id_) == 5
            assert await count_events(session, "svc_other") == 0
            told = [each.message for each in await events_before(session, id_, 1, 2)]
            logs = {each.replica_id: each.log_tail for each in await failed_logs(session, id_)}
        assert told == ["3", "2"]
        assert logs == {"rep_1": ["line 1"], "rep_0": ["line 3"]}

    run(story)
