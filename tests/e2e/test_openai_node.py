"""The OpenAI library for Node.js, unchanged, against the real engine."""

import json
from pathlib import Path

from tests.support.instance import Instance
from tests.support.node import PACKAGE, Node


def test_refusals_are_the_librarys_own_errors(
    shared: Instance, demo_key: str, demo_path: str, node: Node, tmp_path: Path
) -> None:
    program = PACKAGE.with_name("errors.js").read_text()
    done = node.run(
        tmp_path,
        program,
        BASE_URL=f"{shared.url}/v1",
        MODELRY_API_KEY=demo_key,
        MODEL=demo_path,
    )
    assert done.returncode == 0, done.stderr
    shown = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {name: (line["kind"], line["status"]) for name, line in shown.items()} == {
        "wrong key": ("AuthenticationError", 401),
        "unknown model": ("NotFoundError", 404),
        "missing messages": ("BadRequestError", 400),
    }
    assert shown["wrong key"]["code"] == "invalid_api_key"
    assert shown["unknown model"]["code"] == "model_not_found"
    assert "no-such-model" in shown["unknown model"]["message"]
    assert "messages" in shown["missing messages"]["message"]
