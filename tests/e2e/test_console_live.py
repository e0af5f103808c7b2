"""Open pages follow what happens, whatever happens to their connection."""

import subprocess
from collections.abc import Callable, Iterator

import psutil
import pytest
from openai import OpenAI
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import fresh_page
from tests.support.console import signed_in_page
from tests.support.instance import ADMIN_PASSWORD, MODEL, Instance
from tests.support.waiting import wait_for


def state_of(page: Page, name: str, state: str) -> None:
    row = page.locator("tr", has=page.get_by_role("link", name=name, exact=True))
    expect(row.locator(f"[data-state={state}]")).to_be_visible(timeout=30_000)


@pytest.fixture
def cut_off(browser: Browser) -> Iterator[Page]:
    """A page whose server is away for a while, of which the browser tells."""
    with fresh_page(browser, "net::ERR_", "a status of 5") as page:
        yield page


def test_the_list_follows_without_a_reload(shared: Instance, page: Page) -> None:
    signed_in_page(page, shared).goto(f"{shared.url}/services")
    page.evaluate("window.same = true")
    state_of(page, "demo", "running")
    with shared.client() as client:
        client.post("/services/demo/stop")
        state_of(page, "demo", "stopped")
        client.post("/services/demo/start")
    state_of(page, "demo", "running")
    assert page.evaluate("window.same")
    shared.await_state("demo", "running")


def test_a_page_whose_stream_is_cut_asks_by_itself_and_listens_again(
    shared: Instance, cut_off: Page
) -> None:
    page = cut_off
    page.route("**/live", lambda route: route.abort())
    signed_in_page(page, shared)
    with page.expect_request("**/live"):
        page.goto(f"{shared.url}/services")
    state_of(page, "demo", "running")
    with shared.client() as client:
        client.post("/services/demo/stop")
    state_of(page, "demo", "stopped")
    page.unroute("**/live")
    with page.expect_request("**/live", timeout=30_000):
        pass
    with shared.client() as client:
        client.post("/services/demo/start")
    state_of(page, "demo", "running")
    shared.await_state("demo", "running")


def test_a_look_that_fails_leaves_the_page_as_it_is(shared: Instance, cut_off: Page) -> None:
    page, url = cut_off, f"{shared.url}/services"
    signed_in_page(page, shared).goto(url)
    state_of(page, "demo", "running")
    page.evaluate("window.same = true")
    page.route(url, lambda route: route.fulfill(status=503, json={"error": {}}))
    with shared.client() as client:
        with page.expect_response(url):
            client.post("/services/demo/stop")
        page.unroute(url)
        client.post("/services/demo/start")
    shared.await_state("demo", "running")
    state_of(page, "demo", "running")
    assert page.evaluate("window.same")


def test_a_page_stays_while_the_control_plane_is_away(shared: Instance, cut_off: Page) -> None:
    """The gateway answers for it then, with what is no page."""
    page = signed_in_page(cut_off, shared)
    page.goto(f"{shared.url}/services")
    page.evaluate("window.same = true")
    away = '{"error": {"code": "unavailable"}}'
    page.route(
        "**/services*",
        lambda route: route.fulfill(status=503, content_type="application/json", body=away),
    )
    with page.expect_response(lambda answer: answer.status == 503):
        page.get_by_role("searchbox").fill("demo")
    with page.expect_response(lambda answer: answer.status == 503):
        page.get_by_role("searchbox").fill("dem")
    expect(page.get_by_role("heading", level=1)).to_have_text("Services")
    assert page.evaluate("window.same")


def test_a_page_survives_the_end_of_the_control_plane(
    make_instance: Callable[..., Instance], cut_off: Page
) -> None:
    page = cut_off
    instance = make_instance().start()
    instance.deploy("test")
    signed_in_page(page, instance).goto(f"{instance.url}/services")
    state_of(page, "test", "running")
    psutil.Process(instance.pid_of("control")).kill()
    wait_for(lambda: _answers(instance), "the control plane to be back")
    with instance.client() as client:
        client.post("/services/test/stop")
    state_of(page, "test", "stopped")


