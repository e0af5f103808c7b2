"""When services are probed, and what is kept of it: over a real database, without a gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.routing.messages import KeyGrant, Load, ServiceLoad
from modelry.services.conformance import probing, store
from modelry.services.conformance.caller import Answer, Interrupted, Json
from modelry.services.conformance.probing import Conformance
from modelry.services.conformance.report import State
from modelry.services.conformance.views import ReportView, report_view
from modelry.services.drafts import Wish
from modelry.services.elsewhere import EndpointWish
from modelry.services.lifecycle import Connection
from modelry.services.store import ServiceRow, service_by_id, spec_of
from tests.integration.test_reconciler import MODEL, World, world_of
from tests.unit.model_services import ModelService

GATEWAY = 1
ELSEWHERE = Connection("hosted", (EndpointWish("http://127.0.0.1:9/v1", None, None, 1),), ("chat",))


class Stage:
    """A control plane with a gateway, and what its probes ask: `service` for all."""

    def __init__(self, world: World, owner: Principal) -> None:
        self.world = world
        self.owner = owner
        self.reconciler = world.reconciler()
        self.lifecycle = world.lifecycle()
        self.service: ModelService = ModelService()
        self.keys: list[KeyGrant] = []
        """Those in the feed when a probe began."""
        self.on_deploy = True
        self._task: asyncio.Task[None] | None = None
        world.activity.gateway_connected(GATEWAY)

    async def begin(self) -> None:
        """A new control plane's probing, as far as that is."""
        await self.end()

        async def published() -> None: ...

        @asynccontextmanager
        async def call(key: str, is_there: Callable[[], bool]) -> AsyncIterator[ModelService]:
            self.keys += self.world.feed.snapshot().keys
            self.is_there = is_there
            yield self.service

        self.conformance = Conformance(
            self.world.db,
            self.world.feed,
            self.world.activity,
            self.world.machine.engines,
            published,
            call,
            on_deploy=self.on_deploy,
        )
        self._task = asyncio.create_task(self.conformance.run())

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def settle(self) -> None:
        for _ in range(6):
            await self.reconciler.reconcile()

    async def deploy(self, name: str = "demo", **wish: Any) -> ServiceRow:
        row = await self.lifecycle.create(self.owner, Wish(name, MODEL, **wish))
        await self.settle()
        return row

    async def report(self, row: ServiceRow) -> ReportView:
        async with self.world.db.begin() as session:
            service = await service_by_id(session, row.id)
            assert service is not None
            spec = await spec_of(session, service)
            found = await store.report_of(session, row.id)
        return report_view(service, spec, found, self.conformance)

    async def until(self, row: ServiceRow, *states: State) -> ReportView:
        async with asyncio.timeout(20):
            while (report := await self.report(row)).state not in states:
                await asyncio.sleep(0.02)
        return report

    def load(self, row: ServiceRow, inflight: int) -> None:
        now = asyncio.get_running_loop().time()
        load = ServiceLoad(inflight, 0, now)
        self.world.activity.load(GATEWAY, Load({row.id: load}))


Story = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    monkeypatch.setattr(probing, "_QUIET_S", 0.1)
    monkeypatch.setattr(probing, "_LOOK_S", 0.02)
    monkeypatch.setattr(probing, "_AGAIN_S", 0.05)

    async def whole(story: Story) -> None:
        async with world_of(tmp_path) as (world, owner):
            stage = Stage(world, owner)
            # Known from three seconds after a gateway has connected.
            monkeypatch.setattr(world.activity, "known_from", lambda: object())
            await stage.begin()
            try:
                await story(stage)
            finally:
                await stage.end()

    return lambda story: asyncio.run(whole(story))


