"""Takes a picture of every page of the console, in both themes, into `docs/images`.

    uv run --group test python scripts/screenshots.py [PAGE …]

What is shown is real: an instance of its own serves the demo's model, is talked to, and counts.
Pages are named as in `tests/support/console.py`; without one, all are taken.
"""

import io
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import cookie_of, running_browser  # noqa: E402
from tests.support.console import PAGES, name_of  # noqa: E402
from tests.support.instance import Instance, running  # noqa: E402

IMAGES = ROOT / "docs/images"
WIDTH, HEIGHT = 1280, 860
QUESTIONS = (
    "Why is the sky blue?",
    "Name three rivers.",
    "Write a haiku about the sea.",
    "What is a neural network?",
    "How do bees find their way home?",
    "Translate “good morning” into French.",
)
CALLS = 24


def main() -> None:
    wanted = sys.argv[1:]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Instance(Path(folder, "data"), MODELRY_CONFORMANCE="deploy")) as instance,
        running_browser() as browser,
    ):
        furnish(instance)
        IMAGES.mkdir(parents=True, exist_ok=True)
        for path in ("/login", *PAGES):
            name = name_of(path)
            if not wanted or name in wanted:
                for theme in ("light", "dark"):
                    take(browser, instance, path, theme, IMAGES / f"{name}-{theme}.webp")


def furnish(instance: Instance) -> None:
    """Services as somebody has them after a while: in use, idle, stopped, failed."""
    instance.deploy("demo")
    instance.deploy("support-assistant", context_tokens=4096, slots=8, idle_after_s=600)
    instance.deploy("night-batch")
    with instance.client() as client:
        client.post("/services/night-batch/stop")
        broken = {"name": "half-a-model", "source": "https://127.0.0.1:9/half.gguf"}
        client.post("/models", broken)
        client.post("/services", {"name": "half-a-model", "model": "half-a-model"})
    instance.await_state("half-a-model", "failed")
    keys = [instance.key(name) for name in ("notebook", "website", "nightly-report")]

    def ask(number: int) -> None:
        model = ("demo", "demo", "support-assistant")[number % 3]
        client = instance.openai(keys[number % len(keys)])
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
            max_tokens=96,
            stream=True,
        )
        for _ in stream:
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(CALLS)))


def take(browser: Browser, instance: Instance, path: str, theme: str, target: Path) -> None:
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if theme == "dark" else "light",
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    if path != "/login":
        cookie = {"name": "modelry_session", "value": cookie_of(instance), "url": instance.url}
        context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.goto(instance.url + path)
    if path.endswith("/playground"):
        converse(page)
    page.wait_for_load_state("load")
    page.wait_for_timeout(1500)  # charts are drawn, and what came with the first look
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(target, lossless=True, method=6)
    context.close()
    print(target.relative_to(ROOT))


def converse(page: Page) -> None:
    """A question and its whole answer."""
    page.get_by_role("textbox", name="Message", exact=True).first.fill(QUESTIONS[0])
    page.get_by_role("button", name="Send").first.click()
    expect(page.locator("[data-content]").first).not_to_be_empty(timeout=60_000)
    expect(page.get_by_role("button", name="Send").first).to_be_enabled(timeout=120_000)


if __name__ == "__main__":
    main()