def _answers(instance: Instance) -> bool:
    try:
        return bool(instance.service("test"))
    except Exception:  # it is on its way
        return False


def test_what_matters_works_before_any_script_has_come(shared: Instance, page: Page) -> None:
    page.route("**/*.js", lambda route: None)  # on their way for ever

    def visit(path: str) -> None:
        page.goto(shared.url + path, wait_until="commit")

    visit("/login")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click(no_wait_after=True)
    expect(page.locator("#sign-out")).to_be_attached()
    for button, state in (("Stop", "stopped"), ("Start", "running")):
        visit("/services/demo")
        with page.expect_navigation(wait_until="commit"):
            page.get_by_role("button", name=button, exact=True).click(no_wait_after=True)
        shared.await_state("demo", state)
    visit("/keys/new")
    page.get_by_label("Name", exact=True).fill("without scripts")
    page.locator("main").get_by_role("button", name="Create").click(no_wait_after=True)
    expect(page.locator("code", has_text="sk-").first).to_be_visible()
    visit("/services?q=demo&state=running")
    expect(page.get_by_role("link", name="demo", exact=True)).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")


@pytest.mark.timeout(300)
def test_the_whole_story(make_instance: Callable[..., Instance], page: Page) -> None:
    """Sign in, deploy, watch it come up, chat, call it with curl, make a key, see what was used,
    and delete it."""
    instance = make_instance().start()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    signed_in_page(page, instance)

    # Nobody has a service yet: a card's one click deploys it, under a name that is suggested.
    page.get_by_role("link", name="Models").click()
    card = page.locator(f"[data-model={MODEL}]")
    card.get_by_role("button", name="Deploy").click()
    expect(page.locator("[data-state=running]").first).to_be_visible(timeout=60_000)
    with instance.client() as client:
        (service,) = client.list("/services")
    name = service["name"]

    # A conversation, whose answer comes piece by piece.
    page.goto(f"{instance.url}/services/{name}/playground")
    page.get_by_role("textbox", name="Message", exact=True).fill("Say hello.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-content]").first).not_to_be_empty(timeout=60_000)
    expect(page.get_by_role("button", name="Send")).to_be_enabled(timeout=60_000)

    # A key, made on its page and shown once.
    page.goto(f"{instance.url}/keys")
    page.get_by_role("link", name="Create").first.click()
    page.get_by_label("Name", exact=True).fill("from the console")
    page.locator("dialog[open], form").get_by_role("button", name="Create").last.click()
    shown = page.locator("code", has_text="sk-").first
    expect(shown).to_be_visible()
    key = (shown.text_content() or "").strip()

    # The curl program of the service's page, as it is copied.
    page.goto(f"{instance.url}/services/{name}/call")
    page.get_by_role("button", name="Copy").and_(page.locator("[data-copy*=curl]")).first.click()
    program = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(
        ["bash", "-c", program],
        env={"MODELRY_API_KEY": key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert '"chat.completion' in done.stdout, done.stderr
    answer = OpenAI(base_url=f"{instance.url}/v1", api_key=key).models.list()
    assert [model.id for model in answer.data] == [service["access_path"]]

    # What was used is on its page.
    page.goto(f"{instance.url}/usage")
    row = page.locator("tr", has_text=service["access_path"]).first
    expect(row).to_be_visible(timeout=30_000)

    # It is gone once its name is written.
    page.goto(f"{instance.url}/services/{name}/settings")
    page.get_by_role("button", name="Delete").first.click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    dialog.get_by_role("textbox").fill(name)
    dialog.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{instance.url}/services")
    wait_for(lambda: instance.api("GET", f"/services/{name}").status_code == 404, "its end")