def test_a_service_is_probed_once_it_runs_with_a_key_of_the_feed_alone(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        row = await stage.deploy()
        report = await stage.until(row, State.DONE)
        assert (report.service_id, report.revision) == (row.id, 1)
        assert report.engine is not None
        assert report.engine.startswith("llama.cpp 20")
        assert report.started_at is not None
        assert report.finished_at is not None
        assert {check.task for check in report.checks} <= {*row.tasks}
        assert [check.result for check in report.checks if check.name == "chat.n"] == ["supported"]
        assert " supported" in report.summary
        (key,) = stage.keys
        assert (key.probe, key.services, key.owner_id) == (True, (row.access_path,), row.owner_id)
        assert key.expires_at is not None
        assert stage.world.feed.snapshot().keys == ()

    play(story)


def test_it_is_probed_once_for_what_it_is_and_again_for_another_engine(
    play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        row = await stage.deploy()
        first = await stage.until(row, State.DONE)
        await stage.begin()
        other = await stage.deploy("other")
        # It has been looked at before the other is: it runs for longer.
        await stage.until(other, State.DONE)
        assert await stage.report(row) == first
        engine = type(stage.world.machine.engines["llama.cpp"])
        monkeypatch.setattr(engine, "version", "2099.1")
        await stage.begin()

        async with asyncio.timeout(20):
            while (await stage.report(row)).engine != "llama.cpp 2099.1":
                await asyncio.sleep(0.02)

    play(story)


def test_a_service_that_is_called_is_left_alone_until_it_is_quiet(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        row = await stage.lifecycle.create(stage.owner, Wish("demo", MODEL))
        stage.load(row, 1)
        await stage.settle()
        other = await stage.deploy("other")
        await stage.until(other, State.DONE)
        assert (await stage.report(row)).state is State.PENDING
        stage.load(row, 0)
        await stage.until(row, State.DONE)

    play(story)


def test_on_request_a_service_is_probed_again_although_it_is_called(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        row = await stage.deploy()
        first = await stage.until(row, State.DONE)
        stage.load(row, 1)
        await stage.conformance.request(row)
        async with asyncio.timeout(20):
            while (await stage.report(row)).started_at == first.started_at:
                await asyncio.sleep(0.02)
        await stage.until(row, State.DONE)

    play(story)


def test_services_elsewhere_and_those_of_an_instance_that_says_so_are_probed_on_request_alone(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        hosted = await stage.lifecycle.connect(stage.owner, ELSEWHERE)
        await stage.settle()
        await stage.until(await stage.deploy(), State.DONE)
        waiting = await stage.report(hosted)
        assert (waiting.state, waiting.checks) == (State.PENDING, [])
        assert "may cost money" in waiting.summary
        stage.on_deploy = False
        await stage.begin()
        second = await stage.deploy("second")
        await stage.conformance.request(hosted)
        report = await stage.until(hosted, State.DONE)
        assert report.engine == "elsewhere"
        skipped = {check.name for check in report.checks if check.result == "skipped"}
        assert {"chat.cancellation", "chat.context_overflow"} <= skipped
        assert "MODELRY_CONFORMANCE" in (await stage.report(second)).summary

    play(story)


class Stopping(ModelService):
    """Whoever asks it learns that it has stopped, `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.probes = 0

    async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
        if self.times:
            self.times -= 1
            self.probes += 1
            raise Interrupted("the service stopped meanwhile")
        return await super().ask(path, body, file)


def test_a_probe_that_broke_off_says_so_and_is_made_again(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        stage.service = Stopping(times=1)
        row = await stage.deploy()
        report = await stage.until(row, State.FAILED)
        assert "stopped meanwhile" in report.summary
        assert "made again" in report.summary
        await stage.until(row, State.DONE)

    play(story)


def test_a_service_that_a_probe_never_gets_through_is_given_up_until_it_is_asked_for(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        stage.service = stopping = Stopping(times=3)
        row = await stage.deploy()

        async with asyncio.timeout(20):
            while "on request" not in (await stage.report(row)).summary:
                await asyncio.sleep(0.02)
        await stage.until(await stage.deploy("other"), State.DONE)
        assert ((await stage.report(row)).state, stopping.probes) == (State.FAILED, 3)
        await stage.conformance.request(row)
        await stage.until(row, State.DONE)

    play(story)


def test_a_probe_knows_when_its_service_goes(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        going = asyncio.Event()

        class Held(ModelService):
            async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
                going.set()
                while stage.is_there():
                    await asyncio.sleep(0.01)
                raise Interrupted("the service stopped meanwhile")

        stage.service = Held()
        row = await stage.deploy()
        async with asyncio.timeout(20):
            await going.wait()
        assert (await stage.report(row)).state is State.RUNNING
        await stage.lifecycle.stop(stage.owner, "demo")
        await stage.settle()
        await stage.until(row, State.FAILED)
        stage.service = ModelService()
        await stage.lifecycle.start(stage.owner, "demo")
        await stage.settle()
        await stage.until(row, State.DONE)

    play(story)


def test_a_request_for_a_service_that_does_not_run_waits_and_outlasts_a_restart(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        stage.on_deploy = False
        await stage.begin()
        row = await stage.deploy()
        await stage.lifecycle.stop(stage.owner, "demo")
        await stage.settle()
        await stage.conformance.request(row)
        waiting = await stage.report(row)
        assert (waiting.state, "asked for" in waiting.summary) == (State.PENDING, True)
        await stage.begin()
        await stage.lifecycle.start(stage.owner, "demo")
        await stage.settle()
        await stage.until(row, State.DONE)

    play(story)


def test_a_report_that_an_earlier_process_was_making_is_made_anew(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        row = await stage.deploy()
        async with stage.world.db.begin() as session:
            report = await store.ensure_report(session, row.id)
            report.state = State.RUNNING
        await stage.begin()
        await stage.until(row, State.DONE)

    play(story)


def test_results_so_far_are_shown_while_a_probe_is_under_way(play: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        go = asyncio.Event()

        class Gated(ModelService):
            asked = 0

            async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
                self.asked += 1
                if self.asked == 2:
                    await go.wait()
                return await super().ask(path, body, file)

        stage.service = Gated()
        row = await stage.deploy()
        await stage.until(row, State.RUNNING)
        async with asyncio.timeout(20):
            while not (so_far := await stage.report(row)).checks:
                await asyncio.sleep(0.02)
        assert [check.name for check in so_far.checks] == ["chat.answer"]
        assert "1 checks so far" in so_far.summary or "under way" in so_far.summary
        go.set()
        await stage.until(row, State.DONE)

    play(story)


def test_a_service_that_is_deleted_meanwhile_leaves_no_report(
    play: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        go = asyncio.Event()

        class Gated(ModelService):
            async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
                await go.wait()
                return await super().ask(path, body, file)

        stage.service = Gated()
        row = await stage.deploy()
        await stage.until(row, State.RUNNING)
        await stage.lifecycle.delete(stage.owner, "demo")
        await stage.settle()
        go.set()
        other = await stage.deploy("other")
        await stage.until(other, State.DONE)
        async with stage.world.db.begin() as session:
            assert await store.report_of(session, row.id) is None

    play(story)


def test_what_nobody_expected_ends_a_probe_in_words_and_not_the_probing(
    play: Callable[[Story], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def story(stage: Stage) -> None:
        class Broken(ModelService):
            async def ask(self, path: str, body: Json, file: Any = None) -> Answer:
                raise RuntimeError("of no kind that checks know")

        stage.service = Broken()
        row = await stage.deploy()
        report = await stage.until(row, State.FAILED)
        assert "unexpected" in report.summary
        assert "of no kind that checks know" in caplog.text
        stage.service = ModelService()
        await stage.until(row, State.DONE)

    play(story)
