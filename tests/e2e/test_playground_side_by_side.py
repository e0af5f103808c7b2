"""Up to four services are asked the same, each in its column."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.playground import (
    answers,
    at_rest,
    body_of,
    box,
    enter,
    questions,
    ready,
    said,
    side_by_side,
)

Played = Callable[..., tuple[str, Replica]]


@pytest.fixture
def two(played: Played) -> tuple[Replica, Replica]:
    return (
        played("chat", "first", do="stream", frames=said("One"))[1],
        played("chat", "second", do="stream", frames=said("Two"))[1],
    )


def column(play: Locator, at: int) -> Locator:
    return play.locator(".column").nth(at)


def test_one_message_goes_to_every_column_and_each_goes_on_by_itself(
    shared: Instance, signed_in: Page, two: tuple[Replica, Replica]
) -> None:
    play = side_by_side(signed_in, shared, "first", "second")
    box(play).fill("Hello?")
    box(play).press("Enter")
    expect(answers(play)).to_have_text(["One", "Two"])
    at_rest(play)
    box(play).fill("More?")
    box(play).press("Enter")
    expect(answers(play)).to_have_text(["One", "One", "Two", "Two"])
    at_rest(play)
    for replica, answer in zip(two, ("One", "Two"), strict=True):
        messages = body_of(replica.requests[-1])["messages"]
        assert [each["content"] for each in messages] == ["Hello?", answer, "More?"]
    # Having one answer once more leaves the other as it is.
    two[1].now(do="stream", frames=said("Deux"))
    column(play, 1).locator(".answer").last.hover()
    column(play, 1).get_by_role("button", name="Answer once more").click()
    expect(answers(play)).to_have_text(["One", "One", "Two", "Deux"])
    # To change a question changes it everywhere.
    column(play, 0).locator(".turn").first.hover()
    column(play, 0).get_by_role("button", name="Edit").first.click()
    field = column(play, 0).get_by_role("textbox", name="Message")
    field.fill("Bonjour?")
    field.press("Enter")
    expect(answers(play)).to_have_text(["One", "Deux"])
    assert questions(two[0]) == questions(two[1]) == ["Bonjour?"]


def test_a_column_is_stopped_alone_and_fails_alone(
    shared: Instance, signed_in: Page, played: Played, two: tuple[Replica, Replica]
) -> None:
    played("chat", "third", do="answer", status=400, text='{"error": {"message": "Alas."}}')
    two[1].now(do="hang")
    play = side_by_side(signed_in, shared, "first", "second", "third")
    box(play).fill("Hello?")
    box(play).press("Enter")
    expect(column(play, 0).locator(".md")).to_have_text("One")
    expect(column(play, 2).get_by_role("alert")).to_contain_text("Alas.")
    expect(play.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    column(play, 1).get_by_role("button", name="Stop").click()
    expect(column(play, 1).get_by_role("alert")).to_contain_text("stopped")
    at_rest(play)
    two[1].now(do="stream", frames=said("Two"))
    column(play, 1).get_by_role("button", name="Try again").click()
    expect(column(play, 1).locator(".md")).to_have_text("Two")


def test_a_column_has_settings_of_its_own_until_it_has_those_of_all_again(
    shared: Instance, signed_in: Page, two: tuple[Replica, Replica]
) -> None:
    play = side_by_side(signed_in, shared, "first", "second")
    temperature = play.get_by_label("Temperature")
    temperature.fill("0.1")
    play.get_by_label("Settings of").select_option("2 · second")
    expect(temperature).to_have_value("0.1")
    temperature.fill("0.9")
    expect(column(play, 1).get_by_role("button", name="own settings")).to_be_visible()
    expect(column(play, 0).get_by_role("button", name="own settings")).to_be_hidden()
    box(play).fill("Hello?")
    box(play).press("Enter")
    expect(answers(play)).to_have_text(["One", "Two"])
    at_rest(play)
    assert [body_of(each.requests[-1])["temperature"] for each in two] == [0.1, 0.9]
    signed_in.reload()
    expect(column(play, 1).get_by_role("button", name="own settings")).to_be_visible()
    ready(signed_in).get_by_label("Settings of").select_option("2 · second")
    expect(temperature).to_have_value("0.9")
    play.get_by_role("button", name="Use the settings of all").click()
    expect(temperature).to_have_value("0.1")
    expect(column(play, 1).get_by_role("button", name="own settings")).to_be_hidden()
    box(play).fill("More?")
    box(play).press("Enter")
    expect(answers(play)).to_have_count(4)
    at_rest(play)
    assert [body_of(each.requests[-1])["temperature"] for each in two] == [0.1, 0.1]


def test_columns_are_added_up_to_four_and_removed(
    shared: Instance, signed_in: Page, two: tuple[Replica, Replica]
) -> None:
    play = side_by_side(signed_in, shared, "first")
    columns = play.locator(".column")
    add = play.get_by_role("button", name="Add a column")
    expect(columns.get_by_role("button", name="Remove the column")).to_be_hidden()
    for count in (2, 3, 4):
        add.click()
        expect(columns).to_have_count(count)
    expect(add).to_be_disabled()
    # Those that are shown are in the address, which a reload keeps; one may be there twice.
    chosen = [each.input_value() for each in play.get_by_label("Service", exact=True).all()]
    assert chosen[0] == "first"
    assert {"demo", "second"} < set(chosen)
    columns.nth(1).get_by_role("button", name="Remove the column").click()
    expect(columns).to_have_count(3)
    columns.nth(1).get_by_label("Service", exact=True).select_option("second")
    columns.nth(2).get_by_role("button", name="Remove the column").click()
    expect(columns).to_have_count(2)
    assert signed_in.url.endswith("models=first%2Csecond")
    columns.nth(1).get_by_label("Service", exact=True).select_option("first")
    signed_in.reload()
    expect(columns).to_have_count(2)
    expect(columns.nth(1).get_by_label("Service", exact=True)).to_have_value("first")


def test_pictures_are_made_side_by_side(shared: Instance, signed_in: Page, played: Played) -> None:
    replicas = [
        played("image", name, do="answer", status=400, text='{"error": {"message": "No."}}')[1]
        for name in ("draws", "paints")
    ]
    play = side_by_side(signed_in, shared, "draws", "paints", task="image")
    play.get_by_label("Prompt").fill("a gull")
    play.get_by_role("button", name="Make").click()
    expect(play.locator("[data-refusal]")).to_have_text(["No.", "No."])
    assert [body_of(each.requests[-1])["prompt"] for each in replicas] == ["a gull"] * 2


def test_services_that_cannot_be_called_are_passed_over_and_named(
    shared: Instance, signed_in: Page, two: tuple[Replica, Replica]
) -> None:
    play = side_by_side(signed_in, shared, "second", "<img src=x onerror=alert(1)>", "first")
    expect(play.locator(".column")).to_have_count(2)
    expect(play.locator("#notice")).to_have_text(
        "Not among your services that can be called for this: <img src=x onerror=alert(1)>"
    )
    assert play.locator("#notice img").count() == 0


def test_who_has_no_service_is_told_what_to_do(
    make_instance: Callable[..., Instance], page: Page
) -> None:
    instance = make_instance().start()
    enter(page, instance)
    page.goto(f"{instance.url}/playground")
    expect(page.get_by_role("heading", name="No service to try yet")).to_be_visible()
    expect(page.get_by_role("link", name="Choose a model")).to_be_visible()
