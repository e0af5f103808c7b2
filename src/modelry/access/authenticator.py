"""Who calls the management API: an access token, or the console's session."""

from fastapi import Request

from modelry.access import store
from modelry.access.principal import Principal, principal_of
from modelry.access.sessions import COOKIE, Sessions, same_csrf
from modelry.db import Database
from modelry.errors import PermissionDenied, Unauthenticated

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
        cookie = request.cookies.get(COOKIE)
        if cookie is not None and "authorization" not in request.headers:
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
            user = await store.user_by_token(session, token)
        if user is None:
            raise Unauthenticated("the access token is not valid", code="invalid_access_token")
        return principal_of(user)

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
