"""The catalogue in a browser: looking for models, one of them, and bringing in one's own."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from modelry.services.examples import examples
from tests.support.browser import cookie_of
from tests.support.console import signed_in_page
from tests.support.instance import MODEL, Instance
from tests.support.weights_files import gguf

PAYLOAD = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture
def models(shared: Instance, page: Page) -> Page:
    signed_in_page(page, shared).goto(f"{shared.url}/models")
    return page


@pytest.fixture
def own(shared: Instance, tmp_path: Path) -> Iterator[str]:
    """A model of the operator's own, whose description is what it must not become."""
    weights = tmp_path / "own.gguf"
    weights.write_bytes(gguf(10_000, 7))
    with shared.client() as client:
        model = {"name": "own-model", "source": f"file://{weights}", "copy": True}
        client.post("/models", model)
        client.patch("/models/own-model", {"description": PAYLOAD})
    yield "own-model"
    shared.api("DELETE", "/models/own-model")


def cards(page: Page) -> list[str]:
    found = page.locator("[data-model]")
    return [str(card.get_attribute("data-model")) for card in found.all()]


def test_the_catalogue_is_searched_as_one_types(models: Page) -> None:
    every = len(cards(models))
    models.keyboard.press("/")
    models.keyboard.type("smollm2 instruct")
    expect(models.locator("[data-model]")).to_have_count(1)
    assert cards(models) == [MODEL]
    assert models.url.endswith("/models?q=smollm2+instruct")
    models.reload()
    expect(models.get_by_role("searchbox")).to_have_value("smollm2 instruct")
    models.get_by_role("link", name="Clear filters").click()
    expect(models.locator("[data-model]")).to_have_count(every)
    expect(models.get_by_role("searchbox")).to_have_value("")


def test_filters_add_up_and_the_browser_s_history_knows_them(models: Page) -> None:
    models.get_by_role("link", name="Embedding", exact=True).click()
    models.wait_for_url("**/models?task=embedding")
    models.get_by_label("Provider").select_option("Alibaba Qwen")
    expect(models.locator("[data-model]")).to_have_count(2)
    assert all(each.startswith("qwen3-embedding") for each in cards(models))
    chip = models.get_by_role("link", name="Embedding", exact=True)
    expect(chip).to_have_attribute("aria-current", "true")
    models.go_back()
    expect(models.get_by_label("Provider")).to_have_value("")
    expect(models.locator("[data-model='bge-m3']")).to_be_visible()
    chip.click()
    expect(models.locator(f"[data-model='{MODEL}']")).to_be_visible()
    models.get_by_role("searchbox").fill("nothing is called so")
    expect(models.get_by_role("heading", name="No model is like that")).to_be_visible()


