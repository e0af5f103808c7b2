"""Signing in to the console: passwords, sessions, CSRF tokens."""

import asyncio
import hmac
import secrets
import time
from collections import deque
from datetime import timedelta

from modelry.access import store
from modelry.access.credentials import digest, hash_password, password_matches
from modelry.access.principal import Principal, principal_of
from modelry.db import Database
from modelry.errors import ModelryError, Unauthenticated

COOKIE = "modelry_session"
LIFE = timedelta(days=14)

_FAILURES_MAX = 10
_FAILURES_WINDOW_S = 60.0


class TooManyAttempts(ModelryError):
    status, code = 429, "too_many_attempts"


def csrf_token(cookie: str) -> str:
    """The token that forms of this session carry; it cannot be made without the cookie."""
    return hmac.new(cookie.encode(), b"csrf", "sha256").hexdigest()


def same_csrf(cookie: str, token: str) -> bool:
    return hmac.compare_digest(csrf_token(cookie), token)


class Sessions:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._failures: deque[float] = deque(maxlen=_FAILURES_MAX)
        # Compared against for unknown names, so that they take as long.
        self._nobody = hash_password(secrets.token_hex(8))

    async def sign_in(self, name: str, password: str) -> str:
        """The cookie of a new session. Raises `Unauthenticated` or `TooManyAttempts`."""
        now = time.monotonic()
        if len(self._failures) == _FAILURES_MAX and now - self._failures[0] < _FAILURES_WINDOW_S:
            raise TooManyAttempts("too many failed attempts; wait a minute and try again")
        async with self._db.begin() as session:
            user = await store.user_by_name(session, name)
        hashed = (user.password_hash if user else None) or self._nobody
        matches = await asyncio.to_thread(password_matches, password, hashed)
        if user is None or user.password_hash is None or not matches:
            self._failures.append(now)
            raise Unauthenticated("the name or the password is wrong")
        cookie = secrets.token_urlsafe(32)
        async with self._db.begin() as session:
            session.add(
                store.SessionRow(
                    hash=digest(cookie), user_id=user.id, expires_at=store.now() + LIFE
                )
            )
        return cookie

    async def principal(self, cookie: str) -> Principal | None:
        async with self._db.begin() as session:
            user = await store.user_by_session(session, digest(cookie))
        return None if user is None else principal_of(user)

    async def sign_out(self, cookie: str) -> None:
        async with self._db.begin() as session:
            await store.remove_sessions(session, digest(cookie))
