"""What the gateway answers itself: OpenAI's error object, and well-formed heads."""

import json

import pytest

from modelry.gateway.replies import (
    bad_request,
    engine_refusal,
    error,
    error_body,
    json_reply,
    reworded,
    status_line,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "invalid_request_error"),
        (403, "invalid_request_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_an_error_has_openais_shape(status: int, kind: str) -> None:
    body = json.loads(error_body(status, "some_code", "What went wrong", "model"))
    assert body == {
        "error": {
            "message": "What went wrong",
            "type": kind,
            "param": "model",
            "code": "some_code",
        }
    }


def test_an_error_without_a_param_says_null() -> None:
    assert json.loads(error(404, "model_not_found", "no").body)["error"]["param"] is None


def test_a_message_with_quotes_and_line_breaks_is_still_json() -> None:
    message = 'no model "x"\n\u2028\\ …'
    assert json.loads(error_body(404, "model_not_found", message))["error"]["message"] == message


def test_an_overloaded_answer_says_when_to_come_back() -> None:
    assert b"\r\nretry-after: 7\r\n" in error(503, "overloaded", "full", retry_after_s=7).lines
    assert b"\r\nretry-after: 0\r\n" in error(503, "overloaded", "full", retry_after_s=0).lines
    assert b"retry-after" not in error(503, "service_unavailable", "stopped").lines


def test_a_refused_key_is_asked_for_a_bearer() -> None:
    assert b"\r\nwww-authenticate: Bearer\r\n" in error(401, "invalid_api_key", "no").lines


def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert b"\r\nallow: GET, POST\r\n" in error(405, "no", "no", allow="GET, POST").lines


def test_a_bad_request_names_its_field() -> None:
    reply = bad_request("model is missing", "model")
    told = json.loads(reply.body)["error"]
    assert reply.status == 400
    assert (told["code"], told["param"]) == ("invalid_request_error", "model")


def test_a_value_becomes_a_json_answer() -> None:
    reply = json_reply({"data": [1, None, "é"]})
    assert reply.status == 200
    assert json.loads(reply.body) == {"data": [1, None, "é"]}


def test_a_status_has_its_reason() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"


def test_a_status_nobody_knows_still_has_a_reason() -> None:
    assert status_line(299).startswith(b"HTTP/1.1 299 ")
    assert len(status_line(299).split()) == 3


@pytest.mark.parametrize(
    ("told", "message", "code"),
    [
        ({"error": {"code": 400, "message": "m", "type": "some_error"}}, "m", "some_error"),
        ({"error": {"code": "own_code", "message": "m"}}, "m", "own_code"),
        ({"error": "in a word"}, "in a word", "invalid_request_error"),
        ({"message": "bare"}, "bare", "invalid_request_error"),
        ("<html>no</html>", "<html>no</html>", "invalid_request_error"),
        (None, "None", "invalid_request_error"),
    ],
)
def test_whatever_an_engine_says_has_the_shape(told: object, message: str, code: str) -> None:
    error = json.loads(engine_refusal(400, told).body)["error"]
    assert error == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": code,
    }


def test_a_refusal_of_another_api_s_call_has_its_names() -> None:
    names = {"messages": "input", r"(tools\[\d+\])\.function": r"\1"}
    reply = bad_request("messages[1].role: 'messages' has too many messages.", "messages[1].role")
    error = json.loads(reworded(reply, names).body)["error"]
    assert error["message"] == "input[1].role: 'input' has too many messages."
    assert error["param"] == "input[1].role"
    reply = bad_request("tools[3].function.parameters/a: no.", "tools[3].function.parameters")
    changed = reworded(reply, names)
    error = json.loads(changed.body)["error"]
    assert error["message"] == "tools[3].parameters/a: no."
    assert error["param"] == "tools[3].parameters"
    assert changed.problem == ("invalid_request_error", error["message"])
    other = bad_request("Too many messages.", "n")
    assert reworded(other, names) is other
