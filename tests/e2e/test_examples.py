"""The programs that a service's page shows run exactly as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelry.client import Json
from modelry.services.examples_libraries import library_examples
from tests.support.instance import Instance
from tests.support.node import Node


def example(instance: Instance, language: str, *, streaming: bool) -> str:
    """The program's text, as the management API returns it."""
    with instance.client() as client:
        found = client.get("/services/demo/examples", language=language)["data"]
    (chosen,) = [each for each in found if each["streaming"] is streaming]
    return str(chosen["code"])


def run_python(folder: Path, code: str, key: str) -> subprocess.CompletedProcess[str]:
    file = folder / "example.py"
    file.write_text(code)
    return subprocess.run(
        [sys.executable, file],
        env={**os.environ, "MODELRY_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_bash(code: str, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "MODELRY_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_language_has_a_program_with_and_without_streaming(shared: Instance) -> None:
    with shared.client() as client:
        found = client.get("/services/demo/examples")["data"]
    assert {(each["language"], each["streaming"]) for each in found} == {
        (language, streaming)
        for language in ("curl", "python", "node")
        for streaming in (False, True)
    }


def test_no_program_has_a_key_in_it(shared: Instance) -> None:
    with shared.client() as client:
        found = client.get("/services/demo/examples")["data"]
    assert found
    assert not [each for each in found if "sk-" in each["code"]]
    assert all("MODELRY_API_KEY" in each["code"] for each in found)


def test_the_curl_example_runs(shared: Instance, demo_key: str, demo_path: str) -> None:
    done = run_bash(example(shared, "curl", streaming=False), demo_key)
    assert done.returncode == 0, done.stderr
    answer: Json = json.loads(done.stdout)
    assert answer["model"] == demo_path
    assert answer["choices"][0]["message"]["content"]


def test_the_streaming_curl_example_runs(shared: Instance, demo_key: str, demo_path: str) -> None:
    done = run_bash(example(shared, "curl", streaming=True), demo_key)
    assert done.returncode == 0, done.stderr
    events = [line for line in done.stdout.split("\n") if line]
    assert all(line.startswith("data: ") for line in events)
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in events[:-1]]
    assert {chunk["model"] for chunk in chunks} == {demo_path}
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text.strip()


@pytest.mark.parametrize("streaming", [False, True])
def test_the_python_example_runs(
    shared: Instance, demo_key: str, tmp_path: Path, streaming: bool
) -> None:
    done = run_python(tmp_path, example(shared, "python", streaming=streaming), demo_key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


@pytest.mark.parametrize("streaming", [False, True])
def test_the_node_example_runs(
    shared: Instance, demo_key: str, node: Node, tmp_path: Path, streaming: bool
) -> None:
    code = example(shared, "node", streaming=streaming)
    done = node.run(tmp_path, code, MODELRY_API_KEY=demo_key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


def test_the_node_example_says_why_a_key_does_not_work(
    shared: Instance, node: Node, tmp_path: Path
) -> None:
    code = example(shared, "node", streaming=False)
    done = node.run(tmp_path, code, MODELRY_API_KEY="sk-wrong")
    assert done.returncode == 1
    assert "API Error: 401" in done.stderr
    assert "sk-wrong" not in done.stdout + done.stderr


def library_programs(instance: Instance, path: str, library: str) -> list[str]:
    """The programs for a library that a service's page shows, whole and streaming."""
    found = library_examples(f"{instance.url}/v1", path)
    return [each.code for each in found if each.library == library]


def test_the_anthropic_programs_run(
    shared: Instance, demo_key: str, demo_path: str, tmp_path: Path
) -> None:
    programs = library_programs(shared, demo_path, "anthropic")
    assert len(programs) == 2
    for code in programs:
        done = run_python(tmp_path, code, demo_key)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert done.stderr == ""
