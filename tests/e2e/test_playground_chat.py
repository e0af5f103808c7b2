"""Chat in the playground of a service's page: the real model, and played engines."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.support.data_plane import Replica
from tests.support.instance import ADMIN_PASSWORD, Instance
from tests.support.pictures import png
from tests.support.playground import panel
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]


def piece(text: str, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


DONE = "data: [DONE]\n\n"
BROKEN_OFF = "broken off; no part of the conversation"


def box(form: Locator) -> Locator:
    return form.get_by_label("Message", exact=True)


def answered(form: Locator, text: str, answer: str) -> None:
    """Send a text, and wait for the whole answer."""
    box(form).fill(text)
    box(form).press("Enter")
    expect(form.locator(".said").last).to_have_text(answer)
    at_rest(form)


def at_rest(form: Locator) -> None:
    expect(form.get_by_role("button", name="Send")).to_be_enabled()


def forgotten(page: Page) -> bool:
    return bool(page.evaluate("sessionStorage.length") == 0)


def questions(replica: Replica) -> list[str]:
    """What people said, in the conversation that an engine was sent last."""
    messages = json.loads(replica.requests[-1]["body"])["messages"]
    return [each["content"] for each in messages if each["role"] == "user"]


# -- the real chat model -----------------------------------------------------


def test_a_conversation_is_had_and_goes_on(shared: Instance, signed_in: Page) -> None:
    form = panel(signed_in, shared, "demo", "chat")
    form.get_by_text("Options").click()
    form.get_by_label("Tokens at most").fill("12")
    form.get_by_label("Seed").fill("7")
    bodies: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if "/v1/" in request.url:
            bodies.append(json.loads(request.post_data or ""))

    signed_in.on("request", note)
    message = form.get_by_label("Message", exact=True)
    said = form.locator(".said")
    message.fill("Name a colour.")
    message.press("Enter")
    expect(form.get_by_role("status")).to_contain_text("12 written in")
    expect(form.get_by_role("status")).to_contain_text("cut at 12 tokens")
    expect(message).to_have_value("")
    first = said.nth(1).text_content()
    assert first
    assert said.nth(0).text_content() == "Name a colour."
    message.fill("And another?")
    form.get_by_role("button", name="Send").click()
    expect(said).to_have_count(4)
    expect(form.get_by_role("button", name="Send")).to_be_enabled()
    assert [each["content"] for each in bodies[1]["messages"]] == [
        "Name a colour.",
        first,
        "And another?",
    ]
    form.get_by_role("button", name="Start anew").click()
    expect(said).to_have_count(0)


def test_what_the_service_refuses_is_said_and_the_message_stays(
    shared: Instance, signed_in: Page
) -> None:
    form = panel(signed_in, shared, "demo", "chat")
    form.get_by_text("Options").click()
    form.get_by_label("Temperature").fill("0.5")
    form.get_by_text("System message, images").click()
    form.get_by_label("Images").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    message = form.get_by_label("Message", exact=True)
    message.fill("What is this?")
    form.get_by_role("button", name="Send").click()
    alert = form.get_by_role("alert")
    expect(alert).to_contain_text("takes no images")
    expect(alert).to_contain_text("The images are taken out of the form.")
    expect(alert).not_to_contain_text("messages[")
    assert form.get_by_label("Images").evaluate("(field) => field.files.length") == 0
    expect(message).to_have_value("What is this?")
    expect(form.locator(".said")).to_have_count(0)


# -- a played engine ---------------------------------------------------------


def test_an_answer_comes_as_it_is_written_and_can_be_cancelled(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), DONE], gated=True)
    form = panel(signed_in, shared, name, "chat")
    box(form).fill("Count to a thousand.")
    form.get_by_role("button", name="Send").click()
    replica.go()
    # It stands there before it is complete.
    expect(form.locator(".said").last).to_have_text("One")
    form.get_by_role("button", name="Cancel").click()
    expect(form.get_by_role("status")).to_have_text("cancelled")
    at_rest(form)
    expect(form.get_by_role("alert")).to_be_hidden()
    expect(form.get_by_text(BROKEN_OFF)).to_be_visible()
    expect(box(form)).to_have_value("Count to a thousand.")
    expect(box(form)).to_be_focused()
    wait_for(lambda: replica.counts["abandoned"] == 1, "the engine to be told")


def test_started_anew_a_conversation_knows_nothing_of_an_answer_under_way(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), DONE], gated=True)
    form = panel(signed_in, shared, name, "chat")
    box(form).fill("First?")
    box(form).press("Enter")
    replica.go()
    expect(form.locator(".said").last).to_have_text("One")
    box(form).fill("half a thought")
    form.get_by_role("button", name="Start anew").click()
    expect(form.locator(".said")).to_have_count(0)
    expect(box(form)).to_have_value("")
    replica.now(do="stream", frames=[piece("Three"), DONE])
    answered(form, "Second?", "Three")
    assert questions(replica) == ["Second?"]
    expect(form.locator(".said")).to_have_text(["Second?", "Three"])
    expect(form.get_by_role("status")).to_have_text("")
    expect(form.get_by_role("alert")).to_be_hidden()


def test_what_is_written_while_an_answer_comes_stays(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), DONE], gated=True)
    form = panel(signed_in, shared, name, "chat")
    send = form.get_by_role("button", name="Send")
    box(form).fill("First?")
    send.click()
    # The button that was pressed keeps the focus, so that Tab goes on from there.
    expect(send).to_be_disabled()
    expect(send).to_be_focused()
    expect(box(form)).to_have_value("")
    box(form).fill("My next")
    replica.go()
    replica.go()
    expect(form.locator(".said").last).to_have_text("One")
    at_rest(form)
    expect(box(form)).to_have_value("My next")


def test_an_answer_that_breaks_off_is_shown_and_asked_for_once_more(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("Half"), DONE], gated=True)
    form = panel(signed_in, shared, name, "chat")
    box(form).fill("First?")
    box(form).press("Enter")
    replica.go()
    expect(form.locator(".said").last).to_have_text("Half")
    replica.kill()
    expect(form.get_by_role("alert")).to_be_visible()
    expect(form.get_by_text(BROKEN_OFF)).to_be_visible()
    expect(form.locator(".said")).to_have_text(["First?", "Half"])
    expect(box(form)).to_have_value("First?")
    replica.revive()
    replica.now(do="stream", frames=[piece("Whole"), DONE])
    box(form).press("Enter")
    expect(form.locator(".said").last).to_have_text("Whole")
    assert questions(replica) == ["First?"]


def test_what_is_written_meanwhile_outlasts_an_answer_that_breaks_off(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, _ = played("chat", do="hang")
    form = panel(signed_in, shared, name, "chat")
    box(form).fill("First?")
    box(form).press("Enter")
    expect(box(form)).to_have_value("")
    box(form).fill("My next")
    form.get_by_role("button", name="Cancel").click()
    expect(form.get_by_role("status")).to_have_text("cancelled")
    expect(box(form)).to_have_value("My next")
    # Nothing had come, so nothing is left of it.
    expect(form.locator(".said")).to_have_count(0)


@pytest.mark.parametrize(
    ("mebibytes", "said"),
    [([21], "image-0.png is larger than 20 MiB"), ([15, 15, 15], "larger than 40 MiB together")],
    ids=["one", "together"],
)
def test_images_that_are_too_large_are_refused_before_they_are_read(
    shared: Instance,
    signed_in: Page,
    played: Played,
    tmp_path: Path,
    mebibytes: list[int],
    said: str,
) -> None:
    name, replica = played("chat", do="stream", frames=[DONE])
    form = panel(signed_in, shared, name, "chat")
    form.get_by_text("System message, images").click()
    files = [tmp_path / f"image-{at}.png" for at in range(len(mebibytes))]
    for file, size in zip(files, mebibytes, strict=True):
        file.touch()
        with file.open("r+b") as opened:
            opened.truncate(size << 20)
    form.get_by_label("Images").set_input_files(files)
    box(form).fill("What is this?")
    box(form).press("Enter")
    expect(form.get_by_role("alert")).to_contain_text(said)
    expect(box(form)).to_have_value("What is this?")
    assert replica.requests == []


def test_images_stay_in_the_form_where_the_answer_breaks_off(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="answer", status=400, text='{"error": {"message": "Alas."}}')
    form = panel(signed_in, shared, name, "chat")
    form.get_by_text("System message, images").click()
    images = form.get_by_label("Images")
    images.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png()})
    box(form).fill("What is this?")
    box(form).press("Enter")
    expect(form.get_by_role("alert")).to_be_visible()
    assert images.evaluate("(field) => field.files[0].name") == "a.png"
    replica.now(do="stream", frames=[piece("A square."), DONE])
    box(form).press("Enter")
    expect(form.locator(".said").last).to_have_text("A square.")
    expect(form.get_by_text("1 image", exact=True)).to_be_visible()
    assert images.evaluate("(field) => field.files.length") == 0


def test_blanks_are_no_message(shared: Instance, signed_in: Page, played: Played) -> None:
    name, replica = played("chat", do="stream", frames=[DONE])
    form = panel(signed_in, shared, name, "chat")
    box(form).fill(" \n ")
    form.get_by_role("button", name="Send").click()
    expect(form.get_by_role("alert")).to_have_text("write something under “Message”")
    expect(box(form)).to_be_focused()
    assert replica.requests == []


def test_a_conversation_that_is_too_long_says_what_to_do(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    error = {"message": "The prompt is too long.", "code": "context_length_exceeded"}
    name, _ = played("chat", do="answer", status=400, text=json.dumps({"error": error}))
    form = panel(signed_in, shared, name, "chat")
    box(form).fill("Well?")
    box(form).press("Enter")
    alert = form.get_by_role("alert")
    expect(alert).to_have_text("The prompt is too long. Start anew, or ask for less.")


def test_a_long_answer_keeps_its_end_and_the_form_in_view_unless_it_is_scrolled_up(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    frames = [piece("line\n" * 30) for _ in range(4)] + [piece("end"), DONE]
    name, replica = played("chat", do="stream", frames=frames, gated=True)
    form = panel(signed_in, shared, name, "chat")
    answer = form.locator(".said").nth(1)
    send = form.get_by_role("button", name="Send")

    def lines(count: int) -> None:
        replica.go()
        wait_for(
            lambda: (answer.text_content() or "").count("line") == count * 30, f"{count} pieces"
        )

    box(form).fill("First?")
    box(form).press("Enter")
    lines(1)
    lines(2)
    expect(send).to_be_in_viewport(ratio=1)
    signed_in.mouse.move(400, 300)
    signed_in.mouse.wheel(0, -500)
    wait_for(
        lambda: send.evaluate("(send) => send.getBoundingClientRect().top > innerHeight"),
        "the form to be out of view",
    )
    lines(3)
    lines(4)
    expect(send).not_to_be_in_viewport()
    replica.go()
    replica.go()
    at_rest(form)
    expect(send).not_to_be_in_viewport()


def test_a_conversation_outlasts_a_session_and_goes_on(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), DONE])
    form = panel(signed_in, shared, name, "chat")
    answered(form, "First?", "One")
    signed_in.reload()
    expect(form.locator(".said")).to_have_text(["First?", "One"])
    # In another tab: this page's token is the earlier session's.
    fields: dict[str, str | float | bool] = {"name": "admin", "password": ADMIN_PASSWORD}
    signed_in.context.request.post(f"{shared.url}/login", form=fields)
    box(form).fill("Second?")
    box(form).press("Enter")
    alert = form.get_by_role("alert")
    expect(alert).to_have_text("you have signed in anew meanwhile; reload the page")
    signed_in.reload()
    expect(form.locator(".said")).to_have_text(["First?", "One"])
    expect(box(form)).to_have_value("Second?")
    replica.now(do="stream", frames=[piece("Two"), DONE])
    box(form).press("Enter")
    expect(form.locator(".said").last).to_have_text("Two")
    assert questions(replica) == ["First?", "Second?"]
    form.get_by_role("button", name="Start anew").click()
    signed_in.reload()
    expect(form.locator(".said")).to_have_count(0)


def test_who_signs_out_leaves_no_conversation_in_any_tab(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), DONE])
    other = signed_in.context.new_page()
    tabs = [panel(page, shared, name, "chat") for page in (signed_in, other)]
    for form in tabs:
        answered(form, "First?", "One")
    replica.now(do="stream", frames=[piece("Late"), DONE], gated=True)
    box(tabs[1]).fill("Second?")
    box(tabs[1]).press("Enter")
    replica.go()
    expect(tabs[1].locator(".said").last).to_have_text("Late")
    signed_in.get_by_role("button", name="Sign out").click()
    expect(signed_in.get_by_role("button", name="Sign in")).to_be_visible()
    for page in (signed_in, other):
        wait_for(partial(forgotten, page), "the tab to forget it")
    replica.go()
    at_rest(tabs[1])
    assert forgotten(other)
