"""Credentials: random, hashed, and of the form that callers rely on."""

import hashlib
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.access import credentials
from modelry.gateway.table import Table
from modelry.routing.messages import KeyGrant, KeyPut
from modelry.settings import load_settings


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (credentials.new_api_key, r"sk-[A-Za-z0-9_-]{48}"),
        (credentials.new_access_token, r"pat-[A-Za-z0-9_-]{48}"),
        (credentials.new_owner_id, r"u-[0-9a-f]{12}"),
        (lambda: credentials.new_id("svc"), r"svc_[0-9a-f]{16}"),
        (credentials.new_password, r"[A-Za-z0-9_-]{16}"),
    ],
    ids=["key", "token", "owner", "id", "password"],
)
def test_what_is_made_has_its_form_and_is_never_the_same(
    make: Callable[[], str], form: str
) -> None:
    made = {make() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(form, each) for each in made)


def test_what_is_made_is_accepted_as_a_setting() -> None:
    token, password = credentials.new_access_token(), credentials.new_password()
    found = load_settings(admin_token=token, admin_password=password)
    assert found.admin_token is not None
    assert found.admin_token.reveal() == token


@given(st.text())
def test_a_digest_is_sha256_in_hex(secret: str) -> None:
    assert credentials.digest(secret) == hashlib.sha256(secret.encode()).hexdigest()


def test_the_gateway_finds_a_key_by_the_digest_that_is_stored() -> None:
    key = credentials.new_api_key()
    table = Table()
    table.apply(KeyPut(1, KeyGrant("key", credentials.digest(key), "u-0123456789ab")))
    assert table.key(key.encode()) is not None


def test_a_masked_key_shows_its_end_alone() -> None:
    assert credentials.masked("sk-", "abcd") == "sk-…abcd"


def test_a_password_is_known_by_its_hash_and_no_other_is() -> None:
    hashed = credentials.hash_password("correct horse")
    assert credentials.password_matches("correct horse", hashed)
    for wrong in ("", "correct horse ", "Correct horse", hashed):
        assert not credentials.password_matches(wrong, hashed)


def test_equal_passwords_have_different_hashes_of_argon2id() -> None:
    one, other = (credentials.hash_password("correct horse") for _ in range(2))
    assert one != other
    # OWASP's least: 19 MiB, two passes, one lane.
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "correct" not in one
