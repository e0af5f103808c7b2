"""Services that are changed while they serve: a real database, and processes as they are told."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.engines.base import Engine, Failure, ReplicaPlan
from modelry.engines.inventory import Gpu, Inventory
from modelry.errors import Conflict
from modelry.executors.base import Observed, ProcessState
from modelry.routing.messages import Route, Wake
from modelry.services import store
from modelry.services.changes import Change
from modelry.services.drafts import Wish
from modelry.services.reconciler import Reconciler
from modelry.services.situation import Want
from modelry.services.spec import Replicas, ServiceSpec
from tests.integration.test_reconciler import (
    MODEL,
    OnGpu,
    Processes,
    World,
    offer_own_card,
    world_of,
)
from tests.support.postgres import Postgres

_names = itertools.count(1)
STARTING, READY, EXITED = ProcessState.STARTING, ProcessState.READY, ProcessState.EXITED


class Told(Processes):
    """Processes that load until they are told that they are ready, or that they are over."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, Failure] = {}

    async def start(self, plan: ReplicaPlan, engine: Engine) -> None:
        self.plans.append(plan)
        self.states[plan.replica_id] = STARTING

    def observe(self) -> Mapping[str, Observed]:
        found = super().observe()
        return {id_: replace(seen, failure=self.failures.get(id_)) for id_, seen in found.items()}

    def in_state(self, state: ProcessState) -> list[str]:
        return [id_ for id_, found in self.states.items() if found is state]

    def loaded(self) -> list[str]:
        """Let all that load be ready; returns them."""
        ids = self.in_state(STARTING)
        self.states |= dict.fromkeys(ids, READY)
        return ids

    def break_down(self, why: str) -> None:
        """Let all that load fail for good."""
        for id_ in self.in_state(STARTING):
            self.states[id_], self.failures[id_] = EXITED, Failure(why, lasting=True)


class Stage:
    """A control plane and its service `demo`, which runs."""

    def __init__(self, world: World, owner: Principal) -> None:
        self.world = world
        self.owner = owner
        self.executor = world.executor = Told()
        self.reconciler: Reconciler = world.reconciler()
        self.lifecycle = world.lifecycle()

    async def deploy(self, **wish: Any) -> str:
        """Returns its replica."""
        await self.lifecycle.create(self.owner, Wish("demo", MODEL, **wish))
        await self.settle()
        (replica,) = self.executor.loaded()
        await self.settle()
        assert self.route.state == "running"
        return replica

    async def update(self, **fields: Any) -> store.ServiceRow:
        change = Change(frozenset(fields), **fields)
        row = await self.lifecycle.update(self.owner, "demo", change)
        await self.settle()
        return row

    async def settle(self) -> None:
        for _ in range(6):
            await self.reconciler.reconcile()

    async def row(self) -> store.ServiceRow:
        async with self.world.db.begin() as session:
            services, _ = await store.services_with_specs(session)
        return next(row for row in services.values() if row.name == "demo")

    async def events(self) -> list[str]:
        row = await self.row()
        async with self.world.db.begin() as session:
            return [each.message for each in await store.latest_events(session, row.id, 50)]

    @property
    def route(self) -> Route:
        routes = self.world.feed.snapshot().routes
        return next(route for route in routes if route.access_path.endswith("/demo"))

    @property
    def served_by(self) -> dict[str, int]:
        """Replica → its slots, as gateways are told."""
        return {address.id: address.slots for address in self.route.replicas}


Story = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], None]:
    async def whole(story: Story) -> None:
        async with world_of(tmp_path) as (world, owner):
            await story(Stage(world, owner))

    return lambda story: asyncio.run(whole(story))


