"""What a runner says instead of an answer, in OpenAI's shape."""

from typing import Any


class Refused(Exception):
    """The request cannot be answered. `code` and `param` as in OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        status: int = 400,
        code: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.message = status, code, param, message

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}


class Cancelled(Exception):
    """The caller has gone: nobody needs the work any more."""
