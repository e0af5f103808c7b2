"""A service's page in a browser, and what an engine behind it was asked."""

import json
from typing import Any

from playwright.sync_api import Locator, Page

from tests.support.data_plane import Replica
from tests.support.instance import Instance


def panel(page: Page, instance: Instance, name: str, task: str) -> Locator:
    """The form of a task on a service's page, for an operator who has signed in."""
    page.goto(f"{instance.url}/services/{name}")
    form = page.locator(f"form[data-task={task}]")
    if not form.is_visible():
        page.locator("#playground summary", has_text=task.capitalize()).click()
    return form


def asked(replica: Replica) -> dict[str, Any]:
    """The one request that an engine got: its path, and its body's fields."""
    (request,) = replica.requests
    body: dict[str, Any] = json.loads(request["body"])
    return {"path": request["head"].split(" ")[1], **body}


def event(value: dict[str, Any]) -> str:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"
