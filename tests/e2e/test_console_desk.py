"""Usage, metrics, nodes, engines and the design system on their pages, in a real browser."""

import csv
import io
import re
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI
from playwright.sync_api import Locator, Page, expect

from modelry import console
from modelry.console.tokens import tokens
from tests.support.browser import cookie_of
from tests.support.console import visiting
from tests.support.instance import Instance
from tests.support.waiting import wait_for

XSS = "=<img src=x onerror='document.title = 1'>"
COMPONENTS = Path(console.__file__).parent / "styles" / "40-components.css"


@pytest.fixture(scope="module")
def used(shared: Instance, demo_path: str) -> str:
    """The id of a key that has called the demo, once the control plane has counted it."""
    with shared.client() as client:
        made = client.post("/keys", {"name": XSS})
    caller = OpenAI(base_url=f"{shared.url}/v1", api_key=made["key"])
    message = {"role": "user", "content": "Hello"}
    for _ in caller.chat.completions.create(
        model=demo_path,
        messages=[message],  # type: ignore[list-item]
        max_tokens=4,
        stream=True,
    ):
        pass

    wait_for(lambda: made["id"] in keys_used(shared), "the call to be counted")
    return str(made["id"])


def keys_used(instance: Instance) -> list[str]:
    with instance.client() as client:
        return [row["key"] for row in client.list("/usage", group_by="key")]


def chart(page: Page, id_: str) -> Locator:
    return page.locator(f"#{id_}")


