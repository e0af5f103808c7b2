"""The OpenAI library for Node.js calls the Responses API, against the real engine."""

import json
from pathlib import Path
from typing import Any

from tests.support.instance import Instance
from tests.support.node import PACKAGE, Node


def test_the_library_finds_all_that_it_needs(
    shared: Instance, demo_key: str, demo_path: str, node: Node, tmp_path: Path
) -> None:
    done = node.run(
        tmp_path,
        PACKAGE.with_name("responses.js").read_text(),
        BASE_URL=f"{shared.url}/v1",
        MODELRY_API_KEY=demo_key,
        MODEL=demo_path,
    )
    assert done.returncode == 0, done.stderr
    saw: dict[str, dict[str, Any]] = {
        line.pop("name"): line for line in map(json.loads, done.stdout.splitlines())
    }
    assert saw["whole"]["model"] == demo_path
    assert saw["whole"]["status"] == "completed"
    assert saw["stream"]["pieces"] > 1
    assert saw["stream"]["joined"] == saw["stream"]["text"] == saw["whole"]["text"]
    assert saw["next"]["items"] == ["user", "assistant", "user"]
    assert saw["structured"]["fields"] == ["name", "people"]
    assert saw["tools"]["output"] == ["message"]
    for step in ("called", "called in a stream"):
        assert saw[step]["made"]
        for made in saw[step]["made"]:
            assert made == ["function_call", "weather", ["name", "people"]]
    refused = {name: line for name, line in saw.items() if "kind" in line}
    assert {name: (line["kind"], line["status"]) for name, line in refused.items()} == {
        "deleted": ("NotFoundError", 404),
        "background": ("BadRequestError", 400),
        "too long": ("BadRequestError", 400),
    }
    assert saw["background"]["param"] == "background"
    assert saw["too long"]["code"] == "context_length_exceeded"
