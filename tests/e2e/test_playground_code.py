"""The playground shows the call that it makes as a program, which does the same."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.data_plane import Replica
from tests.support.instance import Instance
from tests.support.node import Node
from tests.support.pictures import png
from tests.support.playground import answered, body_of, box, panel, said, side_by_side
from tests.support.waiting import wait_for

Played = Callable[..., tuple[str, Replica]]

NAMES = {"curl": "curl", "python": "Python", "node": "Node.js"}
TEXT = {"choices": [{"index": 0, "text": "there was"}]}
TRICKY = 'It\'s "quoted" $HOME `x` \\n 简短 ${1}'


def program(page: Page, language: str) -> str:
    page.locator("#play").get_by_role("button", name="View code").click()
    dialog = page.get_by_role("dialog", name="View code")
    dialog.get_by_role("button", name=NAMES[language], exact=True).click()
    text = dialog.locator("#program").text_content() or ""
    dialog.get_by_role("button", name="Close").click()
    return text


Run = Callable[[str, str], str]


@pytest.fixture
def run(shared: Instance, node: Node, tmp_path: Path) -> Run:
    """Runs a program of a language, with a key in its environment: what it prints."""
    key = shared.key("programs")

    def ran(language: str, code: str) -> str:
        if language == "node":
            done = node.run_modules(tmp_path, [code], MODELRY_API_KEY=key)
        else:
            shell = ["bash", "-c"] if language == "curl" else [sys.executable, "-c"]
            environment = {**os.environ, "MODELRY_API_KEY": key}
            done = subprocess.run(
                [*shell, code],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ran


@pytest.mark.parametrize("language", NAMES)
def test_a_chat_s_program_makes_the_call_that_the_page_makes(
    shared: Instance,
    signed_in: Page,
    played: Played,
    run: Run,
    language: str,
) -> None:
    name, replica = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    for label, value in {"System message": TRICKY, "Temperature": "0.5", "Stop at": "a\nb"}.items():
        play.get_by_label(label, exact=True).fill(value)
    answered(play, TRICKY, "One")
    box(play).fill("Second?")
    code = program(signed_in, language)
    assert "sk-" not in code
    answered(play, "Second?", "One")
    made = body_of(replica.requests[-1])
    assert "One" in run(language, code)
    again = body_of(replica.requests[-1])
    assert len(replica.requests) == 3
    for body in (made, again):
        body.pop("stream_options", None)
    assert again == made


def answer(**value: object) -> dict[str, Any]:
    return {"do": "answer", "text": json.dumps(value)}


# Of each task: the button that sends, what the engine does, and what of it a program prints.
TASKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "completion": (
        "Complete",
        {"do": "stream", "frames": [f"data: {json.dumps(TEXT)}\n\n", "data: [DONE]\n\n"]},
        "there was",
    ),
    "embedding": ("Compare", answer(data=[{"index": 0, "embedding": [0.5, 0.25]}] * 3), "0.25"),
    "rerank": ("Rank", answer(results=[{"index": 1, "relevance_score": 0.75}]), "0.75"),
    "image": ("Make", answer(data=[{"b64_json": b64encode(png(8, 8)).decode()}]), ""),
    "speech": ("Speak", answer(), ""),
    "transcription": (
        "Write down",
        answer(text="Say.", segments=[{"start": 0.0, "end": 1.5, "text": "Say."}], duration=2),
        "1.5",
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_s_programs_make_the_call_that_the_page_makes(
    shared: Instance, signed_in: Page, played: Played, run: Run, tmp_path: Path, task: str
) -> None:
    button, do, printed = TASKS[task]
    name, replica = played(task, **do)
    play = panel(signed_in, shared, name, task)
    if task == "image":
        play.get_by_label("Prompt").fill(TRICKY)
        play.get_by_label("Steps").fill("5")
    if task == "transcription":
        (tmp_path / "it's.wav").write_bytes(b"RIFF")
        play.get_by_label("Recording").set_input_files(tmp_path / "it's.wav")
        play.get_by_label("Times").select_option("With times")
    programs = {each: program(signed_in, each) for each in NAMES}
    assert replica.requests == []
    play.get_by_role("button", name=button).click()
    wait_for(lambda: len(replica.requests) == 1, "the page to call")
    for language, code in programs.items():
        shown = run(language, code)
        if language != "curl":
            assert printed in shown
        else:
            assert printed in shown or "-o" in code
    for request in replica.requests[1:]:
        assert path_of(request) == path_of(replica.requests[0])
        if task == "transcription":
            for part in ("verbose_json", "timestamp_granularities[]", "it's.wav", "RIFF"):
                assert part in request["body"]
        else:
            assert comparable(request) == comparable(replica.requests[0])


def path_of(request: dict[str, Any]) -> str:
    path: str = request["head"].split(" ")[1]
    return path


def comparable(request: dict[str, Any]) -> dict[str, Any]:
    """Without what is the page's: it shows pictures while they are made, and counts tokens. A
    library may ask for vectors in a form of its own.
    """
    body = body_of(request)
    own = {"stream_options", "encoding_format"}
    if path_of(request).startswith("/v1/images/"):
        own |= {"stream", "partial_images"}
    return {name: value for name, value in body.items() if name not in own}


def test_a_prompt_is_no_name_of_a_file(
    shared: Instance, signed_in: Page, played: Played, run: Run, tmp_path: Path
) -> None:
    name, replica = played("image", **TASKS["image"][1])
    (tmp_path / "secret.txt").write_text("my secret")
    (tmp_path / "a.png").write_bytes(png(8, 8))
    play = panel(signed_in, shared, name, "image")
    play.get_by_label("Prompt").fill("@secret.txt")
    play.get_by_label("Start from a picture").set_input_files(tmp_path / "a.png")
    run("curl", program(signed_in, "curl"))
    (request,) = replica.requests
    assert "@secret.txt" in request["body"]
    assert "my secret" not in request["body"]


def test_images_are_left_out_of_programs(shared: Instance, signed_in: Page, played: Played) -> None:
    name, _ = played("chat", do="stream", frames=said("One"))
    play = panel(signed_in, shared, name, "chat")
    play.get_by_label("Images").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": b"x" * 100_000}
    )
    answered(play, "What is this?", "One")
    code = program(signed_in, "curl")
    assert "data:image/png;base64,..." in code
    assert len(code) < 2000


def test_of_several_columns_one_is_chosen(
    shared: Instance, signed_in: Page, played: Played
) -> None:
    for name in ("first", "second"):
        played("chat", name, do="stream", frames=said("One"))
    side_by_side(signed_in, shared, "first", "second")
    signed_in.locator("#open-code").click()
    dialog = signed_in.get_by_role("dialog", name="View code")
    expect(dialog.locator("#program")).to_contain_text("/first")
    dialog.get_by_label("Service").select_option("2 · second")
    expect(dialog.locator("#program")).to_contain_text("/second")
    signed_in.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name="Copy").click()
    copied: Any = signed_in.evaluate("navigator.clipboard.readText()")
    assert copied == dialog.locator("#program").text_content()
