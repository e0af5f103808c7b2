"""The box of a chat in the playground: messages, images, and what stays in view above it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect

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
    panel,
    piece,
    questions,
    said,
)
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]


# -- images ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mebibytes", "refusal"),
    [([21], "image-0.png is larger than 20 MiB"), ([15, 15, 15], "larger than 40 MiB together")],
    ids=["one", "together"],
)
def test_images_that_are_too_large_are_refused_before_they_are_read(
    shared: Instance,
    signed_in: Page,
    played: Played,
    tmp_path: Path,
    mebibytes: list[int],
    refusal: str,
) -> None:
    name, replica = played("chat", do="stream", frames=[DONE])
    play = panel(signed_in, shared, name, "chat")
    files = [tmp_path / f"image-{at}.png" for at in range(len(mebibytes))]
    for file, size in zip(files, mebibytes, strict=True):
        file.touch()
        with file.open("r+b") as opened:
            opened.truncate(size << 20)
    play.get_by_label("Images").set_input_files(files)
    box(play).fill("What is this?")
    box(play).press("Enter")
    expect(play.get_by_role("alert")).to_contain_text(refusal)
    expect(box(play)).to_have_value("What is this?")
    assert replica.requests == []


def test_images_are_attached_pasted_and_taken_out_again(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("Squares."))
    play = panel(signed_in, shared, name, "chat")
    hostile = "<img src=x onerror=alert(1)>.png"
    files: list[FilePayload] = [
        {"name": hostile, "mimeType": "image/png", "buffer": png(8, 8)},
        {"name": "b.png", "mimeType": "image/png", "buffer": png(9, 9)},
    ]
    play.get_by_label("Images").set_input_files(files)
    box(play).evaluate(
        """(box) => {
            const put = new DataTransfer();
            put.items.add(new File([new Uint8Array([1])], "c.png", { type: "image/png" }));
            put.items.add(new File(["x"], "d.txt", { type: "text/plain" }));
            const paste = { clipboardData: put, bubbles: true, cancelable: true };
            box.dispatchEvent(new ClipboardEvent("paste", paste));
        }"""
    )
    thumbs = play.locator("#attached .thumb")
    expect(thumbs).to_have_count(3)
    assert thumbs.locator("img").first.get_attribute("alt") == hostile
    thumbs.nth(2).get_by_role("button", name="Remove the image").click()
    answered(play, "What are these?", "Squares.")
    expect(thumbs).to_have_count(0)
    expect(play.locator(".bubble img")).to_have_count(2)
    text, first, second = body_of(replica.requests[-1])["messages"][0]["content"]
    assert text == {"type": "text", "text": "What are these?"}
    for part in (first, second):
        assert part["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_a_message_with_an_image_is_sent_once(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said("A square."))
    play = panel(signed_in, shared, name, "chat")
    image: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": png(8, 8)}
    play.get_by_label("Images").set_input_files(image)
    box(play).fill("What is this?")
    # Once more while the image is being read.
    play.locator("#ask").evaluate("(form) => { form.requestSubmit(); form.requestSubmit(); }")
    expect(answers(play)).to_have_text("A square.")
    at_rest(play)
    assert play.locator(".bubble").count() == 1
    assert len(replica.requests) == 1


# -- the box and what is above it --------------------------------------------


def test_blanks_are_no_message(shared: Instance, signed_in: Page, played: Played) -> None:
    name, replica = played("chat", do="stream", frames=[DONE])
    play = panel(signed_in, shared, name, "chat")
    box(play).fill(" \n ")
    play.get_by_role("button", name="Send", exact=True).click()
    expect(play.get_by_role("alert")).to_have_text("write something under “Message”")
    expect(box(play)).to_be_focused()
    assert replica.requests == []


def test_a_line_is_begun_with_shift(shared: Instance, signed_in: Page, played: Played) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    box(play).press_sequentially("First")
    box(play).press("Shift+Enter")
    box(play).press_sequentially("line")
    box(play).press("Enter")
    expect(answers(play)).to_have_text("One")
    assert questions(replica) == ["First\nline"]


def test_a_conversation_that_is_too_long_says_what_to_do(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    error = {"message": "The prompt is too long.", "code": "context_length_exceeded"}
    name, _ = played("chat", do="answer", status=400, text=json.dumps({"error": error}))
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("Well?")
    box(play).press("Enter")
    alert = play.locator(".answer").get_by_role("alert")
    expect(alert).to_contain_text(
        "The prompt is too long. Begin a new conversation, or ask for less."
    )


def test_a_long_answer_keeps_its_end_in_view_unless_it_is_scrolled_up(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    frames = [piece("line\n" * 30) for _ in range(4)] + said("end")
    name, replica = played("chat", do="stream", frames=frames, gated=True)
    play = panel(signed_in, shared, name, "chat")
    output = play.locator(".column-output")

    def at_end() -> bool:
        within = "(it) => it.scrollTop + it.clientHeight >= it.scrollHeight - 2"
        return bool(output.evaluate(within))

    def lines(count: int) -> None:
        replica.go()
        wait_for(
            lambda: (answers(play).text_content() or "").count("line") == count * 30,
            f"{count} pieces",
        )

    box(play).fill("First?")
    box(play).press("Enter")
    lines(1)
    lines(2)
    wait_for(at_end, "the end to be in view")
    output.hover()
    signed_in.mouse.wheel(0, -500)
    wait_for(lambda: not at_end(), "the end to be out of view")
    lines(3)
    lines(4)
    assert not at_end()
    replica.go()
    replica.go()
    at_rest(play)
    assert not at_end()
    # The box stays where it is, whatever is said.
    expect(play.get_by_role("button", name="Send", exact=True)).to_be_in_viewport(ratio=1)
