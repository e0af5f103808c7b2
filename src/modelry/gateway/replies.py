"""What the gateway itself answers: responses in OpenAI's shapes, as bytes."""

import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from modelry.gateway import engine_words
from modelry.gateway.request import Request

_TYPES = {429: "rate_limit_error"}
JSON_TYPE = b"content-type: application/json\r\n"


class Reply(Exception):
    """A complete answer of the gateway's own. Raised where a request cannot go on.

    `lines`: header lines, each with its line end. `problem`: code and message
    of a refusal.
    """

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        lines: bytes = JSON_TYPE,
        problem: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(status)
        self.problem = problem
        self.status = status
        self.body = body
        self.lines = lines


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))


def error_body(status: int, code: str, message: str, param: str | None = None) -> bytes:
    """OpenAI's error object (https://platform.openai.com/docs/guides/error-codes)."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


def error(
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    retry_after_s: int | None = None,
    allow: str | None = None,
) -> Reply:
    lines = JSON_TYPE
    if retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % retry_after_s
    if allow is not None:
        lines += b"allow: %b\r\n" % allow.encode()
    if status == 401:
        lines += b"www-authenticate: Bearer\r\n"
    body = error_body(status, code, message, param)
    return Reply(status, body, lines=lines, problem=(code, message))


# What engines call a thing → what OpenAI calls it.
_ENGINE_CODES = {"exceed_context_size_error": "context_length_exceeded"}
_IN_MESSAGE = ("n_prompt_tokens", "n_ctx")
"""What llama.cpp says again beside its message."""


def engine_refusal(
    status: int,
    told: Any,
    param: str | None = None,
    *,
    path: bytes = b"",
    body: bytes | bytearray = b"",
) -> Reply:
    """An engine's refusal in OpenAI's shape, and a 400 where it is of its caller's mistake.

    `told` is its decoded answer: `{"error": {…}}`, `{"error": "…"}`, or
    anything at all. What it says beyond the four fields stays. `param`: what it is about,
    where the engine does not say. `path` and `body` are of the request.
    """
    error = told.get("error", told) if isinstance(told, dict) else told
    fields = dict(error) if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code")
    if not isinstance(code, str):
        kind = fields.get("type")
        fallback = "invalid_request_error" if status < 500 else "server_error"
        code = _ENGINE_CODES.get(str(kind), str(kind)) if kind else fallback
    fields["message"] = str(fields.get("message") or "The engine refused without a word.")
    words = engine_words.read(fields["message"], path, body)
    fields["message"] = words.message
    if words.is_callers:
        status, code = 400, words.code or "invalid_request_error"
    if words.code is not None:
        for name in _IN_MESSAGE:
            fields.pop(name, None)
    if words.param is not None and (words.code is not None or not fields.get("param")):
        fields["param"] = words.param
    kind = "invalid_request_error" if status < 500 else "server_error"
    fields["type"] = _TYPES.get(status, kind)
    if param is not None and not fields.get("param"):
        fields["param"] = param
        if param.endswith("]"):
            # One of a list: most people see the message alone.
            fields["message"] = f"{param}: {fields['message']}"
    fields["param"] = fields.get("param")
    fields["code"] = code
    body = msgspec.json.encode({"error": fields})
    return Reply(status, body, problem=(code, fields["message"]))


# llama.cpp and vLLM, of tokens that the model does not have.
_NO_TOKENS = re.compile(r"contains invalid tokens|out of vocabulary")


def is_of_an_input(refusal: Reply) -> bool:
    """Whether an engine refused one input, which might stand in a list with others."""
    assert refusal.problem is not None
    code, message = refusal.problem
    return code == "context_length_exceeded" or _NO_TOKENS.search(message) is not None


def model_not_found(model: str) -> Reply:
    message = f"The model '{shown(model)}' does not exist, or you do not have access to it."
    return error(404, "model_not_found", message, param="model")


_KEY = re.compile(r"sk-[A-Za-z0-9_-]+")


def shown(text: str) -> str:
    """The caller's own words, short and without a key that got into them."""
    masked = _KEY.sub("sk-…", text)
    return masked if len(masked) <= 100 else masked[:100] + "…"


def reworded(reply: Reply, names: Mapping[str, str]) -> Reply:
    """An error of OpenAI's shape with other names: `names` are what a chat calls a thing → what the
    API that was called does. Of two that fit, the first counts.
    """
    told: Any = msgspec.json.decode(reply.body)
    error = told["error"]
    before = dict(error)
    for theirs, ours in names.items():
        if isinstance(error.get("param"), str):
            error["param"] = re.sub(rf"^{theirs}(?!\w)", ours, error["param"])
        if isinstance(error.get("message"), str):
            # Where it is a name and no word: in quotes, or before the place within it.
            for name in (rf"(?<=['`]){theirs}(?=['`.\[])", rf"(?<![\w.'`]){theirs}(?=\[|\.\w)"):
                error["message"] = re.sub(name, ours, error["message"])
    if error == before:
        return reply
    problem = reply.problem and (reply.problem[0], error["message"])
    return Reply(reply.status, msgspec.json.encode(told), lines=reply.lines, problem=problem)


def bad_request(message: str, param: str | None = None) -> Reply:
    return error(400, "invalid_request_error", message, param=param)


def shaped(reply: Reply, request: Request) -> Reply:
    """A refusal in the words of the API that was called."""
    assert reply.problem is not None
    code, message = reply.problem
    if not request.is_inference:
        error = {"code": code, "message": message, "hint": None, "param": None}
        body = msgspec.json.encode({"error": error})
    elif request.is_anthropic:
        body = anthropic_error(reply.status, message, request.id.decode())
    else:
        return reply
    return Reply(reply.status, body, lines=reply.lines)


# HTTP status → Anthropic's error type (https://docs.anthropic.com/en/api/errors).
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def anthropic_error(status: int, message: str, request_id: str) -> bytes:
    """Anthropic's error object."""
    error = {"type": anthropic_type(status), "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def anthropic_type(status: int) -> str:
    """What Anthropic calls an error with that status."""
    fallback = "invalid_request_error" if status < 500 else "api_error"
    return _ANTHROPIC_TYPES.get(status, fallback)


@cache
def status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    return f"HTTP/1.1 {status} {reason}\r\n".encode()


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
