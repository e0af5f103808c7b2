"""Tokens as the real engine tells them, held against what its answers say they used."""

from typing import Any

import httpx2
import pytest

from tests.support.instance import Instance

TOOL = {
    "type": "function",
    "function": {
        "name": "current_time",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
HI = {"role": "user", "content": "Say hi — 日本語 🙂"}


def post(shared: Instance, key: str, path: str, body: Any) -> Any:
    answer = httpx2.post(
        f"{shared.url}/v1/{path}",
        headers={"authorization": f"Bearer {key}"},
        json=body,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "chat",
    [
        {"messages": [HI]},
        {"messages": [{"role": "system", "content": "Be brief."}, HI]},
        {"messages": [HI], "tools": [TOOL]},
        {"messages": [HI], "tools": [TOOL], "tool_choice": "none"},
        {"messages": [HI, {"role": "assistant", "content": "Hello"}, HI]},
        {"messages": [HI], "response_format": {"type": "json_object"}},
    ],
)
def test_a_chat_has_as_many_tokens_as_its_answer_tells(
    shared: Instance, demo_key: str, demo_path: str, chat: Any
) -> None:
    body = {"model": demo_path, "max_tokens": 1, **chat}
    told = post(shared, demo_key, "tokenize", body)
    used = post(shared, demo_key, "chat/completions", body)["usage"]
    assert told["count"] == len(told["tokens"]) == used["prompt_tokens"]
    assert told["max_model_len"] > 0


def test_a_text_has_as_many_tokens_as_its_completion_tells(
    shared: Instance, demo_key: str, demo_path: str
) -> None:
    body = {"model": demo_path, "prompt": "Once upon a time", "max_tokens": 1}
    told = post(shared, demo_key, "tokenize", {**body, "return_token_strs": True})
    used = post(shared, demo_key, "completions", body)["usage"]
    assert told["count"] == used["prompt_tokens"]
    assert "".join(told["token_strs"]) == body["prompt"]
