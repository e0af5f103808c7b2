"""What the gateway itself answers: responses in OpenAI's shapes, as bytes."""

from http import HTTPStatus
from typing import Any

import msgspec

_TYPES = {429: "rate_limit_error"}


class Reply(Exception):
    """A complete answer of the gateway's own. Raised where a request cannot go on.

    `problem`: code and message of a refusal.
    """

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        problem: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(status)
        self.problem = problem
        self.status = status
        self.body = body
        self.headers = headers


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
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if retry_after_s is not None:
        headers += ((b"retry-after", str(retry_after_s).encode()),)
    if allow is not None:
        headers += ((b"allow", allow.encode()),)
    if status == 401:
        headers += ((b"www-authenticate", b"Bearer"),)
    body = error_body(status, code, message, param)
    return Reply(status, body, headers=headers, problem=(code, message))


# What engines call a thing → what OpenAI calls it.
_ENGINE_CODES = {"exceed_context_size_error": "context_length_exceeded"}


def engine_refusal(status: int, told: Any) -> Reply:
    """An engine's refusal in OpenAI's shape.

    `told` is its decoded answer: `{"error": {…}}`, `{"error": "…"}`, or
    anything at all. What it says beyond the four fields stays.
    """
    error = told.get("error", told) if isinstance(told, dict) else told
    fields = dict(error) if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code")
    if not isinstance(code, str):
        kind = fields.get("type")
        fallback = "invalid_request_error" if status < 500 else "server_error"
        code = _ENGINE_CODES.get(str(kind), str(kind)) if kind else fallback
    fields["message"] = str(fields.get("message") or "The engine refused without a word.")
    fields["type"] = "invalid_request_error" if status < 500 else "server_error"
    fields["param"] = fields.get("param")
    fields["code"] = code
    return json_reply({"error": fields}, status)


def bad_request(message: str, param: str | None = None) -> Reply:
    return error(400, "invalid_request_error", message, param=param)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def management_shape(reply: "Reply") -> "Reply":
    """The same refusal as the management API words one."""
    if reply.problem is None:
        return reply
    code, message = reply.problem
    body = {"error": {"code": code, "message": message, "hint": None, "param": None}}
    return Reply(reply.status, msgspec.json.encode(body), headers=reply.headers)


def head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A response's first line and headers."""
    lines = [f"HTTP/1.1 {status} {_reason(status)}\r\n".encode()]
    for name, value in headers:
        lines.append(name + b": " + value + b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
