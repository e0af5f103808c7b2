"""Who calls the management API: an access token, or the console's session."""

from fastapi import Request

from modelry.access import store
from modelry.access.principal import Principal, principal_of
from modelry.db import Database
from modelry.errors import Unauthenticated


class Authenticator:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def principal(self, request: Request) -> Principal:
        """The caller. Raises `Unauthenticated`. A FastAPI dependency."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "this call needs an access token",
                hint="send it as 'Authorization: Bearer pat-…'",
                code="missing_access_token",
            )
        if token.startswith("sk-"):
            raise Unauthenticated(
                "API keys call services; the management API takes access tokens",
                hint="send 'Authorization: Bearer pat-…'",
                code="invalid_access_token",
            )
        async with self._db.begin() as session:
            user = await store.user_by_token(session, token)
        if user is None:
            raise Unauthenticated("the access token is not valid", code="invalid_access_token")
        return principal_of(user)
