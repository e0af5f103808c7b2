"""The list of services in a browser: found, filtered, tried, stopped, started, deleted."""

import re
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import cookie_of
from tests.support.console import signed_in_page
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for

HOSTILE = '<img src=x onerror="document.title=1">'
ELSEWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def several(shared: Instance) -> Iterator[list[str]]:
    """Services on endpoints elsewhere, beside `demo`."""
    names = ["gull-one", "gull-two", "tern"]
    with shared.client() as client:
        for name in names:
            endpoint = {"url": ELSEWHERE, "model": HOSTILE}
            tasks = ["rerank"] if name == "tern" else ["chat", "embedding"]
            client.post("/services", {"name": name, "endpoint": endpoint, "tasks": tasks})
        client.post("/services/gull-two/stop")
    yield names
    with shared.client() as client:
        for name in names:
            if shared.api("GET", f"/services/{name}").status_code == 200:
                client.delete(f"/services/{name}")


@pytest.fixture
def services(shared: Instance, page: Page, several: list[str]) -> Page:
    signed_in_page(page, shared).goto(f"{shared.url}/services")
    page.evaluate("window.same = true")
    return page


def row(page: Page, name: str) -> Locator:
    return page.locator("tr", has=page.get_by_role("link", name=name, exact=True))


def rows(page: Page) -> Locator:
    return page.locator("tbody tr")


def test_a_service_s_row_says_what_matters_of_it(shared: Instance, services: Page) -> None:
    services.context.grant_permissions(["clipboard-read", "clipboard-write"])
    demo = row(services, "demo")
    for text in (shared.service("demo")["access_path"], MODEL, "Chat", "1 / 1", "running"):
        expect(demo).to_contain_text(text)
    demo.get_by_role("button", name="Copy the access path of demo").click()
    copied = services.evaluate("navigator.clipboard.readText()")
    assert copied == shared.service("demo")["access_path"]
    expect(row(services, "tern")).to_contain_text("1 endpoint")
    expect(row(services, "gull-two").locator("[data-state=stopped]")).to_be_visible()
    expect(row(services, "gull-two").get_by_role("link", name="Try")).to_have_count(0)
    demo.get_by_role("link", name="Try demo").click()
    services.wait_for_url("**/services/demo/playground")


def test_what_others_wrote_stays_text(services: Page) -> None:
    expect(row(services, "tern")).to_contain_text(HOSTILE)
    assert services.locator("main img").count() == 0
    assert services.title() == "Services · Modelry"


def test_services_are_found_while_one_types(shared: Instance, services: Page) -> None:
    services.keyboard.press("/")
    expect(services.get_by_role("searchbox")).to_be_focused()
    services.keyboard.type("GULL")
    expect(rows(services)).to_have_count(2)
    expect(services).to_have_url(re.compile(r"\?q=GULL$"))
    services.get_by_role("searchbox").fill("no such service")
    expect(services.get_by_role("heading", name="No service matches")).to_be_visible()
    services.get_by_role("searchbox").fill(MODEL.upper())
    expect(row(services, "demo")).to_be_visible()
    expect(rows(services)).to_have_count(1)
    assert services.evaluate("window.same")
    services.reload()
    expect(services.get_by_role("searchbox")).to_have_value(MODEL.upper())
    expect(rows(services)).to_have_count(1)
    services.get_by_role("searchbox").fill("")
    expect(services).to_have_url(f"{shared.url}/services")


def test_services_are_filtered_by_state_and_task(services: Page) -> None:
    services.get_by_label("Task").select_option("Embedding")
    expect(rows(services)).to_have_count(2)
    services.get_by_role("link", name=re.compile("^stopped")).click()
    expect(services).to_have_url(re.compile(r"\?state=stopped&task=embedding$"))
    expect(rows(services)).to_have_count(1)
    expect(row(services, "gull-two")).to_be_visible()
    # The other states keep their numbers, and the way back.
    services.get_by_role("link", name=re.compile("^All")).click()
    expect(rows(services)).to_have_count(2)


def test_services_are_found_without_scripts(
    shared: Instance, browser: Browser, several: list[str]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(
        [{"name": "modelry_session", "value": cookie_of(shared), "url": shared.url}]
    )
    page = context.new_page()
    page.goto(f"{shared.url}/services")
    page.get_by_role("searchbox").fill("tern")
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(1)
    context.close()


@pytest.mark.parametrize(
    "query",
    [
        *("page=9", "page=0", "page=zz", "page=100000&q=x", "page=" + "9" * 40),
        *("state=<b>&task=none", "q=%25", "q=" + "a" * 200),
    ],
)
def test_a_query_that_makes_no_sense_is_a_list_all_the_same(shared: Instance, query: str) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    answer = httpx2.get(f"{shared.url}/services?{query}", cookies=cookies)
    assert answer.status_code == 200
    assert "<b>" not in answer.text


def test_a_service_is_stopped_and_started_from_its_row(shared: Instance, services: Page) -> None:
    services.goto(f"{shared.url}/services?q=gull-one")
    row(services, "gull-one").get_by_role("button", name="Stop gull-one").click()
    expect(services.get_by_role("status")).to_contain_text("gull-one is stopped")
    # One is where one was.
    expect(services).to_have_url(f"{shared.url}/services?q=gull-one")
    expect(row(services, "gull-one").locator("[data-state=stopped]")).to_be_visible()
    row(services, "gull-one").get_by_role("button", name="Start gull-one").click()
    expect(row(services, "gull-one").locator("[data-state=running]")).to_be_visible()


def test_a_form_s_way_back_is_never_elsewhere(shared: Instance, services: Page) -> None:
    csrf = services.locator("meta[name=csrf]").get_attribute("content")
    cookies = {"modelry_session": services.context.cookies()[0]["value"]}
    for there in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        form = {"csrf": csrf, "next": there}
        url = f"{shared.url}/services/gull-one/start"
        answer = httpx2.post(url, data=form, cookies=cookies, follow_redirects=False)
        assert answer.headers["location"] == "/"


def test_a_service_is_deleted_once_its_name_is_written(shared: Instance, services: Page) -> None:
    row(services, "tern").get_by_role("link", name="Delete tern").click()
    dialog = services.get_by_role("dialog")
    expect(dialog).to_contain_text("Write tern to confirm")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    dialog.get_by_role("textbox").fill("ter")
    expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    services.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    row(services, "tern").get_by_role("link", name="Delete tern").click()
    expect(dialog.get_by_role("textbox")).to_have_value("")
    dialog.get_by_role("textbox").fill("tern")
    dialog.get_by_role("button", name="Delete").click()
    expect(services).to_have_url(f"{shared.url}/services")
    expect(services.get_by_role("status")).to_contain_text("tern is being deleted")
    wait_for(lambda: shared.api("GET", "/services/tern").status_code == 404, "its end")
    expect(row(services, "tern")).to_have_count(0)


def test_nothing_is_deleted_for_a_name_that_is_another_s(shared: Instance, services: Page) -> None:
    csrf = services.locator("meta[name=csrf]").get_attribute("content")
    cookies = {"modelry_session": services.context.cookies()[0]["value"]}
    for written in ("", "gull-two", "GULL-ONE"):
        form = {"csrf": csrf, "written": written}
        url = f"{shared.url}/services/gull-one/delete"
        answer = httpx2.post(url, data=form, cookies=cookies, follow_redirects=False)
        assert answer.headers["location"] == "/services/gull-one/settings#delete"
    assert shared.service("gull-one")["status"]["state"] == "running"
