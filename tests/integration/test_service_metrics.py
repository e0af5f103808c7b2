"""A service's metrics over time, through the management API, and how services are looked at."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelry.access.principal import Principal
from modelry.executors.base import Observed
from modelry.routing.messages import Load, ServiceLoad
from modelry.services.drafts import Wish
from modelry.services.sampling import Sampling
from modelry.services.store import ServiceRow
from modelry.usage.series import store
from modelry.usage.series.peaks import Peaks
from modelry.usage.series.points import Gauged
from modelry.usage.series.steps import KEPT_S, MINUTE_S, Window
from tests.integration.test_api import error_of
from tests.integration.test_reconciler import MODEL, Processes, World, settle, world_of
from tests.support.instance import Instance
from tests.support.usage import NOON, event, gateway_stand_in, spooled
from tests.support.users import add_user
from tests.support.waiting import wait_for

Json = dict[str, Any]
START = int(NOON.timestamp())
GATEWAY = 1
ENDPOINT = {"url": "http://127.0.0.1:9/v1"}
POINT = {
    "from",
    "requests",
    "errors",
    "cancelled",
    "prompt_tokens",
    "completion_tokens",
    "ttft_p50_s",
    "ttft_p95_s",
    "tokens_per_s",
    "queue_mean_s",
    "waiting",
    "inflight",
    "memory_bytes",
    "replicas",
}
_numbers = itertools.count(1)


# -- what the API says -------------------------------------------------------


@pytest.fixture
def service(api: Instance) -> Json:
    """A service that needs no weights to be there."""
    body = {"name": f"measured-{next(_numbers)}", "endpoint": ENDPOINT}
    response = api.api("POST", "/services", json=body)
    assert response.status_code == 201, response.text
    made: Json = response.json()
    return made


def send(api: Instance, service: Json, *events: Json) -> None:
    """Have a gateway send requests of the service, each with its `ago` in minutes."""
    now = datetime.now(UTC)
    metered = [
        event(
            number,
            service_id=service["id"],
            access_path=service["access_path"],
            at=(now - timedelta(minutes=given["ago"])).timestamp(),
            **{name: value for name, value in given.items() if name != "ago"},
        )
        for number, given in enumerate(events, 1)
    ]
    with gateway_stand_in(api.paths.feed_socket) as gateway:
        lines = spooled(*metered)
        assert gateway.send(f"metrics-{next(_numbers)}", lines).offset == len(lines)


def metrics(api: Instance, name: str, query: str = "", **options: Any) -> Json:
    response = api.api("GET", f"/services/{name}/metrics{query}", **options)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    assert set(found) == {"service_id", "from", "to", "step_s", "points", "totals"}
    return found


STREAMED: Json = {"stream": True, "first_token_s": 0.4, "duration_s": 2.4, "completion_tokens": 60}


def test_a_period_is_told_in_even_points_with_its_totals(api: Instance, service: Json) -> None:
    given: list[Json] = [
        {"ago": 20, **STREAMED},
        {"ago": 20, **STREAMED},
        {"ago": 40, "status": 503, "queue_s": 3.0},
        {"ago": 90},
    ]
    send(api, service, *given)
    found = metrics(api, service["name"], "?period=1h")
    assert (found["service_id"], found["step_s"]) == (service["id"], 60)
    begins = [datetime.fromisoformat(point["from"]) for point in found["points"]]
    assert begins == [
        datetime.fromisoformat(found["from"]) + timedelta(minutes=each) for each in range(60)
    ]
    assert datetime.fromisoformat(found["to"]) == begins[-1] + timedelta(minutes=1)
    assert all(set(point) == POINT for point in found["points"])
    busy = [point for point in found["points"] if point["requests"]]
    assert [(each["requests"], each["errors"]) for each in busy] == [(1, 1), (2, 0)]
    assert busy[0]["queue_mean_s"] == 3.0
    assert (busy[0]["ttft_p50_s"], busy[0]["tokens_per_s"]) == (None, None)
    assert busy[1]["tokens_per_s"] == 30.0
    assert 0.25 <= busy[1]["ttft_p50_s"] <= busy[1]["ttft_p95_s"] <= 0.5
    totals = found["totals"]
    assert set(totals) == POINT - {"from"}
    assert (totals["requests"], totals["errors"], totals["queue_mean_s"]) == (3, 1, 1.0)
    assert (totals["prompt_tokens"], totals["completion_tokens"]) == (30, 123)
    assert totals["tokens_per_s"] == 30.0


@pytest.mark.parametrize(("period", "points"), [("6h", 180), ("24h", 144), ("7d", 168)])
def test_longer_periods_have_longer_steps(
    api: Instance, service: Json, period: str, points: int
) -> None:
    send(api, service, {"ago": 90}, {"ago": 5})
    found = metrics(api, service["name"], f"?period={period}")
    assert len(found["points"]) == points
    assert sum(point["requests"] for point in found["points"]) == 2
    assert found["totals"]["requests"] == 2


def test_without_a_question_it_is_the_last_day(api: Instance, service: Json) -> None:
    found, day = metrics(api, service["name"]), metrics(api, service["name"], "?period=24h")
    assert (found["step_s"], len(found["points"])) == (day["step_s"], len(day["points"]))
    assert {point["requests"] for point in found["points"]} == {0}
    unmeasured = ("ttft_p50_s", "tokens_per_s", "queue_mean_s", "waiting", "replicas")
    assert all(found["totals"][name] is None for name in unmeasured)


def test_any_period_of_the_last_month_may_be_asked_for(api: Instance, service: Json) -> None:
    week = 7 * 24 * 60
    send(api, service, {"ago": week}, {"ago": week + 90}, {"ago": 5})
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=165)
    query = {"from": (end - timedelta(days=1)).isoformat(), "to": end.isoformat()}
    response = api.api("GET", f"/services/{service['name']}/metrics", params=query)
    found = response.json()
    assert (found["step_s"], len(found["points"])) == (3600, 24)
    assert found["totals"]["requests"] == 2


@pytest.mark.parametrize(
    ("query", "param", "told"),
    [
        ("period=2h", "period", "24h"),
        ("period=1h&from=2026-01-01", "period", "from and to"),
        ("from=yesterday", "from", "2026-01-31"),
        ("from=2020-01-01", "from", "31 days"),
        ("from=2999-01-01", "from", "before now"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_422_that_says_why(
    api: Instance, service: Json, query: str, param: str, told: str
) -> None:
    response = api.api("GET", f"/services/{service['name']}/metrics?{query}")
    assert response.status_code == 422
    error = error_of(response)
    assert error["param"] == param
    assert told in error["message"]


def test_only_its_owner_and_operators_see_them(api: Instance, service: Json) -> None:
    token = add_user(api, f"u-{next(_numbers):012x}", "measurer")
    for reference in (service["name"], service["id"], "nothing"):
        response = api.api("GET", f"/services/{reference}/metrics", token=token)
        assert response.status_code == 404
        assert error_of(response)["code"] == "service_not_found"
    assert api.api("GET", f"/services/{service['id']}/metrics", token=None).status_code == 401
    assert metrics(api, service["id"])["service_id"] == service["id"]


def test_requests_that_end_after_their_service_is_deleted_hold_nothing_up(
    api: Instance, service: Json
) -> None:
    assert api.api("DELETE", f"/services/{service['name']}").status_code == 202

    def gone() -> bool:
        return api.api("GET", f"/services/{service['name']}").status_code == 404

    wait_for(gone, "the service to be gone")
    send(api, service, {"ago": 1})
    assert api.api("GET", f"/services/{service['name']}/metrics").status_code == 404
    again = api.api("POST", "/services", json={"name": service["name"], "endpoint": ENDPOINT})
    assert again.status_code == 201
    assert metrics(api, service["name"])["totals"]["requests"] == 0


def test_the_description_of_the_api_names_every_field(api: Instance) -> None:
    described = json.loads(api.api("GET", "/openapi.json").text)
    assert "/api/v1/services/{name}/metrics" in described["paths"]
    assert set(described["components"]["schemas"]["PointView"]["properties"]) == POINT


# -- how services are looked at ----------------------------------------------


class Stage:
    """A control plane with a service, and its sampling at a time that a test sets."""

    def __init__(self, world: World, owner: Principal, row: ServiceRow) -> None:
        self.world = world
        self.owner = owner
        self.row = row
        self.peaks = Peaks()
        self.now = START + 60.0
        self.restart()

    def restart(self) -> None:
        self.sampling = Sampling(self.world.db, self.world.executor, self.peaks, lambda: self.now)

    def load(self, inflight: int, waiting: int = 0) -> None:
        load = ServiceLoad(inflight, waiting, self.now)
        self.peaks.load(GATEWAY, Load({self.row.id: load}))

    async def seen(self) -> dict[int, Gauged]:
        """Minutes after noon → what was noted."""
        window = Window(START - 600, START + 3000, MINUTE_S)
        async with self.world.db.begin() as session:
            found = await store.gauged(session, self.row.id, window)
        return {(start - START) // MINUTE_S: each for start, each in found.items()}


Story = Callable[[Stage], Awaitable[None]]
Play = Callable[[Story], None]


class Measured(Processes):
    """Processes that take ten bytes each."""

    def observe(self) -> dict[str, Observed]:
        found = super().observe()
        return {id_: replace(each, memory_bytes=10) for id_, each in found.items()}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    async def whole(story: Story) -> None:
        async with world_of(tmp_path) as (world, owner):
            world.executor = Measured()
            row = await world.lifecycle().create(owner, Wish("demo", MODEL))
            await settle(world.reconciler())
            await story(Stage(world, owner, row))

    return lambda story: asyncio.run(whole(story))


def test_the_minute_that_has_just_ended_is_noted(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.peaks.gateway_connected(GATEWAY)
        stage.load(3, waiting=2)
        stage.load(1)
        # A timer that is early by a moment, and one that is late.
        stage.now = START + 59.99
        await stage.sampling.sample()
        stage.now = START + 120.01
        await stage.sampling.sample()
        assert await stage.seen() == {0: Gauged(3, 2, 10, 1), 1: Gauged(1, 0, 10, 1)}

    play(story)


def test_a_restart_within_a_minute_takes_nothing_from_it(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.peaks.gateway_connected(GATEWAY)
        stage.load(3)
        await stage.sampling.sample()
        stage.peaks = Peaks()
        stage.restart()
        await stage.sampling.sample()
        assert await stage.seen() == {0: Gauged(3, 0, 10, 1)}

    play(story)


def test_without_a_gateway_a_load_is_not_known(play: Play) -> None:
    async def story(stage: Stage) -> None:
        await stage.sampling.sample()
        assert await stage.seen() == {0: Gauged(None, None, 10, 1)}

    play(story)


def test_a_service_that_is_stopped_leaves_no_rows(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.peaks.gateway_connected(GATEWAY)
        await stage.world.lifecycle().stop(stage.owner, "demo")
        await settle(stage.world.reconciler())
        await stage.sampling.sample()
        assert await stage.seen() == {}

    play(story)


def test_a_service_that_is_deleted_while_it_is_called_leaves_no_more_rows(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.peaks.gateway_connected(GATEWAY)
        stage.load(1)
        await stage.sampling.sample()
        # Its gateway says no more of it, not even that the call has ended.
        await stage.world.lifecycle().delete(stage.owner, "demo")
        await settle(stage.world.reconciler())
        for _ in range(2):
            stage.now += MINUTE_S
            await stage.sampling.sample()
        assert await stage.seen() == {0: Gauged(1, 0, 10, 1)}

    play(story)


def test_what_is_too_old_goes_with_the_next_look(play: Play) -> None:
    async def story(stage: Stage) -> None:
        await stage.sampling.sample()
        stage.now = START + KEPT_S[MINUTE_S]
        await stage.sampling.sample()
        assert await stage.seen() == {0: Gauged(None, None, 10, 1)}
        stage.now += MINUTE_S
        await stage.sampling.sample()
        assert await stage.seen() == {}

    play(story)


def test_an_error_costs_a_minute_and_is_logged(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(stage: Stage) -> None:
        observe = stage.world.executor.observe

        def fail() -> dict[str, Observed]:
            monkeypatch.setattr(stage.world.executor, "observe", observe)
            raise OSError("the disk is gone")

        monkeypatch.setattr(stage.world.executor, "observe", fail)
        # The minute ends in a moment, again and again.
        stage.now = START + 59.98
        running = asyncio.create_task(stage.sampling.run())
        async with asyncio.timeout(20):
            while not await stage.seen():
                await asyncio.sleep(0.02)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert "in a minute" in record.getMessage()

    play(story)
