"""Texts that one database takes and the other does not: never an error of ours."""

from pathlib import Path

import httpx2
import pytest

from modelry.access import token_endpoints
from modelry.access.authenticator import Authenticator
from modelry.access.bootstrap import ensure_operator
from modelry.access.credentials import new_access_token
from modelry.access.sessions import Sessions
from modelry.access.tokens import Tokens
from modelry.api.application import create_application
from modelry.db import Database
from tests.support.databases import KINDS, empty_database, play


@pytest.mark.parametrize("kind", KINDS)
def test_a_nul_character_is_its_caller_s_mistake(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    async def story(db: Database) -> None:
        token = new_access_token()
        async with db.begin() as session:
            await ensure_operator(session, "a password", token)
        tokens = token_endpoints.router(db, Authenticator(db, Sessions(db)), Tokens(db))
        transport = httpx2.ASGITransport(
            create_application([tokens], [], ready=db.ping), raise_app_exceptions=False
        )
        headers = {"authorization": f"Bearer {token}"}
        base = "http://modelry/api/v1"
        async with httpx2.AsyncClient(
            transport=transport, base_url=base, headers=headers
        ) as client:
            odd = await client.delete("/tokens/tok_%00")
            plain = await client.delete("/tokens/tok_0")
        assert odd.status_code == (404 if kind == "sqlite" else 422)
        assert odd.json()["error"]["code"] in ("token_not_found", "invalid_request")
        assert plain.status_code == 404

    play(empty_database(request, kind, "texts", tmp_path), story)
