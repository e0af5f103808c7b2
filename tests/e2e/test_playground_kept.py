"""Conversations that a browser keeps, and links that set the playground."""

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.data_plane import Replica
from tests.support.instance import ADMIN_PASSWORD, Instance
from tests.support.playground import (
    answered,
    answers,
    at_rest,
    box,
    panel,
    questions,
    ready,
    said,
    side_by_side,
)
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]


def forgotten(page: Page) -> bool:
    return bool(page.evaluate("sessionStorage.length + localStorage.length === 0"))


def kept(page: Page) -> Locator:
    page.get_by_role("button", name="Conversations").click()
    return page.locator("#kept li")


# -- conversations -----------------------------------------------------------


def test_a_conversation_outlasts_a_session_and_goes_on(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    play.get_by_label("System message").fill("Be brief.")
    answered(play, "First?", "One")
    signed_in.reload()
    expect(answers(play)).to_have_text(["One"])
    # In another tab: this page's token is the earlier session's.
    fields: dict[str, str | float | bool] = {"name": "admin", "password": ADMIN_PASSWORD}
    signed_in.context.request.post(f"{shared.url}/login", form=fields)
    box(play).fill("Second?")
    box(play).press("Enter")
    alert = play.locator(".answer").get_by_role("alert").last
    expect(alert).to_contain_text("You have signed in anew meanwhile: reload the page")
    box(play).fill("My draft")
    signed_in.reload()
    expect(box(play)).to_have_value("My draft")
    expect(ready(signed_in).get_by_label("System message")).to_have_value("Be brief.")
    replica.now(do="stream", frames=said("Two"))
    play.get_by_role("button", name="Try again").click()
    expect(answers(play)).to_have_text(["One", "Two"])
    at_rest(play)
    assert questions(replica) == ["First?", "Second?"]
    play.get_by_role("button", name="New conversation").click()
    signed_in.reload()
    expect(play.get_by_text("Say something to begin")).to_be_visible()


def test_conversations_are_listed_opened_renamed_and_deleted(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    answered(play, hostile, "One")
    play.get_by_role("button", name="New conversation").click()
    replica.now(do="stream", frames=said("Two"))
    answered(play, "Second?", "Two")
    rows = kept(signed_in)
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("Second?")
    expect(rows.nth(1)).to_contain_text(hostile)
    rows.nth(1).get_by_role("button", name="Rename").click()
    rows.nth(1).get_by_label("Title").fill("Mine <b>")
    rows.nth(1).get_by_role("button", name="Save").click()
    opened = rows.filter(has_text="Mine <b>")
    opened.get_by_role("button", name="Mine <b>").click()
    expect(answers(play)).to_have_text(["One"])
    expect(play.locator(".bubble")).to_have_text([hostile])
    replica.now(do="stream", frames=said("Three"))
    answered(play, "Third?", "Three")
    assert questions(replica) == [hostile, "Third?"]
    rows = kept(signed_in)
    expect(rows.nth(0)).to_contain_text("Mine <b>")
    rows.nth(0).get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(1)
    signed_in.keyboard.press("Escape")
    # The one that was shown is gone from the page too.
    expect(answers(play)).to_have_count(0)
    signed_in.reload()
    expect(kept(signed_in)).to_have_count(1)


def test_a_tab_that_is_left_takes_nothing_from_another(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, _ = played("chat", do="stream", frames=said("One"))
    answered(panel(signed_in, shared, name, "chat"), "First?", "One")
    other = signed_in.context.new_page()
    play = panel(other, shared, name, "chat")
    kept(other).get_by_role("button", name="First?").first.click()
    answered(play, "Second?", "One")
    signed_in.goto("about:blank")
    conversations = other.evaluate("Object.values(localStorage).map(JSON.parse)")
    (exchanges,) = [each["columns"][0]["exchanges"] for each in conversations]
    assert [each["text"] for each in exchanges] == ["First?", "Second?"]


def test_columns_come_back_with_their_conversations(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    played("chat", "first", do="stream", frames=said("One"))
    played("chat", "second", do="stream", frames=said("Two"))
    play = side_by_side(signed_in, shared, "first", "second")
    box(play).fill("Hello?")
    box(play).press("Enter")
    expect(answers(play)).to_have_text(["One", "Two"])
    at_rest(play)
    signed_in.goto(f"{shared.url}/playground?models=demo")
    expect(answers(play)).to_have_text(["One", "Two"])
    chosen = [each.input_value() for each in play.get_by_label("Service", exact=True).all()]
    assert chosen == ["first", "second"]


def test_who_signs_out_leaves_no_conversation_in_any_tab(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    other = signed_in.context.new_page()
    tabs = [panel(page, shared, name, "chat") for page in (signed_in, other)]
    for play in tabs:
        answered(play, "First?", "One")
    replica.now(do="stream", frames=said("Late"), gated=True)
    box(tabs[1]).fill("Second?")
    box(tabs[1]).press("Enter")
    replica.go()
    expect(answers(tabs[1]).last).to_have_text("Late")
    signed_in.get_by_role("button", name="Sign out").click()
    expect(signed_in.get_by_role("button", name="Sign in")).to_be_visible()
    for page in (signed_in, other):
        wait_for(partial(forgotten, page), "the tab to forget it")
    replica.go()
    at_rest(tabs[1])
    assert forgotten(other)


def test_another_person_s_conversations_are_neither_shown_nor_left(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, _ = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    answered(play, "First?", "One")
    # As if somebody else had used this browser and only closed it.
    signed_in.evaluate(
        """() => {
            const [key] = Object.keys(localStorage);
            const theirs = key.replace(/u-[0-9a-f]{12}/, "u-000000000000");
            localStorage.setItem(theirs, localStorage.getItem(key));
        }"""
    )
    signed_in.reload()
    expect(kept(signed_in)).to_have_count(1)
    assert signed_in.evaluate("Object.keys(localStorage).length") == 1


def test_many_conversations_make_room_for_new_ones(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, _ = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    answered(play, "First?", "One")
    signed_in.evaluate(
        """() => {
            const [key] = Object.keys(localStorage);
            const one = JSON.parse(localStorage.getItem(key));
            for (let at = 0; at < 60; at += 1) {
                const other = { ...one, id: `x${at}`, at: one.at - 1000 - at };
                localStorage.setItem(key.replace(one.id, other.id), JSON.stringify(other));
            }
        }"""
    )
    answered(play, "Second?", "One")
    rows = kept(signed_in)
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("First?")


# -- links -------------------------------------------------------------------


def link(play: Locator, *, whole: bool = False) -> str:
    page = play.page
    play.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog", name="Share")
    if whole:
        dialog.get_by_label("With the conversation").check()
    field = dialog.get_by_label("Link", exact=True)
    value = field.input_value()
    dialog.get_by_role("button", name="Close").click()
    return value


def preset_in(address: str) -> dict[str, Any]:
    text = address.partition("#preset=")[2]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def address_of(instance: Instance, preset: object) -> str:
    text = preset if isinstance(preset, str) else json.dumps(preset)
    return f"{instance.url}/playground#preset={base64.urlsafe_b64encode(text.encode()).decode()}"


def test_a_link_sets_the_playground_and_sends_nothing(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    replicas = [
        played("chat", name, do="stream", frames=said("**One**"))[1] for name in ("first", "second")
    ]
    play = side_by_side(signed_in, shared, "first", "second")
    play.get_by_label("System message").fill("Sei kurz – 简短.")
    play.get_by_label("Settings of").select_option("2 · second")
    play.get_by_label("Temperature").fill("0.9")
    box(play).fill("Hello?")
    box(play).press("Enter")
    expect(answers(play)).to_have_text(["One", "One"])
    at_rest(play)
    bare, whole = link(play), link(play, whole=True)
    # What would be too long to open is not made a link of.
    play.get_by_label("Settings of").select_option("All columns")
    play.get_by_label("System message").fill("x" * 60_000)
    play.get_by_role("button", name="Share").click()
    expect(signed_in.get_by_text("The link would be too long")).to_be_visible()
    signed_in.keyboard.press("Escape")
    # The conversation is part of it only where that was asked for, the key never.
    assert "Hello?" not in json.dumps(preset_in(bare))
    assert preset_in(whole)["columns"][0]["exchanges"] == [{"text": "Hello?", "answer": "**One**"}]
    assert "sk-" not in json.dumps(preset_in(whole))
    called = [len(each.requests) for each in replicas]
    play.get_by_role("button", name="New conversation").click()
    for address, count in ((bare, 0), (whole, 2)):
        signed_in.goto("about:blank")
        signed_in.goto(address)
        expect(signed_in.get_by_text("Nothing has been sent")).to_be_visible()
        play = ready(signed_in)
        expect(answers(play)).to_have_count(count)
        expect(play.get_by_label("System message")).to_have_value("Sei kurz – 简短.")
        expect(play.locator(".column")).to_have_count(2)
        mark = play.locator(".column").nth(1).get_by_role("button", name="own settings")
        expect(mark).to_be_visible()
        assert "#" not in signed_in.url
    assert [len(each.requests) for each in replicas] == called


def test_a_link_for_another_task_finds_its_page(shared: Instance, signed_in: Page) -> None:
    preset = {
        "task": "completion",
        "settings": {"max_tokens": "9"},
        "columns": [{"service": "demo"}],
        "prompt": "There was",
    }
    signed_in.goto(address_of(shared, preset))
    expect(signed_in.get_by_label("Text to go on with")).to_have_value("There was")
    expect(ready(signed_in).get_by_label("Tokens at most")).to_have_value("9")


HOSTILE = "<img src=x onerror='window.hit = 1'>"


def preset(**changed: Any) -> dict[str, Any]:
    return {"task": "chat", "settings": {}, "columns": [{"service": "demo"}], **changed}


@pytest.mark.parametrize(
    "hostile",
    [
        "no JSON",
        "[]",
        preset(task=HOSTILE),
        preset(columns=[]),
        preset(columns=[{"service": "demo"}] * 5),
        preset(columns=[{"service": {"name": "demo"}}]),
        preset(columns=[{"service": "demo", "exchanges": [{"text": "x", "answer": {}}]}]),
        preset(columns=[{"service": "demo", "exchanges": [{"text": "", "answer": ""}] * 101}]),
        preset(settings={"system": ["x"]}),
        preset(settings={"__proto__": "x"} | {f"a{at}": "x" for at in range(30)}),
        preset(settings={"system": "x" * 60_000}),
    ],
    ids=range(11),
)
def test_a_link_that_is_no_preset_is_refused_in_words(
    shared: Instance, signed_in: Page, hostile: object
) -> None:
    signed_in.goto(address_of(shared, hostile))
    expect(signed_in.locator("#notice")).to_contain_text("The settings in the link cannot be read")
    expect(ready(signed_in).get_by_label("System message")).to_have_value("")
    assert "#" not in signed_in.url


def test_what_a_link_says_is_text_and_nothing_more(shared: Instance, signed_in: Page) -> None:
    exchange = {"text": HOSTILE, "answer": f"{HOSTILE} [x](javascript:window.hit=2)"}
    columns = [
        {"service": "demo", "exchanges": [exchange], "own": {"tools": HOSTILE}},
        {"service": HOSTILE},
    ]
    settings = {"system": HOSTILE, "stop": HOSTILE, "unknown": HOSTILE}
    signed_in.goto(address_of(shared, preset(settings=settings, columns=columns)))
    expect(signed_in.locator("#notice")).to_contain_text(HOSTILE)
    play = ready(signed_in)
    expect(play.get_by_label("System message")).to_have_value(HOSTILE)
    expect(play.locator(".bubble")).to_have_text([HOSTILE])
    expect(answers(play)).to_contain_text(HOSTILE)
    assert play.locator("img, .md a").count() == 0
    play.get_by_role("button", name="own settings").click()
    expect(play.get_by_label("Tools", exact=True)).to_have_value(HOSTILE)
    expect(play.get_by_text("This is no JSON")).to_be_visible()
    play.get_by_role("button", name="View code").click()
    expect(signed_in.get_by_role("dialog", name="View code")).to_contain_text("This is no JSON")
    assert signed_in.evaluate("window.hit") is None
