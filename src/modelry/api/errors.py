"""Every error of the management API in one shape: `{"error": {code, message, hint, param}}`."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from modelry.errors import ModelryError

log = logging.getLogger(__name__)

_NO_TEXT = "22021"
"""What PostgreSQL says of a text with a NUL character. SQLite takes it, and finds nothing."""

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


def error_response(
    status: int,
    code: str,
    message: str,
    hint: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    content = {"error": {"code": code, "message": message, "hint": hint, "param": param}}
    return JSONResponse(content, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ModelryError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(DBAPIError, _untakeable)
    app.add_exception_handler(Exception, _unexpected)


async def _expected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelryError)
    return expected(error)


def expected(error: ModelryError) -> JSONResponse:
    """An error that was meant to be shown."""
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return error_response(error.status, error.code, error.message, error.hint, error.param, headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it cannot be parsed")
        return error_response(400, "invalid_json", f"the body is not valid JSON: {reason}")
    place = [str(part) for part in first["loc"][1:]]
    param = ".".join(place) or None
    reason = first["msg"].removeprefix("Value error, ")
    reason = {"Extra inputs are not permitted": "this version knows no such field"}.get(
        reason, reason
    )
    message = f"{param}: {reason}" if param else f"the request is not valid: {reason}"
    return error_response(422, "invalid_request", message, param=param)


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "error")
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is no {request.url.path} here"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
    headers = dict(error.headers) if error.headers else None
    return error_response(error.status_code, code, message, headers=headers)


async def _untakeable(_request: Request, error: Exception) -> JSONResponse:
    """Text that the database cannot take is its caller's mistake; any other error is ours."""
    assert isinstance(error, DBAPIError)
    if getattr(error.orig, "sqlstate", None) != _NO_TEXT:
        raise error
    return error_response(422, "invalid_request", "the request has a NUL character in a text")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(
        500,
        "internal_error",
        "something went wrong here; the control plane's log has the reason",
    )
