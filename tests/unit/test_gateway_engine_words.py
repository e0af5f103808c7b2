"""What engines say when they refuse, told to callers: whose mistake, and of which field."""

import json

import pytest

from modelry.gateway.replies import engine_refusal

CHAT, COMPLETION = b"/v1/chat/completions", b"/v1/completions"
LONG = "request (18031 tokens) exceeds the available context size (4096 tokens), try increasing it"
INPUT = "input (600 tokens) is larger than the max context size (512 tokens). skipping"
VLLM = (
    "This model's maximum context length is 2048 tokens. However, you requested 16 output tokens "
    "and your prompt contains at least 2033 input tokens, for a total of at least 2049 tokens."
)
TYPE = "[json.exception.type_error.302] type must be number, but is string"


def told(
    message: str, *, status: int = 500, path: bytes = CHAT, body: bytes = b"", **more: object
) -> tuple[int, dict[str, object]]:
    error = {"code": status, "message": message, "type": "server_error", **more}
    reply = engine_refusal(status, {"error": error}, path=path, body=body)
    said: dict[str, object] = json.loads(reply.body)["error"]
    assert reply.problem == (said["code"], said["message"])
    return reply.status, said


@pytest.mark.parametrize(("path", "param"), [(CHAT, "messages"), (COMPLETION, "prompt")])
@pytest.mark.parametrize(
    ("message", "numbers"),
    [(LONG, ("18031", "4096")), (INPUT, ("600", "512")), (VLLM, ("2048", "2033"))],
)
def test_a_prompt_beyond_the_context_is_told_with_both_numbers(
    path: bytes, param: str, message: str, numbers: tuple[str, str]
) -> None:
    status, error = told(
        message, status=400, path=path, n_prompt_tokens=18031, n_ctx=4096, param="input_tokens"
    )
    assert status == 400
    assert error.pop("message") == message or message is not VLLM
    assert error == {
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
        "param": param,
    }
    said = str(told(message, status=400, path=path)[1]["message"])
    assert "maximum context length is" in said
    assert all(number in said for number in numbers)


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        (f"Field 'top_k': {TYPE}", "top_k", "'top_k': type must be number, but is string"),
        (
            "Field 'n': Value must be between 1 <= value <= 4, but got 5",
            "n",
            "'n': it must be from 1 to 4, and is 5",
        ),
        (
            "Failed to parse tools: Missing tool function: {}; tools = [\n  {}\n]",
            "tools",
            "'tools': Missing tool function: {}",
        ),
        (
            "Failed to parse messages: [json.exception.type_error.302] type must be string",
            "messages",
            "Failed to parse messages: type must be string",
        ),
        (
            "\n---\nError: Jinja Exception: Conversation roles must alternate user/assistant",
            "messages",
            "The model's template does not take this conversation: "
            "Conversation roles must alternate user/assistant",
        ),
    ],
)
def test_a_caller_s_mistake_is_a_400_whatever_the_engine_calls_it(
    message: str, param: str, said: str
) -> None:
    assert told(message) == (
        400,
        {
            "message": said,
            "type": "invalid_request_error",
            "code": "invalid_request_error",
            "param": param,
        },
    )


@pytest.mark.parametrize(
    ("message", "path", "param"),
    [
        ("Expected 'content' to be a string or an array", CHAT, "messages"),
        ("unsupported content[].type", CHAT, "messages"),
        ("top_logprobs requires logprobs to be set to true", CHAT, "top_logprobs"),
        ("logprobs is not supported with tools + stream", CHAT, "logprobs"),
        ("Failed to initialize samplers: failed to parse grammar", CHAT, "grammar"),
        ("Prompt contains invalid tokens", COMPLETION, "prompt"),
        ('"prompt" must not be empty', COMPLETION, "prompt"),
    ],
)
def test_a_refusal_is_about_a_field_even_if_the_engine_names_none(
    message: str, path: bytes, param: str
) -> None:
    status, error = told(message, status=400, path=path)
    assert (status, error["param"], error["message"]) == (400, param, message)


@pytest.mark.parametrize(
    ("body", "param"),
    [(b'{"response_format": {}}', "response_format"), (b'{"tools": []}', "tools")],
)
def test_a_schema_that_cannot_be_used_is_looked_for_where_it_stands(
    body: bytes, param: str
) -> None:
    message = "Unable to generate parser for this template. JSON schema error at #: no type nope"
    _, error = told(message, status=400, body=body)
    assert error["param"] == param
    assert str(error["message"]).endswith("#: no type nope")


def test_what_the_engine_says_of_itself_stays_its_own_fault() -> None:
    status, error = told("Compute error.")
    assert (status, error["code"], error["param"]) == (500, "server_error", None)


def test_what_stands_in_a_caller_s_own_words_is_not_looked_for() -> None:
    status, error = told("unknown: " + "x" * 400 + " 'messages'")
    assert (status, error["param"]) == (500, None)


def test_other_tasks_have_no_messages() -> None:
    _, error = told("Field 'n': no", path=b"/v1/embeddings", status=400)
    assert (error["message"], error["param"]) == ("Field 'n': no", None)


def test_a_caller_s_own_words_are_said_again_in_part_alone() -> None:
    # Each of these would be looked at to the end of the line, were all of it read: for minutes.
    words = "input (1 tokens) is too large " * 100_000
    _, error = told(f"Failed to parse messages: no content; messages = [{words}]", status=400)
    assert error["param"] == "messages"
    assert len(str(error["message"])) < 10_000
