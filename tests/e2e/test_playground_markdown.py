"""What a model writes is shown as Markdown, and never as anything more."""

from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, Request, expect

from tests.e2e.test_console_quality import violations
from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.playground import (
    DONE,
    answers,
    at_rest,
    box,
    chunk,
    panel,
    piece,
    said,
    side_by_side,
)
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]

HOSTILE = """\
<img src=x onerror="window.hit = 1" alt="raw"> <svg onload="window.hit = 2"><a>x</a></svg>
<script>window.hit = 3</script><style>body { display: none }</style>
<iframe src="javascript:parent.hit = 4"></iframe>
<form action="/logout" method="post"><button>Sign out</button></form>
<b onclick="window.hit = 5" style="position: fixed" class="toast" id="play">bold</b>

[one](javascript:window.hit=6) [two](data:text/html,<script>window.hit=7</script>)
[three](vbscript:x) [four](/services/demo) <javascript:window.hit=8>
[good](https://example.com/a "title \\" onmouseover=window.hit=9")

![a gull](https://example.com/gull.png "x") ![](javascript:window.hit=10)

```html
<img src=x onerror="window.hit = 11">
```

`<script>window.hit = 12</script>`

| a<img src=x onerror=window.hit=13> | b |
| --- | --- |
| <svg/onload=window.hit=14> | <math><mtext><table><mglyph><style><img src=x> |
"""

SAMPLE = """\
# Title

Some **bold** and `code`,
on two lines.

3. three
4. four

- [x] done

> quoted

```python
print("<hi>")
```

| a | b |
| :-- | --: |
| 1 | 2 |

The end<br>of *it*, H<sub>2</sub>O.
"""


def test_nothing_that_a_model_writes_becomes_part_of_the_page(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    outside: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((shared.url, "blob:")):
            outside.append(request.url)

    signed_in.on("request", note)
    # As it comes, each beginning of it is shown as well.
    frames = [piece(HOSTILE[at : at + 24]) for at in range(0, len(HOSTILE), 24)]
    name, _ = played("chat", do="stream", frames=[*frames, DONE], pace_s=0.005)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill(HOSTILE)
    box(play).press("Enter")
    shown = answers(play)
    expect(shown.locator("table")).to_be_visible()
    at_rest(play)
    forbidden = (
        "img, svg:not([data-copy-code] svg), script, style, iframe, form, math, input, "
        "[style], [id], [onclick], button:not([data-copy-code])"
    )
    assert shown.locator(forbidden).count() == 0
    assert signed_in.evaluate("window.hit") is None
    links = shown.locator("a").evaluate_all(
        "(all) => all.map((each) => [each.getAttribute('href'), each.target, each.rel])"
    )
    apart = ["_blank", "noopener noreferrer nofollow"]
    assert links == [
        ["https://example.com/a", *apart],
        ["https://example.com/gull.png", *apart],
    ]
    # Of a picture there is its text, as a link; HTML is shown as it was written.
    expect(shown.get_by_role("link", name="a gull")).to_be_visible()
    expect(shown).to_contain_text("<script>window.hit = 3</script>")
    expect(shown.locator("pre")).to_have_text('<img src=x onerror="window.hit = 11">')
    assert play.locator(".bubble *:not([data-images], [data-text], [data-lost])").count() == 0
    assert outside == []
    # Neither does it when the conversation comes back.
    signed_in.reload()
    expect(answers(play).locator("table")).to_be_visible()
    assert shown.locator(forbidden).count() == 0
    assert signed_in.evaluate("window.hit") is None


def test_markdown_looks_the_same_however_it_came(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    name, replica = played("chat", do="stream", frames=said(SAMPLE))
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("At once")
    box(play).press("Enter")
    expect(answers(play).locator("sub")).to_have_text("2")
    at_rest(play)
    replica.now(do="stream", frames=[*(piece(each) for each in SAMPLE), DONE], pace_s=0.002)
    box(play).fill("By letters")
    box(play).press("Enter")
    expect(answers(play).last.locator("sub")).to_have_text("2")
    at_rest(play)
    shown = answers(play)
    assert shown.first.inner_html() == shown.last.inner_html()
    first = shown.first
    expect(first.locator("h3")).to_have_text("Title")
    assert first.locator("ol").get_attribute("start") == "3"
    expect(first.locator("ul li")).to_have_text("☑ done")
    expect(first.locator("blockquote")).to_have_text("quoted")
    expect(first.locator(".code-head span")).to_have_text("python")
    assert first.locator("td").last.get_attribute("align") == "right"


def test_a_program_in_an_answer_is_copied(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    signed_in.context.grant_permissions(["clipboard-read", "clipboard-write"])
    name, _ = played("chat", do="stream", frames=said("```sh\necho '<b>'\n```"))
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("A program")
    box(play).press("Enter")
    answers(play).get_by_role("button", name="Copy").click()
    expect(signed_in.get_by_text("Copied")).to_be_visible()
    assert signed_in.evaluate("navigator.clipboard.readText()") == "echo '<b>'"
    play.locator(".answer").get_by_role("button", name="Copy").last.click()
    wait_for(
        lambda: signed_in.evaluate("navigator.clipboard.readText()") == "```sh\necho '<b>'\n```",
        "the answer to be copied",
    )


def test_blocks_that_are_whole_are_made_once(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    """What is selected or pointed at in them stays, and a long answer costs no more by the end."""
    frames = [piece("First.\n\n"), piece("Second.\n\n"), piece("Third."), DONE]
    name, replica = played("chat", do="stream", frames=frames, gated=True)
    play = panel(signed_in, shared, name, "chat")
    box(play).fill("Three")
    box(play).press("Enter")
    replica.go()
    replica.go()
    expect(answers(play).locator("p")).to_have_text(["First.", "Second."])
    signed_in.evaluate("window.first = document.querySelector('.md p')")
    replica.go()
    replica.go()
    at_rest(play)
    same = signed_in.evaluate("window.first === document.querySelector('.md p')")
    assert same is True
    expect(answers(play).locator("p")).to_have_text(["First.", "Second.", "Third."])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_conversation_with_all_that_can_be_in_it_is_accessible(
    shared: Instance, signed_in: Page, played: Played, theme: Literal["light", "dark"]
) -> None:
    signed_in.emulate_media(color_scheme=theme, reduced_motion="reduce")
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    frames = [chunk({"reasoning_content": "Hm."}), piece(SAMPLE), chunk({"tool_calls": [call]})]
    name, replica = played("chat", do="stream", frames=[*frames, DONE])
    play = side_by_side(signed_in, shared, name, "demo")
    play.get_by_role("button", name="Insert an example").first.click()
    play.get_by_label("Answer as JSON of this schema").fill("[")
    play.get_by_label("Answer as JSON of this schema").fill("")
    play.locator(".column").nth(1).get_by_role("button", name="Remove the column").click()
    box(play).fill("Everything")
    box(play).press("Enter")
    expect(play.get_by_role("button", name="Send the results")).to_be_visible()
    at_rest(play)
    replica.now(do="answer", status=400, text='{"error": {"message": "Alas."}}')
    box(play).fill("Once more")
    box(play).press("Enter")
    expect(play.get_by_role("button", name="Try again")).to_be_visible()
    assert violations(signed_in) == []
    for button in ("View code", "Share", "Conversations"):
        play.get_by_role("button", name=button, exact=True).click()
        assert violations(signed_in) == []
        signed_in.keyboard.press("Escape")