def test_what_is_looked_for_is_found_without_scripts(shared: Instance, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    cookie = {"name": "modelry_session", "value": cookie_of(shared), "url": shared.url}
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.goto(f"{shared.url}/models")
    page.get_by_role("link", name="Transcription", exact=True).click()
    page.get_by_role("searchbox").fill("tiny")
    page.keyboard.press("Enter")
    expect(page.locator("[data-model]")).to_have_count(1)
    assert cards(page) == ["whisper-tiny.en"]
    page.get_by_role("link", name="Whisper tiny").first.click()
    assert page.url.endswith("/models/whisper-tiny.en")
    # Every language's programs are there to read.
    for language in ("curl", "python", "node"):
        expect(page.locator(f"#panel-{language}")).to_be_visible()
    context.close()


def test_a_search_that_makes_no_sense_finds_nothing(shared: Instance) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    for query in ("task=juggling", "size=%00", "provider=<b>", "tag=x&fits=1&here=1&own=1"):
        answer = httpx2.get(f"{shared.url}/models?{query}", cookies=cookies)
        assert answer.status_code == 200
        assert 'data-model="' not in answer.text
        assert "No model is like that" in answer.text
        assert "<b>" not in answer.text


def test_a_model_shows_what_calling_it_looks_like(shared: Instance, models: Page) -> None:
    models.goto(f"{shared.url}/models/{MODEL}")
    path = shared.service("demo")["access_path"]
    wanted = examples(f"{shared.url}/v1", path, ("chat", "completion"))
    shown = models.locator("[role=tabpanel] pre code").all_text_contents()
    assert shown == [each.code for each in wanted]
    expect(models.get_by_text("answers to this now")).to_contain_text(path)
    assert models.locator("[role=tabpanel] .k, [role=tabpanel] .kn").count() > 0
    models.get_by_role("tab", name="curl").focus()
    models.keyboard.press("ArrowRight")
    expect(models.get_by_role("tab", name="Python")).to_be_focused()
    expect(models.locator("#panel-python")).to_be_visible()
    expect(models.locator("#panel-curl")).to_be_hidden()
    # It runs already, so it can be tried at once.
    try_it = models.get_by_role("link", name="Try it")
    assert try_it.get_attribute("href") == "/services/demo/playground"


def test_a_model_that_is_nowhere_deployed_is_tried_by_deploying(
    shared: Instance, models: Page
) -> None:
    models.goto(f"{shared.url}/models/qwen3-0.6b")
    assert models.get_by_role("link", name="Try it").get_attribute("href") == (
        "/deploy?model=qwen3-0.6b"
    )
    rows = models.locator("[data-variant]")
    expect(rows).to_have_count(4)
    expect(rows.filter(has_text="Best here")).to_have_count(1)


def test_what_somebody_wrote_of_a_model_stays_text(
    shared: Instance, models: Page, own: str
) -> None:
    for path in ("/models", f"/models/{own}", f"/deploy?model={own}"):
        models.goto(shared.url + path)
        assert models.locator("main img, main script").count() == 0
    models.goto(f"{shared.url}/models/{own}")
    expect(models.get_by_text(PAYLOAD)).to_be_visible()


def test_weights_are_fetched_ahead(shared: Instance, models: Page, own: str) -> None:
    models.goto(f"{shared.url}/models/{own}")
    models.get_by_role("button", name="Fetch the weights of default").click()
    expect(models.get_by_text("The weights of own-model are being fetched")).to_be_visible()
    expect(models.locator("[data-variant=default] [data-state=here]")).to_be_visible()
    with shared.client() as client:
        assert client.get(f"/models/{own}")["variants"][0]["weights"] == "here"


def test_a_model_of_one_s_own_is_added_with_its_faults_told_where_they_are(
    shared: Instance, models: Page, tmp_path: Path
) -> None:
    weights = tmp_path / "added.gguf"
    weights.write_bytes(gguf(10_000, 8))
    models.get_by_role("link", name="Add a model").click()
    source = models.get_by_label("Source", exact=True)
    name = models.get_by_label("Name", exact=True)
    source.fill("ftp://host/model.gguf")
    name.fill(MODEL)
    models.get_by_role("button", name="Add it").click()
    expect(models.locator("#source-wrong")).to_contain_text("this version cannot fetch from ftp://")
    expect(source).to_have_value("ftp://host/model.gguf")
    expect(source).to_have_attribute("aria-invalid", "true")
    source.fill(f"file://{weights}")
    models.get_by_role("button", name="Add it").click()
    expect(models.locator("#name-wrong")).to_contain_text("there is a model")
    expect(source).to_have_value(f"file://{weights}")
    name.fill("added-model")
    models.get_by_label("Completion").uncheck()
    models.get_by_role("button", name="Add it").click()
    models.wait_for_url("**/models/added-model")
    with shared.client() as client:
        assert client.get("/models/added-model")["tasks"] == ["chat"]
    delete = models.get_by_role("button", name="Delete this model")
    models.get_by_label("Write added-model to confirm").fill("added-mode")
    expect(delete).to_be_disabled()
    models.get_by_label("Write added-model to confirm").fill("added-model")
    delete.click()
    models.wait_for_url("**/models")
    expect(models.get_by_text("added-model is deleted")).to_be_visible()
    assert shared.api("GET", "/models/added-model").status_code == 404


def test_a_model_in_use_is_not_deleted(shared: Instance, own: str) -> None:
    with shared.client() as client:
        client.post("/services", {"name": "uses-it", "model": own})
    cookies = {"modelry_session": cookie_of(shared)}
    page = httpx2.get(f"{shared.url}/models/{own}", cookies=cookies)
    csrf = re.search('name="csrf" content="([0-9a-f]+)"', page.text)
    assert csrf is not None
    headers = {"accept": "text/html"}
    for written, told in (("other", "its name is written"), (own, "used by service uses-it")):
        answer = httpx2.post(
            f"{shared.url}/models/{own}/delete",
            data={"csrf": csrf[1], "written": written},
            cookies=cookies,
            headers=headers,
        )
        assert answer.status_code == 409
        assert told in answer.text
    with shared.client() as client:
        client.delete("/services/uses-it")
