"""Chat in the playground: the real model, and played engines."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.pictures import png
from tests.support.playground import (
    DONE,
    answered,
    answers,
    at_rest,
    body_of,
    box,
    chunk,
    panel,
    piece,
    questions,
    said,
)
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]

USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 2}}\n\n'


# -- the real chat model -----------------------------------------------------


def test_a_conversation_is_had_and_goes_on(shared: Instance, signed_in: Page) -> None:
    play = panel(signed_in, shared, "demo", "chat")
    play.get_by_label("Tokens at most").fill("12")
    play.get_by_label("Seed", exact=True).fill("7")
    bodies: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if "/v1/" in request.url:
            bodies.append(json.loads(request.post_data or ""))

    signed_in.on("request", note)
    box(play).fill("Name a colour.")
    box(play).press("Enter")
    foot = play.locator(".answer-foot").first
    expect(foot).to_contain_text("12 tokens · the first after")
    expect(foot).to_contain_text("tokens/s")
    expect(foot).to_contain_text("cut at the most tokens")
    expect(box(play)).to_have_value("")
    box(play).fill("And another?")
    play.get_by_role("button", name="Send", exact=True).click()
    expect(answers(play)).to_have_count(2)
    at_rest(play)
    assert [each["role"] for each in bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert bodies[1]["messages"][1]["content"]
    assert (bodies[1]["max_tokens"], bodies[1]["seed"]) == (12, 7)
    assert "temperature" not in bodies[1]
    play.get_by_role("button", name="New conversation").click()
    expect(answers(play)).to_have_count(0)


def test_what_the_service_refuses_is_said_in_the_page_s_words(
    shared: Instance, signed_in: Page
) -> None:
    play = panel(signed_in, shared, "demo", "chat")
    play.get_by_label("Images").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    box(play).fill("What is this?")
    play.get_by_role("button", name="Send", exact=True).click()
    alert = play.locator(".answer").get_by_role("alert")
    expect(alert).to_contain_text("takes no images")
    expect(alert).not_to_contain_text("messages[")
    expect(play.locator(".bubble")).to_have_text("What is this?")


# -- a played engine ---------------------------------------------------------


def test_an_answer_comes_as_it_is_written_and_can_be_stopped(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"), gated=True)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("Count to a thousand.")
    play.get_by_role("button", name="Send", exact=True).click()
    replica.go()
    # It stands there before it is complete.
    expect(answers(play)).to_have_text("One")
    box(play).press("Escape")
    at_rest(play)
    expect(play.locator(".answer-foot")).to_contain_text("stopped")
    expect(play.get_by_role("alert")).to_have_count(0)
    expect(box(play)).to_be_focused()
    wait_for(lambda: replica.counts["abandoned"] == 1, "the engine to be told")
    # The conversation goes on from what had come.
    replica.now(do="stream", frames=said("Two"))
    answered(play, "Go on.", "Two")
    assert [each["content"] for each in body_of(replica.requests[-1])["messages"]] == [
        *("Count to a thousand.", "One", "Go on."),
    ]


def test_an_answer_is_stopped_before_it_begins_and_tried_again(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="hang")
    play = panel(signed_in, shared, name, "chat")
    send = play.get_by_role("button", name="Send", exact=True)
    box(play).fill("First?")
    send.click()
    # The button that was pressed keeps the focus, so that Tab goes on from there.
    expect(send).to_be_disabled()
    expect(send).to_be_focused()
    expect(box(play)).to_have_value("")
    box(play).fill("My next")
    play.get_by_role("button", name="Stop", exact=True).last.click()
    expect(play.locator(".answer").get_by_role("alert")).to_contain_text("stopped")
    expect(box(play)).to_have_value("My next")
    replica.now(do="stream", frames=said("One"))
    play.get_by_role("button", name="Try again").click()
    expect(answers(play)).to_have_text(["One"])
    at_rest(play)
    assert questions(replica) == ["First?"]


def test_an_answer_that_breaks_off_is_no_part_of_the_conversation(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("Half"), gated=True)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("First?")
    box(play).press("Enter")
    replica.go()
    expect(answers(play)).to_have_text("Half")
    replica.kill()
    expect(play.locator(".answer").get_by_role("alert")).to_be_visible()
    expect(answers(play)).to_have_text(["Half"])
    replica.revive()
    replica.now(do="stream", frames=said("Whole"))
    answered(play, "Second?", "Whole")
    assert questions(replica) == ["Second?"]
    # Only of the last answer is there another try.
    expect(play.get_by_role("button", name="Try again")).to_have_count(0)


def test_an_answer_is_had_once_more_and_a_question_is_changed(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    answered(play, "First?", "One")
    replica.now(do="stream", frames=said("Other"))
    play.locator(".answer").hover()
    play.get_by_role("button", name="Answer once more").click()
    expect(answers(play)).to_have_text(["Other"])
    answered(play, "Second?", "Other")
    replica.now(do="stream", frames=said("Changed"))
    first = play.locator(".turn").first
    first.hover()
    first.get_by_role("button", name="Edit").click()
    field = first.get_by_role("textbox", name="Message")
    expect(field).to_be_focused()
    field.fill("Third?")
    field.press("Enter")
    expect(answers(play)).to_have_text(["Changed"])
    expect(play.locator(".bubble")).to_have_text(["Third?"])
    assert questions(replica) == ["Third?"]


def test_begun_anew_a_conversation_knows_nothing_of_an_answer_under_way(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"), gated=True)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("First?")
    box(play).press("Enter")
    replica.go()
    expect(answers(play)).to_have_text("One")
    box(play).fill("half a thought")
    play.get_by_role("button", name="New conversation").click()
    expect(answers(play)).to_have_count(0)
    expect(box(play)).to_have_value("")
    replica.now(do="stream", frames=said("Three"))
    answered(play, "Second?", "Three")
    assert questions(replica) == ["Second?"]
    expect(answers(play)).to_have_text(["Three"])


def test_every_setting_is_part_of_the_call(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=[piece("One"), USAGE, DONE])
    play = panel(signed_in, shared, name, "chat")
    for label, value in {
        "System message": "Be brief.",
        "Temperature": "0.5",
        "Top P": "0.9",
        "Tokens at most": "64",
        "Seed": "7",
        "Stop at": "END\n\nDONE\n",
    }.items():
        play.get_by_label(label, exact=True).fill(value)
    for button in play.get_by_role("button", name="Insert an example").all():
        button.click()
    answered(play, "First?", "One")
    expect(play.locator(".answer-foot")).to_contain_text("2 tokens")
    expect(play.locator(".answer-foot")).to_contain_text("31 read")
    body = body_of(replica.requests[-1])
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 64)
    assert (body["seed"], body["stop"]) == (7, ["END", "DONE"])
    assert body["tools"][0]["function"]["name"] == "get_weather"
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["city", "country"]


@pytest.mark.parametrize(
    ("label", "text", "complaint"),
    [
        ("Tools", "[{", "This is no JSON"),
        ("Tools", '{"name": "f"}', "Tools are a list"),
        ("Answer as JSON of this schema", "[]", "A schema is an object in braces"),
    ],
)
def test_tools_and_schemas_are_checked_while_they_are_written(
    shared: Instance, signed_in: Page, played: Played, label: str, text: str, complaint: str
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    field = play.get_by_label(label, exact=True)
    field.fill(text)
    expect(play.get_by_text(complaint)).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    box(play).fill("First?")
    box(play).press("Enter")
    expect(play.get_by_role("alert").last).to_contain_text(f"{label}: {complaint}")
    assert replica.requests == []
    expect(box(play)).to_have_value("First?")
    field.fill("")
    expect(play.get_by_text(complaint, exact=True)).to_have_count(0)


def test_functions_are_called_and_their_results_given(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"index": 0, "function": function}

    begun = {"id": "call_1", "type": "function", **call(name="get_<b>", arguments="")}
    frames = [
        chunk({"role": "assistant", "tool_calls": [begun]}),
        chunk({"tool_calls": [call(arguments='{"city": ')]}),
        chunk({"tool_calls": [call(arguments='"<img src=x>"}')]}, "tool_calls"),
        DONE,
    ]
    name, replica = played("chat", do="stream", frames=frames)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("How is the weather?")
    box(play).press("Enter")
    shown = play.locator(".call")
    expect(shown.locator("code").first).to_have_text("get_<b>")
    expect(shown.locator("pre")).to_have_text('{\n  "city": "<img src=x>"\n}')
    shown.get_by_label("Result to give back").fill("sunny")
    replica.now(do="stream", frames=said("It is sunny."))
    play.get_by_role("button", name="Send the results").click()
    expect(answers(play).last).to_have_text("It is sunny.")
    at_rest(play)
    _, assistant, tool = body_of(replica.requests[-1])["messages"]
    arguments = '{"city": "<img src=x>"}'
    assert assistant["tool_calls"] == [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_<b>", "arguments": arguments},
        }
    ]
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    results = play.get_by_role("button", name="Send the results")
    expect(results).to_be_hidden()
    # It comes back whole: the call, its result and what was made of it.
    signed_in.reload()
    expect(answers(play).last).to_have_text("It is sunny.")
    expect(play.get_by_label("Result to give back")).to_have_value("sunny")
    expect(results).to_be_hidden()
    expect(play.get_by_role("button", name="Answer once more")).to_have_count(1)


def test_what_a_model_thinks_is_folded_away_once_it_speaks(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    frames = [chunk({"reasoning_content": "Hm, <b>one</b>."}), *said("One")]
    name, replica = played("chat", do="stream", frames=frames, gated=True)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("First?")
    box(play).press("Enter")
    replica.go()
    thought = play.get_by_text("Hm, <b>one</b>.")
    expect(thought).to_be_visible()
    replica.go()
    expect(answers(play)).to_have_text("One")
    expect(thought).to_be_hidden()
    play.get_by_text("Reasoning").click()
    expect(thought).to_be_visible()
    replica.go()
