"""Errors that a person reads: what went wrong, and what to do about it.

Every error that leaves a part of Modelry on purpose is one of these. Each says
which HTTP status it stands for and carries a stable code for programs, a
message for people and, where there is one, a hint with the next step. It does
not know how any interface renders it: the management API, the gateway and the
command line each write their own shape.
"""


class ModelryError(Exception):
    """Base of every error meant to be shown.

    `param` names the field of the request at fault, in the caller's spelling.
    """

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InvalidRequest(ModelryError):
    status, code = 422, "invalid_request"


class Unauthenticated(ModelryError):
    status, code = 401, "unauthenticated"


class PermissionDenied(ModelryError):
    status, code = 403, "permission_denied"


class NotFound(ModelryError):
    status, code = 404, "not_found"


class Conflict(ModelryError):
    status, code = 409, "conflict"


class Unavailable(ModelryError):
    status, code = 503, "unavailable"


class SettingsError(ModelryError):
    """The start cannot go on as configured; the command line exits with 2."""

    status, code = 500, "invalid_setting"


class FetchError(ModelryError):
    """Weights could not be brought in. `retryable`: trying again may help."""

    status, code = 502, "fetch_failed"

    def __init__(self, message: str, *, retryable: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
