"""A reconciler that dies between two lines: the next one carries on."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from modelry.access.bootstrap import ensure_operator
from modelry.access.principal import Principal, principal_of
from modelry.catalog.card_folder import Cards
from modelry.catalog.cards import load_cards
from modelry.catalog.catalog import Catalog
from modelry.catalog.choice import Machine
from modelry.catalog.conversions import Conversions
from modelry.catalog.fetches import Fetches
from modelry.catalog.offers import Offers
from modelry.catalog.weights import Weights, WeightsStore
from modelry.db import Database
from modelry.engines.base import Endpoint, Engine, ReplicaPlan
from modelry.engines.installer import Runtimes
from modelry.engines.inventory import Gpu, Inventory
from modelry.engines.llama_cpp import LlamaCpp
from modelry.errors import NotFound
from modelry.executors.base import Observed, ProcessState
from modelry.routing.feed import Feed
from modelry.sealing import Sealer
from modelry.services import store
from modelry.services.activity import Activity
from modelry.services.drafts import Wish
from modelry.services.hosting import Hosting
from modelry.services.lifecycle import Lifecycle
from modelry.services.reconciler import Reconciler
from modelry.services.supplies import Supplies

MODEL = "smollm2-135m-instruct"


class Died(Exception):
    """The process is gone at this line."""


class Processes:
    """An executor whose processes are entries of a dictionary."""

    def __init__(self) -> None:
        self.states: dict[str, ProcessState] = {}
        self.stops: list[str] = []
        self.plans: list[ReplicaPlan] = []

    async def adopt(self, engines: Mapping[str, Engine]) -> None:
        """They are all known."""

    async def start(self, plan: ReplicaPlan, engine: Engine) -> None:
        await asyncio.sleep(0.05)
        self.plans.append(plan)
        self.states[plan.replica_id] = ProcessState.READY

    def stop(self, replica_id: str, grace_s: float) -> None:
        self.stops.append(replica_id)
        self.states[replica_id] = ProcessState.EXITED

    def forget(self, replica_id: str) -> None:
        if self.states.get(replica_id) is ProcessState.EXITED:
            del self.states[replica_id]

    def observe(self) -> Mapping[str, Observed]:
        endpoint = Endpoint("unix:/nowhere", "secret")
        gpus = {plan.replica_id: plan.gpus for plan in self.plans}
        return {
            id_: Observed(
                replica_id=id_,
                state=state,
                node="here",
                endpoint=endpoint,
                gpus=() if state is ProcessState.EXITED else gpus.get(id_, ()),
            )
            for id_, state in self.states.items()
        }

    def log_tail(self, replica_id: str, lines: int) -> list[str]:
        return []

    async def follow_log(self, replica_id: str, lines: int) -> AsyncIterator[str]:
        if lines < 0:
            yield ""

    async def close(self) -> None:
        """Nothing is watched."""


class World:
    """A control plane's parts without its processes; `reconciler` can be made anew."""

    def __init__(self, folder: Path, db: Database) -> None:
        self.db = db
        self.executor = Processes()
        self.machine = Machine({"llama.cpp": LlamaCpp()}, {}, Inventory(2, 8 * 1024**3))
        self.hosting = Hosting()
        self.catalog = Catalog(Cards())
        store = self.weights = WeightsStore(folder / "weights")
        variant = load_cards()[MODEL].default_variant
        file = folder / "model.gguf"
        file.write_bytes(b"x")
        digest = variant.sha256 or ""
        store.remember(variant, Weights(file, 1, digest), [(file, file.stat())])
        runtimes = Runtimes(folder / "runtimes", {})
        self.fetches = Fetches(store)
        self.supplies = Supplies(self.fetches, Conversions(store), runtimes)
        self.activity = Activity()
        self.feed = Feed()
        self.sealer = Sealer(folder / "secret.key")
        self.dying = False

    def reconciler(self) -> Reconciler:
        self.feed = Feed()

        async def published() -> None:
            if self.dying:
                raise Died

        return Reconciler(
            self.db,
            self.catalog,
            self.supplies,
            self.executor,
            self.machine,
            self.hosting,
            self.activity,
            self.feed,
            published,
            drain_timeout_s=1,
        )

    def lifecycle(self) -> Lifecycle:
        return Lifecycle(
            self.db,
            self.catalog,
            self.supplies,
            self.hosting,
            self.machine,
            Offers(self.machine, self.fetches),
            self.sealer,
            lambda: None,
        )


@asynccontextmanager
async def world_of(folder: Path, url: str | None = None) -> AsyncIterator[tuple[World, Principal]]:
    db = Database(url, folder / "modelry.db")
    await db.migrate()
    async with db.begin() as session:
        user, _ = await ensure_operator(session, None, None)
    try:
        yield World(folder, db), principal_of(user)
    finally:
        await db.close()


async def settle(reconciler: Reconciler) -> None:
    for _ in range(6):
        await reconciler.reconcile()


OWN_CARD = """\
id: own
name: Own
provider: Me
licence: MIT
description: One that the operator offers.
tasks: [chat]
variants:
  - name: only
    format: gguf
    source: file://{file}
    engine_args: {{llama.cpp: [--threads, "1"], other: [--less]}}
"""


