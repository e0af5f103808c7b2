"""Usage and metrics of a running instance, from what its gateways send to what people read."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from modelry.access.store import UserRow, add_token
from modelry.db import Database
from modelry.routing.messages import (
    BUCKETS_S,
    Histogram,
    Load,
    MetricsReport,
    ServiceLoad,
    ServiceMetrics,
    SpoolEnded,
)
from tests.integration.test_api import error_of
from tests.support.instance import ADMIN_TOKEN, Instance
from tests.support.usage import NOON, OWNER, event, gateway_stand_in, spooled
from tests.support.waiting import wait_for

STRANGER = "u-ba9876543210"
STRANGERS_TOKEN = "pat-" + "s" * 40
FEBRUARY = {"from": "2026-02-01", "to": "2026-03-01"}
_sources = itertools.count(1)


@pytest.fixture(scope="module")
def stranger(api: Instance) -> str:
    """The access token of somebody who is no operator."""

    async def add() -> None:
        db = Database(None, api.paths.database)
        async with db.begin() as session:
            session.add(UserRow(id=STRANGER, name="stranger", operator=False))
            await session.flush()
            add_token(session, STRANGER, "tests", STRANGERS_TOKEN)
        await db.close()

    asyncio.run(add())
    return STRANGERS_TOKEN


@pytest.fixture(scope="module")
def february(api: Instance) -> None:
    """Usage of some days in February, sent by a gateway."""
    send(
        api,
        event(1, at=at(0)),
        event(2, at=at(1), key_id="key_2", status=503),
        event(3, at=at(24), key_id="key_3", owner_id=STRANGER, cancelled=True, cached_tokens=8),
        event(4, at=at(24), access_path="public/all", service_id="svc_2", key_id="key_2"),
    )


def send(api: Instance, *events: Any) -> None:
    with gateway_stand_in(api.paths.feed_socket) as gateway:
        source, lines = f"spool-{next(_sources)}", spooled(*events)
        assert gateway.send(source, lines).offset == len(lines)
        # The gateway sends again what it has not heard to be taken.
        assert gateway.send(source, lines).offset == len(lines)
        gateway.tell(SpoolEnded(source))


def at(hours: float) -> float:
    return (NOON + timedelta(hours=hours)).timestamp()


def usage(api: Instance, token: str = ADMIN_TOKEN, **query: Any) -> list[dict[str, Any]]:
    response = api.api("GET", "/usage", params=FEBRUARY | query, token=token)
    assert response.status_code == 200, response.text
    page = response.json()
    assert set(page) == {"data", "next"}
    assert page["next"] is None
    rows: list[dict[str, Any]] = page["data"]
    return rows


# -- usage -------------------------------------------------------------------


@pytest.mark.usefixtures("february")
def test_usage_by_service_is_what_gateways_sent(api: Instance) -> None:
    public, own = usage(api)
    assert own == {
        "service": f"{OWNER}/demo",
        "service_id": "svc_1",
        "requests": 3,
        "errors": 1,
        "cancelled": 1,
        "prompt_tokens": 30,
        "completion_tokens": 6,
        "cached_tokens": 8,
        "total_tokens": 36,
        "images": 0,
        "pixels": 0,
        "audio_s": 0.0,
        "characters": 0,
    }
    assert (public["service"], public["requests"]) == ("public/all", 1)


@pytest.mark.usefixtures("february")
def test_a_row_has_what_it_was_grouped_by_and_no_more(api: Instance) -> None:
    sums = set(usage(api)[0]) - {"service", "service_id"}
    for group, fields in {
        "key": {"key"},
        "user": {"user"},
        "hour": {"from"},
        "day,user": {"from", "user"},
    }.items():
        for row in usage(api, group_by=group):
            assert set(row) - sums == fields


@pytest.mark.usefixtures("february")
def test_usage_by_day_and_key_is_in_the_order_of_time(api: Instance) -> None:
    rows = [(row["from"], row["key"], row["requests"]) for row in usage(api, group_by="key,day")]
    assert rows == [
        ("2026-02-02T00:00:00Z", "key_1", 1),
        ("2026-02-02T00:00:00Z", "key_2", 1),
        ("2026-02-03T00:00:00Z", "key_2", 1),
        ("2026-02-03T00:00:00Z", "key_3", 1),
    ]
    hours = usage(api, group_by="hour", **{"from": "2026-02-02T13:30:00Z", "to": "2026-02-03"})
    assert [row["from"] for row in hours] == ["2026-02-02T13:00:00Z"]


@pytest.mark.usefixtures("february")
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_pages_visit_each_row_once(api: Instance, limit: int) -> None:
    query = FEBRUARY | {"group_by": "day,service,key", "limit": limit}
    seen: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": None}
    while True:
        cursor = {"cursor": page["next"]} if page["next"] else {}
        page = api.api("GET", "/usage", params=query | cursor).json()
        assert len(page["data"]) <= limit
        seen += page["data"]
        if page["next"] is None:
            break
    assert seen == usage(api, group_by="day,service,key")


@pytest.mark.usefixtures("february")
def test_others_see_usage_by_their_keys_and_of_their_services(api: Instance, stranger: str) -> None:
    march = event(5, at=at(24 * 30), access_path=f"{STRANGER}/own", service_id="svc_3")
    send(api, march)
    seen = {row["service"]: row["requests"] for row in usage(api, stranger, to="2026-04-01")}
    assert seen == {f"{OWNER}/demo": 1, f"{STRANGER}/own": 1}
    by_key = usage(api, stranger, to="2026-04-01", group_by="key")
    assert {row["key"] for row in by_key} == {"key_1", "key_3"}


def test_without_a_period_it_is_the_last_30_days(api: Instance) -> None:
    now = datetime.now(UTC)
    send(
        api,
        event(1, at=now.timestamp(), key_id="key_now"),
        event(2, at=(now - timedelta(days=29)).timestamp(), key_id="key_lately"),
        event(3, at=(now - timedelta(days=31)).timestamp(), key_id="key_before"),
    )
    rows = api.api("GET", "/usage?group_by=key").json()["data"]
    keys = {row["key"] for row in rows}
    assert {"key_now", "key_lately"} <= keys
    assert "key_before" not in keys


@pytest.mark.parametrize(
    ("query", "param", "told"),
    [
        ("group_by=month", "group_by", "hour or day"),
        ("group_by=hour,day", "group_by", "hour or day"),
        ("group_by=", "group_by", "hour or day"),
        ("from=yesterday", "from", "2026-01-31"),
        ("to=2026-01-31T12:00:00", "to", "with its zone"),
        ("from=2026-02-01&to=2026-01-01", "from", "before"),
        ("limit=0", "limit", "limit"),
        ("cursor=7", "cursor", "cursor"),
        ("cursor=WyJhIl0=", "cursor", "cursor"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_422_that_says_why(
    api: Instance, query: str, param: str, told: str
) -> None:
    response = api.api("GET", f"/usage?{query}")
    assert response.status_code == 422
    error = error_of(response)
    assert error["param"] == param
    assert told in error["message"]


# -- the command -------------------------------------------------------------


@pytest.mark.usefixtures("february")
def test_the_command_shows_a_table_with_its_totals(api: Instance) -> None:
    done = api.cli("usage", "--from", "2026-02-01", "--to", "2026-02-03", "--by", "day,key")
    assert done.returncode == 0, done.stderr
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head[:4] == ["DAY", "(UTC)", "KEY", "REQS"]
    assert [row[:3] for row in rows[:-1]] == [
        ["2026-02-02", "key_1", "1"],
        ["2026-02-02", "key_2", "1"],
    ]
    assert rows[-1] == ["total", "2", "1", "0", "20", "0", "3", "23"]


@pytest.mark.usefixtures("february")
def test_the_command_prints_json_and_refusals_in_a_line(api: Instance) -> None:
    query = ("--from", "2026-02-01", "--to", "2026-03-01", "--by", "user", "--json")
    done = api.cli("usage", *query)
    assert json.loads(done.stdout) == usage(api, group_by="user")
    refused = api.cli("usage", "--by", "month")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "service, key, user" in refused.stderr
    nothing = api.cli("usage", "--from", "1999-01-01", "--to", "1999-01-02")
    assert nothing.stdout.strip() == "Nothing was used in that time."


def test_the_command_shows_images_and_speech_where_there_are_any(api: Instance) -> None:
    may = at(24 * 100)
    send(
        api,
        event(1, at=may, access_path="public/pictures", images=3, pixels=3 * 512 * 512),
        event(2, at=may, access_path="public/words", audio_s=61.07),
        event(3, at=may, access_path="public/words", audio_s=0.1),
    )
    period = ("--from", "2026-05-01", "--to", "2026-06-01")
    head, *rows = [line.split() for line in api.cli("usage", *period).stdout.splitlines()]
    assert head[-4:] == ["IMAGES", "PIXELS", "AUDIO", "S"]
    assert [[row[0], *row[-3:]] for row in rows] == [
        ["public/pictures", "3", "786.4k", "0.0"],
        ["public/words", "0", "0", "61.2"],
        ["total", "3", "786.4k", "61.2"],
    ]
    query = {"from": "2026-05-01", "to": "2026-06-01"}
    assert [row["audio_s"] for row in usage(api, **query)] == [0.0, 61.17]


# -- metrics -----------------------------------------------------------------


def scraped(api: Instance) -> dict[str, float]:
    response = httpx2.get(f"{api.url}/metrics", trust_env=False)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_are_what_gateways_report(api: Instance) -> None:
    sample = 'modelry_requests_total{service="public/metered",status="200"}'
    seen = Histogram((0,) * len(BUCKETS_S) + (1,), 70.0)
    counted = ServiceMetrics("public/metered", {200: 3}, 30, 6, seen, seen, seen, seen)
    before = scraped(api)["modelry_gateways"]
    with gateway_stand_in(api.paths.feed_socket) as gateway:
        gateway.tell(MetricsReport("process", {"svc_9": counted}))
        gateway.tell(Load({"svc_9": ServiceLoad(1, 0, 0.0)}))
        found = wait_for(lambda: found if sample in (found := scraped(api)) else None, "a sample")
        assert found[sample] == 3
        assert found["modelry_gateways"] == before + 1
        assert found['modelry_queue_seconds_bucket{service="public/metered",le="60.0"}'] == 0
        assert found['modelry_queue_seconds_bucket{service="public/metered",le="+Inf"}'] == 1
    wait_for(lambda: scraped(api)["modelry_gateways"] == before, "the gateway to be gone")
    assert scraped(api)[sample] == 3


@pytest.fixture
def control(api: Instance) -> Iterator[httpx2.Client]:
    """Calls the control plane as its gateway does."""
    transport = httpx2.HTTPTransport(uds=str(api.paths.control_socket))
    with httpx2.Client(base_url="http://control", transport=transport) as client:
        yield client


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_scraper_on_this_machine_needs_no_token(control: httpx2.Client, peer: str) -> None:
    assert control.get("/metrics", headers={"x-forwarded-for": peer}).status_code == 200


@pytest.mark.parametrize(
    "peer", ["203.0.113.9", "10.0.0.1", "127.0.0.1, 203.0.113.9", "", "localhost", "::ffff:1.2.3.4"]
)
def test_others_need_an_operators_token(control: httpx2.Client, stranger: str, peer: str) -> None:
    def asked(token: str | None) -> httpx2.Response:
        authorization = {"authorization": f"Bearer {token}"} if token else {}
        return control.get("/metrics", headers={"x-forwarded-for": peer, **authorization})

    assert error_of(asked(None))["code"] == "missing_access_token"
    assert asked(None).status_code == 401
    assert asked(stranger).status_code == 403
    assert error_of(asked(stranger))["code"] == "permission_denied"
    assert asked(ADMIN_TOKEN).status_code == 200


def test_nobody_becomes_local_by_saying_so(api: Instance, control: httpx2.Client) -> None:
    forwarded = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.9")]
    assert control.get("/metrics", headers=forwarded).status_code == 401
    assert control.get("/metrics").status_code == 401
