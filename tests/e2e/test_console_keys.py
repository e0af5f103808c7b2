"""API keys and access tokens on their pages, in a real browser."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
from openai import OpenAI
from playwright.sync_api import Page, expect

from modelry.access.store import KeyRow
from modelry.db import Database
from tests.support.browser import cookie_of
from tests.support.console import visiting
from tests.support.instance import ADMIN_PASSWORD, Instance

XSS = '<img src=x onerror="document.title = 1">'


def test_a_key_is_made_shown_once_and_calls(shared: Instance, page: Page, demo_path: str) -> None:
    visiting(page, shared, "/keys/new")
    page.get_by_label("Name", exact=True).fill("from its page")
    page.get_by_label("Chosen services").check()
    page.get_by_label(demo_path).check()
    page.get_by_label("Expires").select_option("7")
    page.get_by_label("Requests per minute").fill("1,000")
    page.get_by_label("Strict").check()
    page.get_by_role("button", name="Create API key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("from its page is created")
    key = page.locator("code", has_text=re.compile(r"^sk-")).first.inner_text().strip()
    client = OpenAI(base_url=f"{shared.url}/v1", api_key=key)
    assert [model.id for model in client.models.list()] == [demo_path]
    assert demo_path in page.locator("pre").last.inner_text()
    with shared.client() as management:
        (made,) = [each for each in management.list("/keys") if each["name"] == "from its page"]
    assert made["services"] == [demo_path]
    assert made["limits"]["requests_per_minute"] == 1000
    assert made["strict"]
    page.get_by_role("link", name="I have copied it").click()
    row = page.locator(f"#{made['id']}")
    expect(row).to_contain_text(made["key"])
    expect(row).to_contain_text("1 k requests/min")
    assert key not in page.content()


def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    shared: Instance, page: Page
) -> None:
    visiting(page, shared, "/keys/new")
    page.get_by_label("Name", exact=True).fill(XSS)
    page.get_by_label("Chosen services").check()
    page.get_by_label("Further access paths").fill(XSS)
    page.get_by_label("Tokens per month").fill("many")
    page.get_by_role("button", name="Create API key").click()
    wrong = page.get_by_label("Tokens per month")
    expect(wrong).to_have_value("many")
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#tokens_per_month-wrong")).to_contain_text("whole number")
    expect(page.get_by_text("Choose at least one service")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value(XSS)
    expect(page.get_by_label("Further access paths")).to_have_value(XSS)
    assert page.title() != "1"


def test_a_key_is_found_changed_and_revoked(shared: Instance, page: Page, demo_path: str) -> None:
    with shared.client() as client:
        made = client.post("/keys", {"name": f"{XSS} sought", "services": [demo_path, "public/*"]})
        client.post("/keys", {"name": "another"})
    visiting(page, shared, "/keys")
    page.get_by_role("searchbox").fill("SOUGHT")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=SOUGHT"))
    page.get_by_role("link", name=f"{XSS} sought", exact=True).click()
    expect(page.get_by_label(demo_path)).to_be_checked()
    expect(page.get_by_label("Further access paths")).to_have_value("public/*")
    page.get_by_label("Name", exact=True).fill("renamed")
    page.get_by_label("All services of yours").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("renamed is saved")).to_be_visible()
    page.get_by_role("link", name="Revoke renamed").click()
    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("renamed is revoked")).to_be_visible()
    expect(page.locator(f"#{made['id']}")).to_have_count(0)
    client_of = OpenAI(base_url=f"{shared.url}/v1", api_key=made["key"])
    headers = {"authorization": f"Bearer {client_of.api_key}"}
    assert httpx2.get(f"{shared.url}/v1/models", headers=headers).status_code == 401


def test_keys_of_browsers_stand_apart(shared: Instance, page: Page) -> None:
    me = shared.api("GET", "/me").json()["id"]

    async def add() -> None:
        db = Database(None, shared.paths.database)
        given = {"id": "key_of_a_browser", "name": "playground of demo", "tail": "QQQQ"}
        async with db.begin() as session:
            session.add(KeyRow(user_id=me, hash="0" * 64, session="1" * 64, strict=False, **given))
        await db.close()

    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(add())).result()
    visiting(page, shared, "/keys")
    expect(page.locator("#key-list")).not_to_contain_text("QQQQ")
    page.get_by_role("link", name="Of browser sessions").click()
    expect(page.locator("#key-list")).to_contain_text("QQQQ")
    page.get_by_role("link", name="Revoke playground of demo").click()
    page.locator("summary", has_text="Revoke").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("playground of demo is revoked")).to_be_visible()


def test_an_access_token_is_made_and_deleted_on_the_profile(shared: Instance, page: Page) -> None:
    visiting(page, shared, "/profile")
    page.locator("#token-name").fill(XSS)
    page.get_by_role("button", name="Create access token").click()
    token = page.locator("code", has_text=re.compile(r"^pat-")).first.inner_text().strip()
    me = shared.api("GET", "/me", token=token)
    assert me.status_code == 200
    row = page.locator("#tokens tbody tr", has_text=XSS)
    row.locator("summary").click()
    row.get_by_role("button", name="Delete it now").click()
    expect(page.locator("#tokens tbody tr", has_text=XSS)).to_have_count(0)
    assert shared.api("GET", "/me", token=token).status_code == 401
    local = page.locator("#tokens tbody tr", has_text="this machine's command line")
    expect(local.locator("summary")).to_have_count(0)


def test_a_new_password_signs_other_browsers_out(
    make_instance: Callable[..., Instance], page: Page
) -> None:
    instance = make_instance().start()
    other = {"modelry_session": cookie_of(instance)}
    visiting(page, instance, "/profile")

    def change(current: str, new: str, repeated: str) -> None:
        page.get_by_label("Current password").fill(current)
        page.get_by_label("New password", exact=True).fill(new)
        page.get_by_label("New password, again").fill(repeated)
        page.get_by_role("button", name="Change password").click()

    change("not it", "a new password", "a new password")
    expect(page.get_by_text("This is not your current password")).to_be_visible()
    change(ADMIN_PASSWORD, "a new password", "another one")
    expect(page.get_by_text("not what the field before says")).to_be_visible()
    assert httpx2.get(f"{instance.url}/profile", cookies=other).status_code == 200
    change(ADMIN_PASSWORD, "a new password", "a new password")
    expect(page.get_by_text("your other browsers are signed out")).to_be_visible()
    assert httpx2.get(f"{instance.url}/profile", cookies=other).status_code == 303
    page.reload()
    expect(page.get_by_role("heading", name="Profile")).to_be_visible()
