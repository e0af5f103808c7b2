"""The Anthropic library for Node.js, unchanged, against the real engine."""

import json
from pathlib import Path

from tests.support.instance import Instance
from tests.support.node import PACKAGE, Node


def test_answers_streams_and_refusals_are_the_library_s_own(
    shared: Instance, demo_key: str, demo_path: str, node: Node, tmp_path: Path
) -> None:
    program = PACKAGE.with_name("messages.js").read_text()
    done = node.run(
        tmp_path, program, BASE_URL=shared.url, MODELRY_API_KEY=demo_key, MODEL=demo_path
    )
    assert done.returncode == 0, done.stderr
    shown = {line["name"]: line["value"] for line in map(json.loads, done.stdout.splitlines())}
    whole, streamed = shown["whole"], shown["streamed"]
    assert whole["type"] == "message"
    assert whole["content"] == streamed["content"] != []
    assert "".join(shown["texts"]) == streamed["content"][0]["text"]
    assert whole["stop_reason"] == streamed["stop_reason"]
    for message in (whole, streamed):
        usage = message["usage"]
        prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
        assert prompt == shown["counted"]["input_tokens"]
        assert usage["output_tokens"] == whole["usage"]["output_tokens"] > 0
    for message in (shown["used"], shown["used in a stream"]):
        assert message["stop_reason"] == "tool_use"
        assert message["content"]
        for used in message["content"]:
            assert (used["type"], used["name"]) == ("tool_use", "weather")
            assert list(used["input"]) == ["city"]
    refused = {name: value for name, value in shown.items() if "status" in value}
    assert refused == {
        "wrong key": {
            "kind": "AuthenticationError",
            "status": 401,
            "type": "authentication_error",
        },
        "unknown model": {"kind": "NotFoundError", "status": 404, "type": "not_found_error"},
        "no max_tokens": {
            "kind": "BadRequestError",
            "status": 400,
            "type": "invalid_request_error",
        },
        "nothing said": {
            "kind": "BadRequestError",
            "status": 400,
            "type": "invalid_request_error",
        },
    }
