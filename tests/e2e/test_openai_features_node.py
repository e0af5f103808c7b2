"""What chats can be asked for, by the OpenAI library for Node.js, whole and streamed, against the
real engine.
"""

import json
from typing import Any, TypeAlias

import pytest

from tests.support.instance import Instance
from tests.support.node import PACKAGE, Node

Choices: TypeAlias = list[dict[str, Any]]


@pytest.fixture(scope="module")
def answers(
    shared: Instance,
    demo_key: str,
    demo_path: str,
    node: Node,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, bool], Choices]:
    """The choices that came, by what was asked for and whether they were streamed."""
    done = node.run(
        tmp_path_factory.mktemp("node"),
        PACKAGE.with_name("features.js").read_text(),
        BASE_URL=f"{shared.url}/v1",
        MODELRY_API_KEY=demo_key,
        MODEL=demo_path,
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return {(line["name"], line["streams"]): line["choices"] for line in lines}


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def came(
    answers: dict[tuple[str, bool], Choices], request: pytest.FixtureRequest
) -> dict[str, Choices]:
    return {
        name: choices for (name, streams), choices in answers.items() if streams == request.param
    }


def text(choices: Choices) -> str:
    (choice,) = choices
    return str(choice["message"]["content"])


def calls(choices: Choices) -> list[tuple[str, list[str]]]:
    """Names and names of arguments."""
    (choice,) = choices
    made = choice["message"].get("tool_calls") or []
    assert (choice["finish_reason"] == "tool_calls") == bool(made)
    assert len({each["id"] for each in made}) == len(made)
    told = [each["function"] for each in made]
    return [(each["name"], list(json.loads(each["arguments"]))) for each in told]


def test_functions_are_called_as_it_is_wanted(came: dict[str, Choices]) -> None:
    ((required, arguments),) = calls(came["required"])
    assert required in ("weather", "time")
    assert arguments == ["city"]
    assert calls(came["named"]) == [("time", ["city"])]
    assert calls(came["auto"])
    assert calls(came["none"]) == []
    assert text(came["none"])
    assert len(calls(came["parallel"])) > 1
    assert len(calls(came["single"])) == 1


def test_json_has_its_form(came: dict[str, Choices]) -> None:
    assert isinstance(json.loads(text(came["object"])), dict)
    person = json.loads(text(came["schema"]))
    assert {name: type(value) for name, value in person.items()} == {"name": str, "age": int}


def test_tokens_are_told_and_chosen_as_it_is_wanted(came: dict[str, Choices]) -> None:
    tokens = came["logprobs"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text(came["logprobs"])
    assert {len(token["top_logprobs"]) for token in tokens} == {2}
    assert [choice["index"] for choice in came["several"]] == [0, 1]
    assert came["stop"][0]["finish_reason"] == "stop"
    assert text(came["stop"])
    assert "!" not in text(came["stop"])
    assert text(came["seed"]) == text(came["seed again"])
    assert text(came["bias"]) == "Hello" * 4
