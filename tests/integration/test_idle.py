"""Services that go idle and are woken, with time that passes as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelry.access.principal import Principal
from modelry.executors.base import ProcessState
from modelry.routing.messages import Load, Route, ServiceLoad, Wake
from modelry.services import store
from modelry.services.activity import Activity
from modelry.services.drafts import Wish
from modelry.services.plan import REPORTED_WITHIN
from modelry.services.reconciler import Reconciler
from tests.integration.test_reconciler import MODEL, Processes, World, world_of

GATEWAY = 1
IDLE_AFTER_S = 600.0
QUIET_S = IDLE_AFTER_S + REPORTED_WITHIN.total_seconds()


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


class Lingering(Processes):
    """Its replicas still have something to finish when they are stopped, if they are to."""

    lingers = False

    def stop(self, replica_id: str, grace_s: float) -> None:
        super().stop(replica_id, grace_s)
        if self.lingers:
            self.states[replica_id] = ProcessState.STOPPING


class Stage:
    """A control plane and its one service; a gateway is connected to it."""

    def __init__(self, world: World, owner: Principal, clock: Clock) -> None:
        self.world = world
        self.executor = world.executor = Lingering()
        self.owner = owner
        self.clock = clock
        self.id = ""
        self.restart()

    def restart(self) -> None:
        """A new control plane: no gateway has found it yet."""
        self.activity = self.world.activity = Activity(self.clock)
        self.reconciler: Reconciler = self.world.reconciler()

    async def settle(self) -> None:
        for _ in range(6):
            await self.reconciler.reconcile()

    async def row(self) -> store.ServiceRow:
        async with self.world.db.begin() as session:
            services, _ = await store.services_with_specs(session)
            return services[self.id]

    @property
    def route(self) -> Route:
        (route,) = self.world.feed.snapshot().routes
        return route

    @property
    def running(self) -> list[str]:
        states = self.executor.states
        return [id_ for id_, state in states.items() if state is ProcessState.READY]

    def report(self, *, inflight: int = 0, waiting: int = 0) -> None:
        load = ServiceLoad(inflight, waiting, self.clock().timestamp())
        self.activity.load(GATEWAY, Load({self.id: load}))


Story = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    """Plays a story that begins with a service that runs."""
    clock = Clock()
    monkeypatch.setattr(store, "now", clock)

    @asynccontextmanager
    async def set_up() -> AsyncIterator[Stage]:
        async with world_of(tmp_path) as (world, owner):
            stage = Stage(world, owner, clock)
            stage.activity.gateway_connected(GATEWAY)
            row = await world.lifecycle().create(
                owner, Wish("demo", MODEL, idle_after_s=IDLE_AFTER_S)
            )
            stage.id = row.id
            await stage.settle()
            assert stage.route.state == "running"
            assert len(stage.running) == 1
            yield stage

    async def whole(story: Story) -> None:
        async with set_up() as stage:
            await story(stage)

    return lambda story: asyncio.run(whole(story))


async def go_idle(stage: Stage) -> None:
    stage.clock.advance(QUIET_S)
    await stage.settle()
    assert stage.route.state == "idle"


def test_a_quiet_service_goes_idle_and_a_call_wakes_it(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        (replica,) = stage.running
        stage.clock.advance(QUIET_S - 1)
        await stage.settle()
        assert stage.route.state == "running"

        stage.clock.advance(1)
        await stage.settle()
        assert (stage.route.state, stage.route.replicas) == ("idle", ())
        assert stage.executor.stops == [replica]
        assert stage.running == []
        assert (await stage.row()).message == "idle; the next call wakes it"

        stage.activity.wake(Wake(stage.id))
        await stage.reconciler.reconcile()
        assert len(stage.running) == 1
        assert stage.route.state == "starting"
        await stage.reconciler.reconcile()
        assert stage.route.state == "running"
        assert len(stage.route.replicas) == 1

        # And it has its whole time again.
        stage.clock.advance(QUIET_S - 1)
        await stage.settle()
        assert stage.route.state == "running"
        await go_idle(stage)

    play(story)


@pytest.mark.parametrize("load", [{"inflight": 1}, {"waiting": 1}])
def test_a_busy_service_keeps_its_replica(
    play: Callable[[Story], None], load: dict[str, int]
) -> None:
    async def story(stage: Stage) -> None:
        stage.report(**load)
        for _ in range(3):
            stage.clock.advance(2 * IDLE_AFTER_S)
            await stage.settle()
            assert stage.route.state == "running"
        stage.report()
        stage.clock.advance(QUIET_S - 1)
        await stage.settle()
        assert stage.route.state == "running"
        await go_idle(stage)
        assert len(stage.executor.stops) == 1

    play(story)


def test_a_restart_neither_wakes_an_idle_service_nor_forgets_how_to(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        await go_idle(stage)
        stage.restart()
        await stage.settle()
        assert (stage.route.state, stage.running) == ("idle", [])
        stage.activity.gateway_connected(GATEWAY)
        stage.clock.advance(10 * IDLE_AFTER_S)
        await stage.settle()
        assert (stage.route.state, stage.running) == ("idle", [])
        stage.activity.wake(Wake(stage.id))
        await stage.settle()
        assert (stage.route.state, len(stage.running)) == ("running", 1)

    play(story)


def test_a_wake_outlasts_a_restart(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        await go_idle(stage)
        stage.activity.wake(Wake(stage.id))
        await stage.reconciler.reconcile()
        stage.executor.states.clear()
        stage.restart()
        await stage.settle()
        stage.clock.advance(10 * IDLE_AFTER_S)
        await stage.settle()
        assert (stage.route.state, len(stage.running)) == ("running", 1)

    play(story)


def test_a_service_keeps_its_replica_until_a_gateway_had_time_to_tell(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        stage.restart()
        stage.clock.advance(10 * IDLE_AFTER_S)
        await stage.settle()
        assert stage.route.state == "running"
        stage.activity.gateway_connected(GATEWAY)
        await stage.settle()
        assert stage.route.state == "running"
        stage.clock.advance(3)
        await stage.settle()
        assert stage.route.state == "idle"

    play(story)


def test_a_call_while_its_replicas_drain_starts_new_ones_at_once(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        stage.executor.lingers = True
        (old,) = stage.running
        await go_idle(stage)
        assert stage.executor.states == {old: ProcessState.STOPPING}

        stage.activity.wake(Wake(stage.id))
        await stage.settle()
        assert stage.route.state == "running"
        (new,) = stage.running
        assert [address.id for address in stage.route.replicas] == [new]
        assert stage.executor.states[old] is ProcessState.STOPPING

    play(story)


def test_its_owner_wakes_it_too(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        await go_idle(stage)
        await stage.world.lifecycle().start(stage.owner, "demo")
        await stage.settle()
        assert (stage.route.state, len(stage.running)) == ("running", 1)

    play(story)


def test_a_wake_of_what_is_not_idle_changes_nothing(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        stage.activity.wake(Wake(stage.id))
        stage.activity.wake(Wake("svc_never_made"))
        await stage.settle()
        assert (stage.route.state, len(stage.running)) == ("running", 1)
        await stage.world.lifecycle().stop(stage.owner, "demo")
        stage.activity.wake(Wake(stage.id))
        await stage.settle()
        assert (stage.route.state, stage.running) == ("stopped", [])

    play(story)


def test_the_last_use_is_stored_now_and_then(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        first = (await stage.row()).active_at
        assert first is not None
        for _ in range(5):
            stage.clock.advance(10)
            stage.report()
            await stage.reconciler.reconcile()
            assert (await stage.row()).active_at == first
        stage.clock.advance(10)
        stage.report()
        await stage.reconciler.reconcile()
        later = (await stage.row()).active_at
        assert later is not None
        assert later - first >= timedelta(seconds=60)

    play(story)
