"""What the real model's service does of the API, as Modelry finds out after its deployment."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from modelry.client import Json
from modelry.services.conformance.checks import checks_for
from tests.support.browser import sign_in
from tests.support.instance import Instance, running, share_weights
from tests.support.waiting import wait_for

OTHERWISE = {
    "chat.reasoning": "skipped",
    "completion.echo": "unsupported",
    "completion.suffix": "unsupported",
}
"""All that the embedded engine and model do not do."""


@pytest.fixture(scope="module")
def probing(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that probes what it deploys; its `demo` has its report."""
    data_dir = tmp_path_factory.mktemp("conformance") / "data"
    share_weights(weights_cache, data_dir)
    with running(Instance(data_dir, MODELRY_CONFORMANCE="deploy"), "--demo") as instance:
        wait_for(
            lambda: instance.api("GET", "/services/demo").status_code == 200, "demo to be deployed"
        )
        instance.await_state("demo", "running")
        await_report(instance, "demo")
        yield instance


def report_of(instance: Instance, name: str) -> Json:
    with instance.client() as client:
        return client.get(f"/services/{name}/conformance")


def await_report(instance: Instance, name: str, state: str = "done") -> Json:
    def made() -> Json | None:
        report = report_of(instance, name)
        return report if report["state"] == state else None

    return wait_for(made, f"a report of {name}", 120)


def test_the_report_says_what_the_service_does_and_what_it_does_not(probing: Instance) -> None:
    service, report = probing.service("demo"), report_of(probing, "demo")
    results = {check["name"]: check["result"] for check in report["checks"]}
    assert list(results) == [check.name for check in checks_for(service["tasks"])]
    told = {check["name"]: check["detail"] for check in report["checks"]}
    other = {name: told[name] for name, result in results.items() if result != "supported"}
    assert {name: detail for name, detail in other.items() if name not in OTHERWISE} == {}
    assert {name: results[name] for name in OTHERWISE} == OTHERWISE
    assert all(told.values())
    assert (report["service_id"], report["revision"]) == (service["id"], service["revision"])
    assert report["engine"].startswith("llama.cpp 20")
    assert sum(check["duration_s"] for check in report["checks"]) < 61


def test_probing_uses_nothing_that_anybody_pays_for_or_reads(probing: Instance) -> None:
    assert probing.api("GET", "/usage").json()["data"] == []
    assert [key["last_used_at"] for key in probing.api("GET", "/keys").json()["data"]] == [None]
    lines = probing.paths.access_log.read_text()
    assert "/api/v1/" in lines
    assert '"/v1/' not in lines
    assert "chat/completions" not in lines
    key = probing.key()
    with probing.openai(key) as client:
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hi"}], max_tokens=1
        )
    used = wait_for(lambda: probing.api("GET", "/usage").json()["data"], "the caller's usage", 15)
    assert [row["requests"] for row in used] == [1]


def test_the_command_line_shows_it_in_eighty_columns_and_has_it_made_anew(
    probing: Instance,
) -> None:
    before = report_of(probing, "demo")
    narrow = {"COLUMNS": "80"}
    shown = probing.cli("conformance", "demo", env=narrow)
    assert shown.returncode == 0, shown.stderr
    _, _, table = shown.stdout.partition("\n\n")
    assert max(len(line) for line in table.splitlines()) <= 80
    wanted = [[check["name"], check["result"]] for check in before["checks"]]
    assert [line.split()[:2] for line in table.splitlines() if line[:1].strip()] == wanted
    again = probing.cli("conformance", "demo", "--run", "--json", env=narrow)
    assert again.returncode == 0, again.stderr
    after = report_of(probing, "demo")
    assert after["state"] == "done"
    assert after["started_at"] > before["finished_at"]
    missing = probing.cli("conformance", "nobody", env=narrow)
    assert (missing.returncode, "no service" in missing.stderr) == (1, True)


def test_the_services_page_shows_it_and_asks_for_another(probing: Instance, page: Page) -> None:
    before = report_of(probing, "demo")
    sign_in(page, probing)
    page.goto(f"{probing.url}/services/demo/conformance")
    for result, count in Counter(check["result"] for check in before["checks"]).items():
        figure = page.locator(".figure", has=page.locator(f"[data-state={result}]"))
        expect(figure).to_contain_text(str(count))
    for check in before["checks"]:
        row = page.get_by_role("row", name=check["name"])
        expect(row.first).to_contain_text(check["result"])
    page.get_by_role("button", name="Check again").click()
    wait_for(
        lambda: report_of(probing, "demo")["started_at"] > before["started_at"], "another probe", 30
    )
    await_report(probing, "demo")


def test_a_second_start_probes_nothing_again(make_instance: Callable[..., Instance]) -> None:
    with running(make_instance(MODELRY_CONFORMANCE="deploy")) as instance:
        instance.deploy("first")
        first = await_report(instance, "first")
        instance.stop()
        instance.start()
        instance.await_state("first", "running")
        instance.deploy("second")
        # The first has been running for longer: it would have had its turn before.
        await_report(instance, "second")
        assert report_of(instance, "first") == first


def test_a_probe_keeps_no_service_awake_and_wakes_none(
    make_instance: Callable[..., Instance],
) -> None:
    with running(make_instance(MODELRY_CONFORMANCE="deploy")) as instance:
        instance.deploy("sleepy", idle_after_s=5)
        wait_for(lambda: report_of(instance, "sleepy")["state"] == "running", "a probe", 30)
        instance.await_state("sleepy", "idle", 30)
        report = await_report(instance, "sleepy", "failed")
        assert "made again" in report["summary"]
        asked = instance.api("POST", "/services/sleepy/conformance")
        assert (asked.status_code, asked.json()["state"]) == (202, "pending")
        since = time.monotonic()
        while time.monotonic() - since < 4:
            assert instance.service("sleepy")["status"]["state"] == "idle"
            time.sleep(0.2)
        assert report_of(instance, "sleepy")["state"] == "pending"


def test_where_it_is_to_be_asked_for_nothing_is_probed_until_then(shared: Instance) -> None:
    report = report_of(shared, "demo")
    assert (report["state"], report["checks"], report["revision"]) == ("pending", [], None)
    assert "MODELRY_CONFORMANCE" in report["summary"]
