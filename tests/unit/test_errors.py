"""Errors that a person reads."""

import pytest

from modelry.errors import (
    Conflict,
    FetchError,
    InvalidRequest,
    ModelryError,
    NotFound,
    PermissionDenied,
    SettingsError,
    Unauthenticated,
    Unavailable,
)

STATUSES: dict[type[ModelryError], int] = {
    InvalidRequest: 422,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    Conflict: 409,
    Unavailable: 503,
    SettingsError: 500,
    FetchError: 502,
}


@pytest.mark.parametrize("kind", STATUSES)
def test_every_error_has_its_status_and_a_code_of_its_own(kind: type[ModelryError]) -> None:
    assert kind("no").status == STATUSES[kind]
    assert kind("no").code != ModelryError.code
    assert len({each.code for each in STATUSES}) == len(STATUSES)


def test_an_error_carries_what_a_person_and_a_program_need() -> None:
    error = NotFound("there is no model 'x'", hint="look again", param="model", code="no_model")
    assert str(error) == error.message == "there is no model 'x'"
    assert (error.hint, error.param, error.code) == ("look again", "model", "no_model")
    assert error.status == 404


def test_one_errors_code_is_not_the_next_ones() -> None:
    NotFound("a", code="special", status=410)
    assert (NotFound("b").code, NotFound("b").status) == ("not_found", 404)


def test_a_fetch_is_tried_again_only_where_that_may_help() -> None:
    assert not FetchError("no").retryable
    assert FetchError("no", retryable=True, hint="wait").hint == "wait"
    assert FetchError("no", retryable=True).retryable
