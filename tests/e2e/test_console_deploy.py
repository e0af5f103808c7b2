"""From a model to its first answer in a browser, with what is wrong told where it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import cookie_of
from tests.support.console import signed_in_page
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf


@pytest.fixture
def console(shared: Instance, page: Page) -> Iterator[Page]:
    """Signed in; what was deployed meanwhile is deleted after."""
    yield signed_in_page(page, shared)
    with shared.client() as client:
        for service in client.list("/services"):
            if service["name"] != "demo":
                client.delete(f"/services/{service['name']}")

        def only_demo() -> bool:
            return [each["name"] for each in client.list("/services")] == ["demo"]

        wait_for(only_demo, "the services to be gone")


def step(page: Page, name: str, standing: str) -> None:
    found = page.locator(f"[data-step={name}]")
    expect(found).to_have_attribute("data-standing", standing, timeout=60_000)


def test_one_click_deploys_and_ends_in_an_answer(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/models?q={MODEL}")
    console.get_by_role("button", name="Deploy SmolLM2 135M Instruct").click()
    console.wait_for_url(f"**/services/{MODEL}/progress")
    step(console, "fetch", "done")
    step(console, "start", "done")
    step(console, "answer", "done")
    answer = console.locator("[data-step=answer]")
    expect(answer.locator("[data-said]")).not_to_be_empty()
    expect(answer.locator("[data-took]")).to_contain_text(re.compile(r"\d (ms|s)"))
    expect(console.get_by_text("From the wish to a running service in")).to_be_visible()
    for link, path in (("Try it", "/playground"), ("Call it", "/call")):
        href = console.get_by_role("link", name=link).get_attribute("href")
        assert href == f"/services/{MODEL}{path}"
    service = shared.service(MODEL)
    assert service["spec"]["slots"] == 4
    # The same button again takes the next name.
    console.goto(f"{shared.url}/models?q={MODEL}")
    name = console.locator("form[action='/deploy'] input[name=name]").get_attribute("value")
    assert name == f"{MODEL}-2"


def test_a_name_is_judged_as_one_types(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/deploy?model={MODEL}")
    name = console.get_by_label("Name of the service")
    expect(name).to_have_value(MODEL)
    said = console.locator("#name-said")
    name.fill("No name")
    expect(said).to_contain_text("begins with a letter")
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("demo")
    expect(said).to_contain_text("You have a service of that name")
    said.get_by_role("button", name="Use demo-2").click()
    expect(said).to_contain_text("This name is free")
    expect(name).to_have_value("demo-2")
    assert name.get_attribute("aria-invalid") is None
    # A reload has what was typed.
    console.reload()
    expect(name).to_have_value("demo-2")


def test_the_memory_it_takes_follows_what_is_typed(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/deploy?model={MODEL}")
    fit = console.locator("#fit")
    expect(fit).to_have_attribute("data-verdict", "fits")
    before = float(fit.locator("progress").get_attribute("value") or 0)
    console.get_by_label("Slots").fill("16")
    expect(fit).to_contain_text("For 16 slots of 4,096 tokens")
    after = float(fit.locator("progress").get_attribute("value") or 0)
    model = shared.api("GET", f"/models/{MODEL}?slots=16").json()
    assert after == model["variants"][0]["fit"]["memory_bytes"] > before
    console.get_by_label("Slots").fill("256")
    console.get_by_label("Context").fill("10000000")
    expect(fit).to_have_attribute("data-verdict", "too_large")
    expect(fit).to_contain_text("Too large for here")
    expect(console.get_by_label("Slots")).to_have_value("256")


def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    shared: Instance, console: Page
) -> None:
    console.goto(f"{shared.url}/deploy?model={MODEL}")
    console.get_by_label("Name of the service").fill("wrong-once")
    console.get_by_label("Replicas", exact=True).fill("65")
    console.get_by_label("Context").fill("999999")
    console.get_by_text("Advanced").click()
    console.get_by_label("Engine environment").fill("NOTHING")

    def deploy() -> None:
        # Past what the browser itself would not send.
        console.locator("#deploy-form").evaluate("(form) => { form.noValidate = true; }")
        console.get_by_role("button", name="Deploy", exact=True).click()

    deploy()
    expect(console.locator("#engine_env-wrong")).to_contain_text("has no value")
    console.get_by_label("Engine environment").fill("<b>=1")
    expect(console.locator("#engine_env-wrong")).to_have_count(0)
    deploy()
    expect(console.locator("#replicas-wrong")).to_contain_text("less than or equal to 64")
    console.get_by_label("Replicas", exact=True).fill("3")
    deploy()
    expect(console.locator("#engine_env-wrong")).to_contain_text("<b>")
    console.get_by_label("Engine environment").fill("")
    deploy()
    expect(console.locator("#context_tokens-wrong")).to_contain_text("8192 tokens at most")
    expect(console.get_by_label("Context")).to_have_value("999999")
    expect(console.get_by_label("Name of the service")).to_have_value("wrong-once")
    assert shared.api("GET", "/services/wrong-once").status_code == 404


def test_all_that_the_form_asks_reaches_the_service(shared: Instance, console: Page) -> None:
    console.goto(f"{shared.url}/deploy?model={MODEL}")
    console.get_by_label("Name of the service").fill("all-of-it")
    console.get_by_label("Engine", exact=True).select_option("llama.cpp")
    console.get_by_label("Slots").fill("2")
    console.get_by_label("Context").fill("1024")
    console.get_by_label("Goes idle").select_option("900")
    console.get_by_text("Advanced").click()
    console.get_by_label("Engine arguments").fill("--threads '1'")
    console.get_by_role("button", name="Deploy", exact=True).click()
    console.wait_for_url("**/services/all-of-it/progress")
    spec = shared.service("all-of-it")["spec"]
    assert (spec["slots"], spec["context_tokens"], spec["idle_after_s"]) == (2, 1024, 900)
    assert spec["engine_args"] == ["--threads", "1"]


def test_a_service_is_deployed_without_scripts(
    shared: Instance, browser: Browser, console: Page
) -> None:
    context = browser.new_context(java_script_enabled=False)
    cookie = {"name": "modelry_session", "value": cookie_of(shared), "url": shared.url}
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.goto(f"{shared.url}/deploy")
    page.get_by_label("Model").select_option(MODEL)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name of the service").fill("plain")
    page.get_by_label("Slots").fill("2")
    page.get_by_role("button", name="Check without deploying").click()
    expect(page.locator("#fit")).to_contain_text("For 2 slots")
    expect(page.locator("#name-said")).to_contain_text("This name is free")
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.wait_for_url("**/services/plain/progress")
    shared.await_state("plain", "running")
    page.reload()
    expect(page.get_by_role("heading", name="It is ready")).to_be_visible()
    context.close()


def test_a_failure_says_why_and_what_to_do(shared: Instance, console: Page, tmp_path: Path) -> None:
    weights = tmp_path / "noise.gguf"
    weights.write_bytes(gguf(10_000, 9))
    with shared.client() as client:
        client.post("/models", {"name": "noise", "source": f"file://{weights}"})
    console.goto(f"{shared.url}/models/noise")
    console.get_by_role("button", name="Deploy noise").click()
    console.wait_for_url("**/services/noise/progress")
    step(console, "start", "failed")
    expect(console.get_by_role("heading", name="It did not work")).to_be_visible()
    expect(console.get_by_role("alert")).to_contain_text("could not load the weights")
    expect(console.locator("pre.log")).not_to_be_empty()
    expect(console.get_by_role("button", name="Try again")).to_be_visible()
    with shared.client() as client:
        client.delete("/services/noise")
    wait_for(lambda: shared.api("DELETE", "/models/noise").status_code == 204, "it to be unused")


def test_one_that_was_stopped_says_so_and_is_started_where_it_was_watched(
    shared: Instance, console: Page
) -> None:
    with shared.client() as client:
        client.post("/services", {"name": "paused", "model": MODEL})
        wait_for(
            lambda: client.get("/services/paused")["status"]["state"] == "running", "it to run"
        )
        client.post("/services/paused/stop", {})
    console.goto(f"{shared.url}/services/paused/progress")
    expect(console.get_by_role("heading", level=1)).to_have_text("paused")
    start = console.get_by_role("button", name="Start")
    expect(start).to_be_visible()
    expect(console.get_by_text("It answers to calls.")).to_have_count(0)
    start.click()
    console.wait_for_url("**/services/paused/progress")
    expect(console.get_by_role("heading", name="It is ready")).to_be_visible(timeout=60_000)


def test_endpoints_elsewhere_are_connected_and_their_keys_shown_nowhere(
    shared: Instance, console: Page
) -> None:
    console.goto(f"{shared.url}/deploy")
    console.get_by_role("link", name="An endpoint elsewhere").click()
    console.get_by_label("Name of the service").fill("elsewhere")
    console.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    console.get_by_label("Its API key").fill("sk-first-of-the-endpoint")
    console.get_by_role("button", name="Add another endpoint").click()
    second = console.locator("[data-endpoint]").nth(1)
    expect(second.get_by_label("Its API key")).to_have_value("")
    second.get_by_label("Address").fill("http://127.0.0.1:9/v1/chat/completions")
    second.get_by_label("Its API key").fill("sk-second-of-the-endpoint")
    second.get_by_label("Weight").fill("3")
    console.get_by_label("Embedding").check()
    console.get_by_role("button", name="Connect").click()
    wrong = console.locator("#endpoint-1-url-wrong")
    expect(wrong).to_contain_text("leave /chat/completions out")
    assert "of-the-endpoint" not in console.content()
    second.get_by_label("Address").fill("http://127.0.0.1:10/v1")
    console.get_by_role("button", name="Connect").click()
    console.wait_for_url("**/services/elsewhere")
    service = shared.service("elsewhere")
    assert service["tasks"] == ["chat", "embedding"]
    assert [each["weight"] for each in service["spec"]["endpoints"]] == [1, 3]
    # A key that was asked for again was not kept from before.
    assert [each["api_key"] for each in service["spec"]["endpoints"]] == [None, None]


def test_the_progress_of_nobody_s_service_is_not_found(shared: Instance, console: Page) -> None:
    answer = console.goto(f"{shared.url}/services/nobody-s/progress")
    assert answer is not None
    assert answer.status == 404
    expect(console.get_by_role("heading", name="There is nothing here")).to_be_visible()
