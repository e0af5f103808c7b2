"""A real Chromium, and how the operator signs in with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.instance import ADMIN_PASSWORD, Instance

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that beeps, and nobody who is asked for it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@contextmanager
def running_browser(microphone: Path | None = None) -> Iterator[Browser]:
    """`microphone`: a WAV file that it hears over and over."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "the tests need Chromium: apt-get install chromium"
    heard = [] if microphone is None else [f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS, *heard])
        yield browser
        browser.close()


@contextmanager
def fresh_page(browser: Browser, *expected: str) -> Iterator[Page]:
    """A page without cookies; anything that it complains about fails the test, but refusals and
    what has one of the `expected` texts in it.
    """
    context = browser.new_context()
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    context.close()
    known = ("the server responded with a status of 4", *expected)
    assert [each for each in complaints if not any(text in each for text in known)] == []


def sign_in(page: Page, instance: Instance, password: str = ADMIN_PASSWORD) -> None:
    page.goto(instance.url + "/")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def cookie_of(instance: Instance) -> str:
    """The cookie of a session of the operator's, signed in without a browser."""
    form = {"name": "admin", "password": ADMIN_PASSWORD}
    answer = httpx2.post(f"{instance.url}/login", data=form)
    assert answer.status_code == 303
    header = answer.headers["set-cookie"].lower()
    assert "httponly" in header
    assert "samesite=lax" in header
    return answer.cookies["modelry_session"]
