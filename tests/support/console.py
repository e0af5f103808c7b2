"""The console's pages, and what a browser sees, loads and measures of them."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, expect

from tests.support.browser import cookie_of, sign_in
from tests.support.instance import MODEL, Instance

TABS = ("call", "playground", "metrics", "logs", "events", "conformance", "settings", "progress")
"""Of the page of a service, beside its overview."""

PAGES = (
    "/welcome",
    "/models",
    f"/models/{MODEL}",
    f"/deploy?model={MODEL}",
    "/services",
    "/services/demo",
    *(f"/services/demo/{tab}" for tab in TABS),
    "/playground",
    "/keys",
    "/usage",
    "/nodes",
    "/engines",
    "/profile",
    "/design",
    "/services/nothing-here",
)
"""For who has signed in, on an instance with the service `demo`; the last one is missing."""


def name_of(path: str) -> str:
    """A page's, as a file's name."""
    return urlsplit(path).path.strip("/").replace("/", "-")


@dataclass
class Traffic:
    """What a page asks for while it is open. `outside`: of anybody but its own server."""

    origin: str
    outside: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        local = request.url.startswith((self.origin + "/", "blob:", "data:"))
        if not local:
            self.outside.append(request.url)


def bytes_of_first_load(page: Page, url: str) -> int:
    """What comes over the wire for a page that the browser knows nothing of."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.clearBrowserCache")
    total = 0

    def finished(event: dict[str, float]) -> None:
        nonlocal total
        total += int(event["encodedDataLength"])

    session.on("Network.loadingFinished", finished)
    page.goto(url)
    page.wait_for_load_state("load")
    # The browser tells of what ended in the order in which it did: this comes after all of it.
    page.evaluate("new Promise(requestAnimationFrame)")
    session.detach()
    return total


def interactive_ms(page: Page, url: str) -> float:
    """From the start of its loading until a page can be used: its modules have run."""
    page.goto(url)
    took = page.evaluate(
        """() => new Promise((done) => {
          const look = () => {
            const [entry] = performance.getEntriesByType("navigation");
            if (entry.domContentLoadedEventEnd > 0) done(entry.domContentLoadedEventEnd);
            else setTimeout(look, 5);
          };
          look();
        })"""
    )
    return float(took)


def signed_in_page(page: Page, instance: Instance) -> Page:
    sign_in(page, instance)
    expect(page.locator("#sign-out")).to_be_attached()
    return page


def visiting(page: Page, instance: Instance, path: str) -> Page:
    """A page, for a browser that has signed in before."""
    session = {"name": "modelry_session", "value": cookie_of(instance), "url": instance.url}
    page.context.add_cookies([session])  # type: ignore[list-item]
    page.goto(instance.url + path)
    return page
