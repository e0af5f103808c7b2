"""What the gateway itself answers: responses in OpenAI's shapes, as bytes."""

from typing import Any

import msgspec

REASONS = {
    100: "Continue",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

_TYPES = {429: "rate_limit_error"}


class Reply(Exception):
    """A complete answer of the gateway's own. Raised where a request cannot go on."""

    def __init__(
        self, status: int, body: bytes, *, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(status)
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
    return Reply(status, error_body(status, code, message, param), headers=headers)


def bad_request(message: str, param: str | None = None) -> Reply:
    return error(400, "invalid_request_error", message, param=param)


def head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A response's first line and headers."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n".encode()]
    for name, value in headers:
        lines.append(name + b": " + value + b"\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
