"""A service's pages in a browser: what it is, how it is called, its logs, events and settings."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import cookie_of
from tests.support.console import TABS, signed_in_page
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf

HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def console(shared: Instance, page: Page) -> Page:
    return signed_in_page(page, shared)


@pytest.fixture
def elsewhere(shared: Instance) -> Iterator[str]:
    """A service on an endpoint elsewhere, with a key of that one's."""
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": HOSTILE, "api_key": "sk-of-the-endpoint"}
    with shared.client() as client:
        client.post("/services", {"name": "elsewhere", "endpoint": endpoint, "tasks": ["rerank"]})
    yield "elsewhere"
    delete(shared, "elsewhere")


def delete(shared: Instance, name: str) -> None:
    shared.api("DELETE", f"/services/{name}")
    wait_for(lambda: shared.api("GET", f"/services/{name}").status_code == 404, "its end")


def test_a_service_s_page_says_what_it_is(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services")
    console.get_by_role("link", name="demo", exact=True).click()
    service = shared.service("demo")
    expect(console.get_by_role("heading", name="demo", level=1)).to_be_visible()
    facts = console.locator("dl.facts")
    for text in (service["access_path"], f"{shared.url}/v1", service["id"], MODEL, "llama.cpp"):
        expect(facts.filter(has_text=text)).to_have_count(1)
    (replica,) = service["status"]["replicas"]
    table = console.get_by_role("table", name="Replicas")
    for text in (replica["id"], "ready", replica["node"], "MB"):
        expect(table).to_contain_text(text)
    expect(console.get_by_role("table", name="Weights")).to_contain_text(
        service["weights"][0]["sha256"]
    )
    # Every page of it is one click away, and says where one is.
    tabs = console.get_by_role("navigation", name="Pages of the service").get_by_role("link")
    assert tabs.count() == len(TABS)
    expect(tabs.first).to_have_attribute("aria-current", "page")


def test_a_service_is_stopped_and_started_from_its_page(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo")
    console.get_by_role("button", name="Stop").click()
    expect(console.get_by_text("takes no memory")).to_be_visible()
    shared.await_state("demo", "stopped")
    console.get_by_role("button", name="Start").click()
    # The page follows by itself until it runs.
    expect(console.locator("h1 + [data-state=running]")).to_be_visible(timeout=30_000)
    expect(console.get_by_role("button", name="Stop")).to_be_visible()
    shared.await_state("demo", "running")


def test_a_service_on_endpoints_elsewhere_has_pages_without_their_keys(
    shared: Instance, console: Page, elsewhere: str
) -> None:
    console.goto(f"{shared.url}/services/{elsewhere}")
    table = console.get_by_role("table", name="Endpoints elsewhere")
    for text in ("http://127.0.0.1:9/v1", HOSTILE):
        expect(table).to_contain_text(text)
    assert console.locator("main img").count() == 0
    assert "onerror" not in console.title()
    cookies = {"modelry_session": cookie_of(shared)}
    for tab in ("", "/call", "/logs", "/events", "/conformance", "/settings"):
        answer = httpx2.get(f"{shared.url}/services/{elsewhere}{tab}", cookies=cookies)
        assert answer.status_code == 200
        assert "of-the-endpoint" not in answer.text
        assert "sealed" not in answer.text


def test_a_failed_service_says_why_and_what_to_do(
    shared: Instance, console: Page, tmp_path: Path
) -> None:
    weights = tmp_path / "noise.gguf"
    weights.write_bytes(gguf(10_000, 7))
    with shared.client() as client:
        client.post("/models", {"name": "noise", "source": f"file://{weights}"})
        client.post("/services", {"name": "noise", "model": "noise"})
    shared.await_state("noise", "failed")
    try:
        console.goto(f"{shared.url}/services/noise")
        expect(console.get_by_role("alert")).to_contain_text("could not load the weights")
        expect(console.get_by_text("would end the same way")).to_be_visible()
        expect(console.locator("pre.log")).not_to_be_empty()
        expect(console.get_by_role("button", name="Start")).to_be_visible()
        # Its log is there also once the replica is not.
        console.get_by_role("link", name="All logs").click()
        expect(console.locator("#log")).not_to_be_empty()
        expect(console.get_by_role("button", name="Pause")).to_have_count(0)
        console.get_by_role("link", name="Events").click()
        console.get_by_text("The end of its log").first.click()
        expect(console.locator("tbody pre.log").first).to_be_visible()
    finally:
        delete(shared, "noise")
    wait_for(lambda: shared.api("DELETE", "/models/noise").status_code == 204, "it to be unused")


@pytest.mark.parametrize("tab", ["", *(f"/{tab}" for tab in TABS)])
def test_the_pages_of_nobody_s_service_are_not_found(shared: Instance, tab: str) -> None:
    cookies, html = {"modelry_session": cookie_of(shared)}, {"accept": "text/html"}
    for name in ("nobody-s", "svc_0123456789abcdef", "%3Cb%3E"):
        url = f"{shared.url}/services/{name}{tab}"
        answer = httpx2.get(url, cookies=cookies, headers=html)
        assert answer.status_code == 404
        assert "<b>" not in answer.text or "html" not in answer.headers["content-type"]


# -- calling it ------------------------------------------------------------------


def test_the_programs_are_the_api_s_and_the_choice_stays(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/call")
    with shared.client() as client:
        wanted = [each["code"] for each in client.list("/services/demo/examples")]
    programs = console.locator("[data-program] [data-copy]")
    shown = [each.get_attribute("data-copy") for each in programs.all()]
    assert set(wanted) <= set(shown)
    visible = console.locator("[data-program]:visible")
    expect(visible).to_have_count(1)
    expect(visible).to_contain_text("curl")
    console.get_by_role("button", name="Python", exact=True).click()
    console.get_by_role("button", name="Streaming").click()
    expect(visible).to_contain_text("stream=True")
    expect(visible).to_contain_text("chat.completion.chunk")
    expect(visible).to_contain_text("text/event-stream")
    console.reload()
    expect(visible).to_contain_text("stream=True")
    pressed = console.locator("[data-choice] [aria-pressed=true]")
    assert pressed.all_text_contents() == ["Python", "Streaming"]


def test_a_copy_button_copies_the_program(shared: Instance, console: Page) -> None:
    console.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.goto(f"{shared.url}/services/demo/call")
    console.get_by_role("button", name="Copy the program: curl").first.click()
    expect(console.get_by_role("status")).to_contain_text("Copied")
    with shared.client() as client:
        (first, *_) = client.list("/services/demo/examples", language="curl")
    assert console.evaluate("navigator.clipboard.readText()") == first["code"]


def test_what_is_answered_stands_beside_it_and_is_like_what_comes(
    shared: Instance, console: Page, demo_key: str, demo_path: str
) -> None:
    console.goto(f"{shared.url}/services/demo/call")
    text = console.locator("[data-program]:visible pre").last.text_content() or ""
    head, _, body = text.partition("\n\n")
    assert head.splitlines() == ["HTTP/1.1 200 OK", "content-type: application/json"]
    shown = json.loads(body)
    assert shown["model"] == demo_path
    client = OpenAI(base_url=f"{shared.url}/v1", api_key=demo_key)
    came = client.chat.completions.with_raw_response.create(
        model=demo_path, messages=[{"role": "user", "content": "Say this is a test!"}], max_tokens=8
    )
    assert came.headers["content-type"].startswith("application/json")
    answer = json.loads(came.text)
    assert shown.keys() <= answer.keys()
    assert shown["choices"][0].keys() == answer["choices"][0].keys()
    assert shown["choices"][0]["message"].keys() == answer["choices"][0]["message"].keys()
    assert shown["usage"].keys() <= answer["usage"].keys()


def test_a_call_s_fields_are_told(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/call")
    console.get_by_text("Request parameters").click()
    table = console.get_by_role("table", name="Parameters of a call")
    expect(table.get_by_role("row", name=re.compile("^messages"))).to_contain_text("required")
    # What the model's card says counts here.
    expect(table.get_by_role("row", name=re.compile("^max_tokens"))).to_contain_text("512")


def test_only_what_it_does_is_shown(shared: Instance, console: Page, elsewhere: str) -> None:
    console.goto(f"{shared.url}/services/{elsewhere}/call")
    expect(console.get_by_role("heading", name="Rerank")).to_be_visible()
    expect(console.get_by_role("heading", name="Chat completion")).to_have_count(0)
    expect(console.get_by_role("button", name="Anthropic SDK")).to_have_count(0)
    expect(console.get_by_role("button", name="Streaming")).to_have_count(0)


# -- logs and events ------------------------------------------------------------------


def log_file(shared: Instance) -> Path:
    (replica,) = shared.service("demo")["status"]["replicas"]
    return shared.paths.data / "replicas" / str(replica["id"]) / "engine.log"


def test_a_log_is_followed_filtered_and_paused(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/logs")
    log = console.locator("#log")
    expect(console.get_by_role("status").filter(has_text="Live")).to_be_visible()
    expect(log).to_contain_text("model loaded")
    with log_file(shared).open("a") as file:
        file.write(f"a gull flies by {HOSTILE}\n")
    expect(log).to_contain_text(HOSTILE)
    assert console.locator("main img").count() == 0
    console.get_by_label("Only lines with").fill("GULL")
    expect(log.locator("span")).to_have_count(1)
    console.get_by_role("button", name="Pause").click()
    with log_file(shared).open("a") as file:
        file.write("a second gull\n")
    expect(console.get_by_text("Paused, 1 new line")).to_be_visible()
    expect(log.locator("span")).to_have_count(1)
    console.get_by_role("button", name="Go on").click()
    expect(log.locator("span")).to_have_count(2)
    console.get_by_label("Only lines with").fill("")
    expect(log).to_contain_text("model loaded")


def test_what_a_paused_log_shows_stays_when_one_looks_elsewhere(
    shared: Instance, console: Page
) -> None:
    def look(*, away: bool) -> None:
        console.evaluate(
            """(away) => {
                Object.defineProperty(document, "hidden", { value: away, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            away,
        )

    console.goto(f"{shared.url}/services/demo/logs")
    expect(console.get_by_role("status").filter(has_text="Live")).to_be_visible()
    console.get_by_role("button", name="Pause").click()
    look(away=True)
    look(away=False)
    with console.expect_request("**/logs?*follow=1*"):
        console.get_by_role("button", name="Go on").click()
    with log_file(shared).open("a") as file:
        file.write("a third gull\n")
    expect(console.locator("#log")).to_contain_text("a third gull")


def test_a_log_is_downloaded_as_text(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/logs")
    with console.expect_download() as download:
        console.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"demo-rep_\w+\.log", download.value.suggested_filename)
    assert "model loaded" in download.value.path().read_text()
    cookies = {"modelry_session": cookie_of(shared)}
    url = f"{shared.url}/services/demo/logs/download"
    assert httpx2.get(url, params={"replica": "rep_none"}, cookies=cookies).status_code == 404


def test_a_log_that_is_gone_is_said_to_be(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/logs?replica=rep_{HOSTILE}")
    expect(console.get_by_text("is gone")).to_contain_text(HOSTILE)
    expect(console.locator("#log")).to_contain_text("model loaded")


def test_events_come_with_the_newest_first_and_follow(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/events")
    first = console.locator("tbody tr").first
    expect(first.locator("[data-state=running]")).to_be_visible()
    with shared.client() as client:
        client.post("/services/demo/stop")
        expect(console.locator("tbody tr", has_text="stopped by its owner").first).to_be_visible()
        client.post("/services/demo/start")
    expect(first.locator("[data-state=running]")).to_be_visible(timeout=30_000)
    shared.await_state("demo", "running")


@pytest.mark.timeout(240)
def test_a_report_is_asked_for_and_appears(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/services/demo/conformance")
    console.get_by_role("button", name=re.compile("Check (now|again)")).click()
    expect(console.get_by_role("status")).to_contain_text("demo is about to be checked")
    expect(console.locator("h2 + [data-state=done]")).to_be_visible(timeout=180_000)
    checks = console.locator("tbody tr")
    expect(checks.filter(has_text="chat.answer").locator("[data-state=supported]")).to_be_visible()
    assert checks.count() > 20


# -- changing it ------------------------------------------------------------------


@pytest.fixture
def own(shared: Instance) -> Iterator[str]:
    """A service of a model that may be changed."""
    shared.deploy("changed", MODEL, slots=1, context_tokens=512)
    yield "changed"
    if shared.api("GET", "/services/changed").status_code == 200:
        delete(shared, "changed")


def test_a_service_is_changed_and_goes_on_serving(
    shared: Instance, console: Page, own: str
) -> None:
    console.goto(f"{shared.url}/services/{own}/settings")
    expect(console.get_by_label("Slots")).to_have_value("1")
    before = console.locator("#fit").text_content()
    console.get_by_label("Slots").fill("3")
    console.get_by_label("Context").fill("2048")
    # What it takes follows what is typed.
    expect(console.locator("#fit")).to_contain_text("For 3 slots of 2,048 tokens")
    assert console.locator("#fit").text_content() != before
    console.get_by_label("Goes idle").select_option("After 1 h without a call")
    console.get_by_role("button", name="Save").click()
    console.wait_for_url(f"**/services/{own}")
    expect(console.get_by_role("status")).to_contain_text("is changing")
    spec = shared.service(own)["spec"]
    assert (spec["slots"], spec["context_tokens"], spec["idle_after_s"]) == (3, 2048, 3600)
    assert shared.service(own)["revision"] == 2
    expect(console.locator("h1 + [data-state=running]")).to_be_visible(timeout=60_000)
    console.goto(f"{shared.url}/services/{own}/settings")
    console.get_by_role("button", name="Save").click()
    expect(console.get_by_role("status")).to_contain_text("Nothing of changed was changed")
    assert shared.service(own)["revision"] == 2


def test_what_is_wrong_with_a_change_is_said_at_its_field(
    shared: Instance, console: Page, own: str
) -> None:
    def save() -> None:
        # The browser would not send it; the server has its word too.
        console.locator("form.beside").evaluate("(form) => { form.noValidate = true; }")
        console.get_by_role("button", name="Save").click()

    console.goto(f"{shared.url}/services/{own}/settings")
    console.get_by_label("Slots").fill("2")
    console.get_by_label("Replicas", exact=True).fill("65")
    console.get_by_text("Advanced").click()
    console.get_by_label("Engine arguments").fill("'half")
    save()
    expect(console.locator("#engine_args-wrong")).to_contain_text("quotation mark")
    console.get_by_label("Engine arguments").fill("")
    save()
    expect(console.locator("#replicas-wrong")).to_contain_text("less than or equal to 64")
    expect(console.get_by_label("Slots")).to_have_value("2")
    # What is told beside it is asked for as it is typed.
    expect(console).to_have_url(re.compile("[?&]slots=2&"))
    expect(console.locator("#fit")).to_contain_text("2 slots")
    assert shared.service(own)["revision"] == 1


def test_endpoints_are_changed_and_keep_their_keys(
    shared: Instance, console: Page, elsewhere: str
) -> None:
    console.goto(f"{shared.url}/services/{elsewhere}/settings")
    console.get_by_label("Weight").fill("7")
    console.get_by_label("Chat").check()
    console.get_by_role("button", name="Add another endpoint").click()
    second = console.locator("[data-endpoint]").nth(1)
    second.get_by_label("Address").fill("http://127.0.0.1:10/v1")
    console.get_by_role("button", name="Save").click()
    console.wait_for_url(f"**/services/{elsewhere}")
    service = shared.service(elsewhere)
    first, added = service["spec"]["endpoints"]
    assert (first["weight"], first["api_key"][-4:]) == (7, "oint")
    assert (added["url"], added["api_key"]) == ("http://127.0.0.1:10/v1", None)
    assert set(service["tasks"]) == {"rerank", "chat"}
    # The key is for its own address alone.
    console.goto(f"{shared.url}/services/{elsewhere}/settings")
    console.locator("[data-endpoint]").first.get_by_label("Address").fill("http://127.0.0.1:11/v1")
    console.get_by_role("button", name="Save").click()
    expect(console.locator("#endpoint-0-api_key-wrong")).to_contain_text("the stored key is for")


def test_a_service_is_deleted_without_scripts(
    shared: Instance, browser: Browser, elsewhere: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(
        [{"name": "modelry_session", "value": cookie_of(shared), "url": shared.url}]
    )
    page = context.new_page()
    page.goto(f"{shared.url}/services/{elsewhere}/settings")
    page.get_by_role("textbox", name=f"Write {elsewhere} to confirm").fill(elsewhere)
    page.locator(".danger-zone form").get_by_role("button", name="Delete").click()
    assert page.url == f"{shared.url}/services"
    wait_for(lambda: shared.api("GET", f"/services/{elsewhere}").status_code == 404, "its end")
    context.close()
