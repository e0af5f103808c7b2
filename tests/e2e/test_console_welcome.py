"""The first minute: from signing in to a conversation, without a command."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.support.browser import sign_in
from tests.support.instance import Instance


def test_a_first_service_is_one_button_and_ends_in_a_conversation(
    make_instance: Callable[..., Instance], page: Page
) -> None:
    instance = make_instance().start()
    sign_in(page, instance)
    page.wait_for_url("**/welcome")
    page.get_by_role("button", name="Start the first service").click()
    expect(page.locator("[data-step=start]")).to_be_visible()
    page.wait_for_url("**/services/demo/playground", timeout=60_000)
    with instance.client() as client:
        (service,) = client.list("/services")
    assert (service["name"], service["status"]["state"]) == ("demo", "running")
    page.goto(f"{instance.url}/")
    page.wait_for_url("**/services")
    # Who comes back finds it running, and stays.
    page.goto(f"{instance.url}/welcome")
    expect(page.get_by_role("link", name="Start the conversation")).to_be_visible()
    expect(page.locator("[data-step=answer]")).to_have_attribute("data-standing", "done")
    assert page.url.endswith("/welcome")


def test_the_first_page_can_be_passed_over(
    make_instance: Callable[..., Instance], page: Page
) -> None:
    instance = make_instance().start()
    sign_in(page, instance)
    page.get_by_role("link", name="Skip this").click()
    page.wait_for_url("**/models")
    with instance.client() as client:
        assert client.list("/services") == []
