"""Who calls the management API: an access token, or the console's session."""

import logging

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError

from modelry.access import store
from modelry.access.principal import Principal, principal_of
from modelry.access.sessions import COOKIE, Sessions, same_csrf
from modelry.db import Database
from modelry.errors import PermissionDenied, Unauthenticated

log = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class MissingToken(Unauthenticated):
    """The call carries neither an access token nor a session."""

    code = "missing_access_token"

    def __init__(self) -> None:
        super().__init__(
            "this call needs an access token", hint="send it as 'Authorization: Bearer pat-…'"
        )


class Authenticator:
    def __init__(self, db: Database, sessions: Sessions) -> None:
        self._db = db
        self._sessions = sessions

    async def principal(self, request: Request) -> Principal:
        """The caller. Raises `Unauthenticated`. A FastAPI dependency."""
        cookie = self.session_of(request)
        if cookie is not None:
            return await self._by_session(request, cookie)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise MissingToken
        if token.startswith("sk-"):
            raise Unauthenticated(
                "API keys call services; the management API takes access tokens",
                hint="send 'Authorization: Bearer pat-…'",
                code="invalid_access_token",
            )
        async with self._db.begin() as session:
            found = await store.user_by_token(session, token)
        if found is None:
            raise Unauthenticated("the access token is not valid", code="invalid_access_token")
        user, row = found
        if store.token_use_is_news(row):
            await self._note_use(row.id)
        return principal_of(user)

    def session_of(self, request: Request) -> str | None:
        """The cookie of the session that a call is made with; None where it brings a token."""
        return None if "authorization" in request.headers else request.cookies.get(COOKIE)

    async def _note_use(self, token_id: str) -> None:
        """In a transaction of its own: a disk that is full must not keep its operator out."""
        try:
            async with self._db.begin() as session:
                await store.note_token_use(session, token_id)
        except SQLAlchemyError as error:
            log.warning("that %s was used cannot be noted: %s", token_id, error)

    async def _by_session(self, request: Request, cookie: str) -> Principal:
        principal = await self._sessions.principal(cookie)
        if principal is None:
            raise Unauthenticated("the session has ended", hint="sign in again")
        # A browser sends its cookie along with whatever a foreign page asks for.
        if request.method not in _SAFE and not same_csrf(
            cookie, request.headers.get("x-csrf-token", "")
        ):
            raise PermissionDenied("this call needs the session's CSRF token", code="csrf")
        return principal