@pytest.fixture(params=["sqlite", "postgres"])
def play_on_both(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """The same on each database."""
    url = None
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.make_database(f"updates_{next(_names)}")

    async def whole(story: Story) -> None:
        async with world_of(tmp_path, url) as (world, owner):
            await story(Stage(world, owner))

    return lambda story: asyncio.run(whole(story))


def test_the_old_revision_serves_by_its_own_spec_until_the_new_one_takes_over_at_once(
    play_on_both: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2, context_tokens=512)
        row = await stage.update(slots=6, context_tokens=1024)
        assert row.revision == 2
        (new,) = stage.executor.in_state(STARTING)
        assert [plan.slots for plan in stage.executor.plans] == [2, 6]
        assert stage.route.state == "updating"
        assert stage.route.message == "changing to revision 2"
        assert (stage.served_by, stage.route.context_tokens) == ({old: 2}, 512)
        assert stage.executor.stops == []

        told: list[tuple[list[str], int | None]] = []
        stage.world.feed.subscribe(
            lambda _: told.append(([*stage.served_by], stage.route.context_tokens))
        )
        stage.executor.loaded()
        await stage.settle()
        assert (stage.served_by, stage.route.context_tokens) == ({new: 6}, 1024)
        assert stage.route.state == "running"
        assert stage.executor.states == {new: READY}
        # There was never a route without a replica, nor one of both revisions.
        assert {tuple(each) for each, _ in told} == {(new,)}
        assert "revision 2: slots, context_tokens" in await stage.events()

    play_on_both(story)


def test_with_more_replicas_the_route_changes_once_enough_new_ones_are_ready(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2)
        await stage.update(slots=4, replicas=Replicas(min=2))
        first, second = stage.executor.in_state(STARTING)
        stage.executor.states[first] = READY
        await stage.settle()
        assert stage.served_by == {old: 2}
        stage.executor.states[second] = READY
        await stage.settle()
        assert stage.served_by == {first: 4, second: 4}
        assert stage.executor.stops == [old]

    play(story)


def test_what_no_replica_notices_replaces_none(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy()
        row = await stage.update(replicas=Replicas(min=2), idle_after_s=60.0)
        assert row.revision == 2
        assert stage.route.state == "running"
        (more,) = stage.executor.loaded()
        await stage.settle()
        assert {*stage.served_by} == {old, more}
        await stage.update(replicas=Replicas(min=1))
        assert [*stage.served_by] == [old]
        assert stage.executor.stops == [more]

    play(story)


def test_a_change_that_changes_nothing_makes_no_revision(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy(slots=2)
        before = await stage.events()
        same: dict[str, Any] = {"model": MODEL, "slots": 2, "engine": "llama.cpp"}
        for fields in ({}, same, {"idle_after_s": None}, {"replicas": None}):
            assert (await stage.update(**fields)).revision == 1
        assert await stage.events() == before
        assert len(stage.executor.plans) == 1

    play(story)


def test_a_change_is_taken_back_while_it_comes_up(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2)
        await stage.update(slots=6)
        (new,) = stage.executor.in_state(STARTING)
        assert (await stage.update(slots=2)).revision == 3
        assert stage.served_by == {old: 2}
        assert stage.route.state == "running"
        assert stage.executor.stops == [new]
        assert len(stage.executor.plans) == 2

    play(story)


def test_of_two_changes_quickly_after_another_the_last_one_counts(
    play_on_both: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2)
        changes = [Change(frozenset({"slots"}), slots=slots) for slots in (3, 4)]
        await asyncio.gather(
            *(stage.lifecycle.update(stage.owner, "demo", change) for change in changes)
        )
        await stage.settle()
        await stage.update(slots=5)
        assert (await stage.row()).revision == 4
        assert stage.served_by == {old: 2}
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert stage.served_by == {new: 5}
        assert stage.executor.states == {new: READY}

    play_on_both(story)


def test_a_revision_that_does_not_start_leaves_the_old_one_serving_and_another_mends_it(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2)
        row = await stage.update(slots=6)
        stage.executor.break_down("it knows no such thing")
        await stage.settle()
        assert stage.route.message == (
            "revision 2 does not start: it knows no such thing; the one before serves on"
        )
        assert stage.route.state == "updating"
        assert stage.served_by == {old: 2}
        assert row.id in stage.reconciler.stuck
        assert len(stage.executor.plans) == 2

        await stage.update(slots=4)
        assert row.id not in stage.reconciler.stuck
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert (stage.route.state, stage.served_by) == ("running", {new: 4})

    play(story)


def test_a_new_control_plane_carries_a_change_on(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        old = await stage.deploy(slots=2)
        await stage.update(slots=6)
        stage.reconciler = stage.world.reconciler()
        await stage.settle()
        assert stage.served_by == {old: 2}
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert stage.served_by == {new: 6}
        assert stage.executor.states == {new: READY}

    play(story)


def test_a_stopped_service_is_changed_without_being_started(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy(slots=2)
        await stage.lifecycle.stop(stage.owner, "demo")
        await stage.settle()
        assert (await stage.update(slots=6)).revision == 2
        assert stage.route.state == "stopped"
        assert stage.executor.states == {}
        await stage.lifecycle.start(stage.owner, "demo")
        await stage.settle()
        assert stage.executor.plans[-1].slots == 6

    play(story)


def test_an_idle_service_stays_idle_and_wakes_as_it_is_wanted_now(
    play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        stage.world.activity.gateway_connected(1)
        await stage.deploy(slots=2, idle_after_s=60.0)
        now = store.now
        monkeypatch.setattr(store, "now", lambda: now() + timedelta(seconds=90))
        await stage.settle()
        assert stage.route.state == "idle"
        row = await stage.update(slots=6)
        assert (stage.route.state, stage.executor.states) == ("idle", {})
        stage.world.activity.wake(Wake(row.id))
        await stage.settle()
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert stage.served_by == {new: 6}

    play(story)


def test_a_change_starts_a_failed_service_afresh(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        wish = Wish("demo", MODEL, slots=2, idle_after_s=60.0)
        await stage.lifecycle.create(stage.owner, wish)
        await stage.settle()
        stage.executor.break_down("too much")
        await stage.settle()
        assert stage.route.state == "failed"
        assert (await stage.update(slots=2)).revision == 1
        assert stage.route.state == "failed"
        await stage.update(slots=1)
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert (stage.route.state, stage.served_by) == ("running", {new: 1})

    play(story)


def test_a_full_machine_is_told_of_and_the_old_revision_serves(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        inventory = Inventory(2, 8 * 1024**3, (Gpu(3, "small", 8 * 1024**3),))
        stage.world.machine = replace(
            stage.world.machine, engines={"llama.cpp": OnGpu()}, inventory=inventory
        )
        stage.reconciler, stage.lifecycle = stage.world.reconciler(), stage.world.lifecycle()
        old = await stage.deploy(slots=2)
        row = await stage.update(slots=6)
        assert "waits for a GPU that nobody else uses; the one before serves on" in (
            stage.route.message
        )
        assert row.id in stage.reconciler.stuck
        assert stage.served_by == {old: 2}
        # As it says.
        await stage.lifecycle.stop(stage.owner, "demo")
        await stage.settle()
        await stage.lifecycle.start(stage.owner, "demo")
        await stage.settle()
        (new,) = stage.executor.loaded()
        await stage.settle()
        assert (stage.route.state, stage.served_by) == ("running", {new: 6})

    play(story)


def test_another_model_brings_its_tasks_when_it_takes_over(
    play: Callable[[Story], None], tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        offer_own_card(stage.world, tmp_path / "cards")
        stage.reconciler, stage.lifecycle = stage.world.reconciler(), stage.world.lifecycle()
        await stage.deploy()
        before = stage.route.tasks
        assert "completion" in before
        row = await stage.update(model="own")
        assert row.tasks == ["chat"]
        assert stage.route.tasks == before
        stage.executor.loaded()
        await stage.settle()
        assert stage.route.tasks == ("chat",)
        assert stage.executor.plans[-1].weights.name == "own.gguf"
        assert stage.executor.plans[-1].tasks == ("chat",)

    play(story)


async def add_guest(stage: Stage, base: store.ServiceRow, want: Want = Want.RUN) -> str:
    """A service whose adapter stands on the replicas of another; returns its id."""
    async with stage.world.db.begin() as session:
        spec = await store.spec_of(session, base)
        assert isinstance(spec, ServiceSpec)
        its = spec.model_copy(update={"adapter": "mdl_1", "adapter_name": "words", "host": base.id})
        session.add(
            store.ServiceRow(
                id="svc_guest", owner_id=base.owner_id, name="words", tasks=["chat"], want=want,
                since=store.now(), revision=1, state="", message="",
            )
        )  # fmt: skip
        await session.flush()
        stored = its.model_dump(mode="json")
        session.add(store.RevisionRow(service_id="svc_guest", number=1, spec=stored))
    return "svc_guest"


def test_what_stands_on_its_replicas_is_changed_with_it(
    play_on_both: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy(slots=2)
        guest_id = await add_guest(stage, await stage.row())
        await stage.update(slots=6)
        async with stage.world.db.begin() as session:
            guest = await store.service_by_id(session, guest_id)
            assert guest is not None
            spec = await store.spec_of(session, guest)
        assert guest.revision == 2
        assert isinstance(spec, ServiceSpec)
        assert (spec.slots, spec.adapter, spec.host) == (6, "mdl_1", (await stage.row()).id)

    play_on_both(story)


def test_other_weights_are_refused_while_adapters_stand_on_its_replicas(
    play: Callable[[Story], None], tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        offer_own_card(stage.world, tmp_path / "cards")
        stage.reconciler, stage.lifecycle = stage.world.reconciler(), stage.world.lifecycle()
        await stage.deploy()
        await add_guest(stage, await stage.row())
        with pytest.raises(Conflict) as caught:
            await stage.update(model="own")
        assert (caught.value.code, caught.value.param) == ("service_has_adapters", "model")
        assert "words" in caught.value.message
        assert (await stage.row()).revision == 1

    play(story)


def test_a_service_on_the_replicas_of_its_base_has_nothing_of_its_own_to_change(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy()
        await add_guest(stage, await stage.row())
        change = Change(frozenset({"slots"}), slots=9)
        with pytest.raises(Conflict) as caught:
            await stage.lifecycle.update(stage.owner, "words", change)
        assert caught.value.code == "service_is_hosted"
        assert caught.value.hint

    play(story)


def test_old_revisions_go_but_for_those_that_serve(
    play_on_both: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy(slots=2)
        for slots in (3, 4, 5):
            await stage.update(slots=slots)
        row = await stage.row()
        async with stage.world.db.begin() as session:
            await store.prune_revisions(session, 2)
        async with stage.world.db.begin() as session:
            left = await store.revisions_of(session, row.id)
        # The first one serves, since none of the others has become ready.
        assert [each.number for each in left] == [1, 3, 4]
        stage.executor.loaded()
        await stage.settle()
        async with stage.world.db.begin() as session:
            await store.prune_revisions(session, 2)
        async with stage.world.db.begin() as session:
            left = await store.revisions_of(session, row.id)
        assert [each.number for each in left] == [3, 4]

    play_on_both(story)


def test_events_name_what_changed_and_tell_no_values(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        await stage.deploy()
        await stage.update(engine_args=("--threads", "1"), slots=2)
        told = await stage.events()
        assert "revision 2: engine_args, slots" in told
        assert not any("--threads" in each for each in told)

    play(story)
