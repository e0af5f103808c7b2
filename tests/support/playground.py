"""A service's playground in a browser, and what an engine behind it was asked."""

import json
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.support.browser import cookie_of
from tests.support.data_plane import Replica
from tests.support.instance import Instance

DONE = "data: [DONE]\n\n"


def enter(page: Page, instance: Instance) -> Page:
    """A page of an operator who has signed in."""
    page.context.add_cookies(
        [{"name": "modelry_session", "value": cookie_of(instance), "url": instance.url}]
    )
    return page


def panel(page: Page, instance: Instance, name: str, task: str) -> Locator:
    """The playground of a service's task, with its settings, for an operator who has signed in."""
    page.goto(f"{instance.url}/services/{name}/playground?task={task}")
    return ready(page)


def side_by_side(page: Page, instance: Instance, *names: str, task: str = "chat") -> Locator:
    page.goto(f"{instance.url}/playground?task={task}&models={','.join(names)}")
    return ready(page)


def ready(page: Page) -> Locator:
    """The playground, once its scripts have run."""
    play = page.locator("#play")
    expect(play.locator(".column").first).to_be_visible()
    settings = play.locator("#toggle-settings")
    if settings.count() and settings.get_attribute("aria-expanded") == "false":
        settings.click()
    return play


def box(play: Locator) -> Locator:
    return play.get_by_role("textbox", name="Message", exact=True).last


def at_rest(play: Locator) -> None:
    expect(play.get_by_role("button", name="Send", exact=True)).to_be_enabled()


def answers(play: Locator) -> Locator:
    return play.locator(".answer .md")


def answered(play: Locator, text: str, answer: str) -> None:
    """Send a text, and wait for the whole answer."""
    box(play).fill(text)
    box(play).press("Enter")
    expect(answers(play).last).to_have_text(answer)
    at_rest(play)


def body_of(request: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request["body"])
    return body


def asked(replica: Replica) -> dict[str, Any]:
    """The one request that an engine got: its path, and its body's fields."""
    (request,) = replica.requests
    return {"path": request["head"].split(" ")[1], **body_of(request)}


def questions(replica: Replica) -> list[str]:
    """What people said, in the conversation that an engine was sent last."""
    messages = body_of(replica.requests[-1])["messages"]
    return [each["content"] for each in messages if each["role"] == "user"]


def event(value: dict[str, Any]) -> str:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def piece(text: str, finish: str | None = None) -> str:
    return chunk({"content": text}, finish)


def said(text: str) -> list[str]:
    """A whole answer, as an engine streams it."""
    return [piece(text), DONE]
