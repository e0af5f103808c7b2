"""The console in a real browser."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
from playwright.sync_api import Page, expect

from tests.support.browser import cookie_of, sign_in
from tests.support.instance import ADMIN_PASSWORD, Instance


def test_a_wrong_password_is_refused_in_words(shared: Instance, page: Page) -> None:
    sign_in(page, shared, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.goto(f"{shared.url}/services/demo")
    assert urlsplit(page.url).path == "/login"


def test_signing_out_ends_the_session(shared: Instance, page: Page) -> None:
    sign_in(page, shared)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.goto(f"{shared.url}/services")
    assert urlsplit(page.url).path == "/login"


def test_a_form_without_the_session_s_token_changes_nothing(shared: Instance) -> None:
    cookies = {"modelry_session": cookie_of(shared)}
    for csrf in ("", "0" * 64, "é"):
        answer = httpx2.post(
            f"{shared.url}/services/demo/stop", data={"csrf": csrf}, cookies=cookies
        )
        assert answer.status_code == 403
    api = f"{shared.url}/api/v1/services/demo/stop"
    assert httpx2.post(api, cookies=cookies).status_code == 403
    assert httpx2.get(f"{shared.url}/api/v1/me", cookies=cookies).status_code == 200
    assert shared.service("demo")["status"]["state"] == "running"


def test_a_sign_in_form_from_another_site_is_refused(shared: Instance) -> None:
    answer = httpx2.post(
        f"{shared.url}/login",
        data={"name": "admin", "password": ADMIN_PASSWORD},
        headers={"sec-fetch-site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_pages_carry_a_strict_policy(shared: Instance) -> None:
    answer = httpx2.get(f"{shared.url}/login")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_guessing_passwords_is_slowed_down(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance().start()
    form = {"name": "admin", "password": "guess"}

    def guess(_: int) -> int:
        return httpx2.post(f"{instance.url}/login", data=form).status_code

    with ThreadPoolExecutor(15) as pool:
        answers = sorted(pool.map(guess, range(15)))
    assert answers == [401] * 10 + [429] * 5