def test_usage_is_drawn_and_told_in_tables(
    shared: Instance, page: Page, used: str, demo_path: str
) -> None:
    visiting(page, shared, "/usage?period=24h")
    requests = chart(page, "requests")
    expect(requests).to_have_attribute("data-state", "shown")
    expect(requests.locator("canvas")).to_be_visible()
    by_key = page.locator("section", has=page.get_by_role("heading", name="By API key"))
    expect(by_key.get_by_role("link", name=XSS, exact=True)).to_be_visible()
    by_service = page.locator("section", has=page.get_by_role("heading", name="By service"))
    expect(by_service.get_by_role("link", name=demo_path)).to_be_visible()
    requests.locator("summary").click()
    expect(requests.locator("tbody tr")).to_have_count(24)
    shown = [int(text) for text in requests.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert sum(shown) >= 1
    assert page.title() != "1"


def test_an_export_has_what_the_page_shows_and_no_formula(shared: Instance, used: str) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    answer = httpx2.get(f"{shared.url}/usage/export?period=24h", cookies=cookies)
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    (row,) = [each for each in rows if each["key"] == used]
    assert row["key_name"] == f"'{XSS}"
    assert int(row["completion_tokens"]) > 0
    objects = httpx2.get(f"{shared.url}/usage/export?format=json", cookies=cookies).json()
    assert XSS in [each["key_name"] for each in objects]


def test_a_revoked_key_s_usage_keeps_its_name(shared: Instance, page: Page, demo_path: str) -> None:
    with shared.client() as client:
        made = client.post("/keys", {"name": "soon gone"})
        OpenAI(base_url=f"{shared.url}/v1", api_key=made["key"]).completions.create(
            model=demo_path, prompt="a", max_tokens=1
        )
        wait_for(lambda: made["id"] in keys_used(shared), "the call to be counted")
        client.delete(f"/keys/{made['id']}")
    visiting(page, shared, "/usage")
    row = page.locator("tr", has_text="soon gone")
    expect(row).to_contain_text("revoked")
    expect(row.get_by_role("link")).to_have_count(0)


def test_a_period_that_is_none_is_refused_in_words(shared: Instance, page: Page) -> None:
    visiting(page, shared, "/usage?period=custom&from=x&to=2026-01-01")
    expect(page.get_by_text("from must be a date such as 2026-01-31")).to_be_visible()


def test_charts_say_why_they_are_empty(shared: Instance, page: Page) -> None:
    visiting(page, shared, "/usage?period=custom&from=2001-01-01&to=2001-01-31")
    expect(chart(page, "requests")).to_have_attribute("data-state", "empty")
    expect(page.get_by_text("Nothing was called in this time")).to_be_visible()
    refusal = {"error": {"code": "unavailable", "message": "the disk is full", "hint": None}}
    page.route("**/api/v1/usage*", lambda route: route.fulfill(status=409, json=refusal))
    page.reload()
    expect(chart(page, "requests")).to_contain_text("the disk is full")


def test_a_service_s_metrics_are_drawn(shared: Instance, page: Page, used: str) -> None:
    visiting(page, shared, "/services/demo/metrics?period=1h")
    for id_ in ("requests", "ttft", "tokens"):
        expect(chart(page, id_)).to_have_attribute("data-state", "shown")
    expect(page.locator("[data-figure=ttft_p50_s]")).to_contain_text("s")
    chart(page, "ttft").locator("summary").click()
    expect(chart(page, "ttft").locator("tbody tr")).to_have_count(60)
    page.get_by_role("link", name="7 days").click()
    expect(page.get_by_text("a point each 1 h")).to_be_visible()


def test_a_chart_follows_the_theme_and_its_place(shared: Instance, page: Page, used: str) -> None:
    visiting(page, shared, "/usage?period=24h")
    canvas = chart(page, "requests").locator("canvas")
    expect(canvas).to_be_visible()
    light = canvas.evaluate("(canvas) => canvas.toDataURL()")
    page.emulate_media(color_scheme="dark")
    drawing = "(canvas) => canvas.toDataURL()"
    wait_for(lambda: canvas.evaluate(drawing) != light, "the chart to be drawn in dark")
    page.set_viewport_size({"width": 400, "height": 800})
    wide = "(canvas) => canvas.getBoundingClientRect().width"
    wait_for(lambda: canvas.evaluate(wide) < 400, "the chart to be as narrow as its place")


def test_a_node_shows_what_runs_on_it(shared: Instance, page: Page, demo_path: str) -> None:
    visiting(page, shared, "/nodes")
    with shared.client() as client:
        (node,) = client.list("/nodes")
    expect(page.get_by_role("heading", name=node["name"])).to_be_visible()
    for name in ("CPU", "Memory", "Disk of the data folder"):
        expect(page.get_by_role("progressbar", name=name)).to_be_visible()
    expect(page.get_by_role("link", name=demo_path).first).to_be_visible()


def test_engines_tell_what_uses_them_and_refusals_are_told(shared: Instance, page: Page) -> None:
    visiting(page, shared, "/engines")
    embedded = page.locator("[id='llama.cpp']")
    expect(embedded.get_by_role("link", name="demo", exact=True)).to_be_visible()
    expect(embedded.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("Install vllm"))).to_have_count(2)
    csrf = page.locator("meta[name=csrf]").get_attribute("content") or ""
    cookies = {each.get("name", ""): each.get("value", "") for each in page.context.cookies()}
    answer = httpx2.post(
        f"{shared.url}/engines/no-such-1.0-cpu/install",
        data={"csrf": csrf},
        cookies=cookies,
        headers={"accept": "text/html"},
    )
    assert answer.status_code == 404
    assert "there is no runtime" in answer.text


def test_the_design_page_shows_every_component_and_token(shared: Instance) -> None:
    html = httpx2.get(f"{shared.url}/design", cookies={"modelry_session": cookie_of(shared)}).text
    shown = {name for names in re.findall(r'class="([^"]*)"', html) for name in names.split()}
    css = re.sub(r"/\*.*?\*/|\{[^{}]*\}", " ", COMPONENTS.read_text(), flags=re.DOTALL)
    # Of programs' colours only those that the program there has.
    classes = {name for name in re.findall(r"\.([a-z][a-z0-9-]*)", css) if len(name) > 2}
    assert classes - shown == set()
    assert [name for name in tokens() if f"--{name}" not in html] == []