def offer_own_card(world: World, folder: Path) -> Path:
    """Let the operator's folder have a card whose weights are here; returns its file."""
    folder.mkdir()
    weights = folder / "own.gguf"
    weights.write_bytes(b"x")
    file = folder / "own.yaml"
    file.write_text(OWN_CARD.format(file=weights))
    world.catalog = Catalog(Cards(folder))
    variant = world.catalog.cards.current()["own"].default_variant
    found = Weights(weights, 1, "0" * 64)
    world.weights.remember(variant, found, [(weights, weights.stat())])
    return file


def test_a_cards_arguments_for_the_engine_reach_its_replicas(tmp_path: Path) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            offer_own_card(world, tmp_path / "cards")
            await world.lifecycle().create(owner, Wish("mine", "own"))
            await settle(world.reconciler())
            (plan,) = world.executor.plans
            assert plan.options.arguments == ("--threads", "1")

    asyncio.run(story())


class Reading(LlamaCpp):
    """Reads of weights whether they take images, if the database lets others write meanwhile."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self.database = database
        self.read: list[Path] = []

    def reads_images(self, weights: Path) -> bool:
        with contextlib.closing(sqlite3.connect(self.database, timeout=0)) as connection:
            connection.execute("begin immediate")
        self.read.append(weights)
        return False


def test_weights_are_read_once_and_outside_the_transaction(tmp_path: Path) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            engine = Reading(tmp_path / "modelry.db")
            world.machine = replace(world.machine, engines={"llama.cpp": engine})
            await world.lifecycle().create(owner, Wish("demo", MODEL))
            await settle(world.reconciler())
            assert list(world.executor.states.values()) == [ProcessState.READY]
            assert engine.read == [tmp_path / "model.gguf"]
            (route,) = world.feed.snapshot().routes
            assert not route.images

    asyncio.run(story())


def test_a_service_outlives_the_card_it_was_made_from(tmp_path: Path) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            card = offer_own_card(world, tmp_path / "cards")
            await world.lifecycle().create(owner, Wish("mine", "own"))
            reconciler = world.reconciler()
            await settle(reconciler)
            card.unlink()
            await settle(reconciler)
            assert list(world.executor.states.values()) == [ProcessState.READY]
            assert world.executor.stops == []
            with pytest.raises(NotFound):
                await world.lifecycle().create(owner, Wish("more", "own"))

    asyncio.run(story())


@pytest.mark.parametrize("verb", ["delete", "stop"])
def test_a_drain_that_was_begun_is_carried_on_by_the_next_one(tmp_path: Path, verb: str) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            first = world.reconciler()
            await world.lifecycle().create(owner, Wish("demo", MODEL))
            await settle(first)
            (replica,) = world.executor.states
            assert world.executor.states[replica] is ProcessState.READY

            world.dying = True
            await getattr(world.lifecycle(), verb)(owner, "demo")
            await first.reconcile()
            assert world.executor.stops == []

            world.dying = False
            await settle(world.reconciler())
            assert world.executor.stops == [replica]
            assert world.executor.states == {}

    asyncio.run(story())


def test_a_pass_whose_caller_is_gone_is_finished(tmp_path: Path) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            reconciler = world.reconciler()
            await world.lifecycle().create(owner, Wish("demo", MODEL))
            caller = asyncio.create_task(reconciler.reconcile())
            await asyncio.sleep(0.03)
            caller.cancel()
            await reconciler.end()
            assert list(world.executor.states.values()) == [ProcessState.READY]

    asyncio.run(story())


class OnGpu(LlamaCpp):
    """An engine each replica of which has a GPU to itself."""

    def gpus(self, inventory: Inventory) -> int:
        return 1


def test_who_finds_no_free_gpu_waits_for_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with world_of(tmp_path) as (world, owner):
            gpu = Gpu(3, "small", 8 * 1024**3)
            inventory = Inventory(2, 8 * 1024**3, (gpu,))
            world.machine = Machine({"llama.cpp": OnGpu()}, {}, inventory)
            lifecycle, reconciler = world.lifecycle(), world.reconciler()
            await lifecycle.create(owner, Wish("first", MODEL))
            await settle(reconciler)
            await lifecycle.create(owner, Wish("second", MODEL))
            await settle(reconciler)
            assert [plan.gpus for plan in world.executor.plans] == [(3,)]
            second = await found(world, owner, "second")
            assert (second.state, second.message) == (
                "starting", "waits for a GPU that nobody else uses",
            )  # fmt: skip
            # However long that takes, it has not failed.
            await settle(reconciler)
            assert (await found(world, owner, "second")).state == "starting"
            await lifecycle.stop(owner, "first")
            await settle(reconciler)
            assert (await found(world, owner, "second")).state == "running"
            assert [plan.gpus for plan in world.executor.plans] == [(3,), (3,)]

    asyncio.run(story())


async def found(world: World, owner: Principal, name: str) -> store.ServiceRow:
    async with world.db.begin() as session:
        row = await store.find_service(session, owner.owner_id, name)
    assert row is not None
    return row
