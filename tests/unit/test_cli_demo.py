"""The line that the demonstration prints to be pasted."""

import json
import subprocess

import pytest

from modelry.cli.demo import _one_line
from modelry.services.examples import KEY_VARIABLE, examples

KEY = "sk-AbC_dEf-123"


def arguments(command: str) -> list[str]:
    """What a shell hands to curl, the JSON body in a form that does not depend on spaces."""
    script = 'curl() { printf "%s\\0" "$@"; }\n' + command
    output = subprocess.check_output(["/bin/sh", "-c", script], env={KEY_VARIABLE: KEY})
    *words, body, _ = output.decode().split("\0")
    return [*words, json.dumps(json.loads(body), sort_keys=True)]


def example(base_url: str) -> str:
    (found,) = [
        each.code
        for each in examples(base_url, "u-8105f7322477/demo", ("chat", "completion"))
        if each.language == "curl" and not each.streaming
    ]
    return found


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8080/v1",
        "https://models.example/a b/v1",
        "https://it's/v1",
        'https://$HOME/"`x`/v1',
        "https://ünï.example/v1",
    ],
)
def test_the_line_calls_just_as_the_example_does(base_url: str) -> None:
    code = example(base_url)
    line = _one_line(code, KEY)
    assert arguments(line) == arguments(code)


def test_it_is_one_line_with_the_key_in_it() -> None:
    line = _one_line(example("http://127.0.0.1:8080/v1"), KEY)
    assert "\n" not in line
    assert "\\" not in line
    assert line.startswith("curl http://127.0.0.1:8080/v1/chat/completions ")
    assert line.count(KEY) == 1
    assert KEY_VARIABLE not in line
