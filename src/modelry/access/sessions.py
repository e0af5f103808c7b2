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
from modelry.errors import ModelryError, PermissionDenied, Unauthenticated

COOKIE = "modelry_session"
LIFE = timedelta(days=14)

_ATTEMPTS_MAX = 10
_WINDOW_S = 60.0


class TooManyAttempts(ModelryError):
    status, code = 429, "too_many_attempts"


class WrongPassword(PermissionDenied):
    """Not a 401: the caller is signed in, and stays it."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("the current password is wrong", param="current_password")


def csrf_token(cookie: str) -> str:
    """The token that forms of this session carry; it cannot be made without the cookie."""
    return hmac.new(cookie.encode(), b"csrf", "sha256").hexdigest()


def same_csrf(cookie: str, token: str) -> bool:
    return hmac.compare_digest(csrf_token(cookie).encode(), token.encode())


class Sessions:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._attempts: dict[str, deque[float]] = {}
        # Compared against for unknown names, so that they take as long.
        self._nobody = hash_password(secrets.token_hex(8))

    async def sign_in(self, name: str, password: str, peer: str) -> str:
        """The cookie of a new session. Raises `Unauthenticated` or `TooManyAttempts`.

        `peer`: where the attempt comes from; each place has attempts of its own.
        """
        self._count(peer)
        async with self._db.begin() as session:
            user = await store.user_by_name(session, name)
        hashed = (user.password_hash if user else None) or self._nobody
        matches = await asyncio.to_thread(password_matches, password, hashed)
        if user is None or user.password_hash is None or not matches:
            raise Unauthenticated("the name or the password is wrong")
        self._attempts.pop(peer, None)
        cookie = secrets.token_urlsafe(32)
        async with self._db.begin() as session:
            # It may have been changed meanwhile, which signs out all that came before.
            if not await store.has_password(session, user.id, user.password_hash):
                raise Unauthenticated("the name or the password is wrong")
            session.add(
                store.SessionRow(
                    hash=digest(cookie), user_id=user.id, expires_at=store.now() + LIFE
                )
            )
        return cookie

    async def change_password(
        self, principal: Principal, current: str, new: str, peer: str, *, kept: str | None
    ) -> None:
        """Give a user another password, and sign their browsers out but for that of `kept`.

        An attempt counts like one to sign in. Raises `WrongPassword` or `TooManyAttempts`.
        """
        self._count(peer)
        async with self._db.begin() as session:
            user = await store.user_by_name(session, principal.name)
        old = user.password_hash if user else None
        if not await asyncio.to_thread(password_matches, current, old or self._nobody):
            raise WrongPassword
        self._attempts.pop(peer, None)
        hashed = await asyncio.to_thread(hash_password, new)
        async with self._db.begin() as session:
            # Of two at once, one is first: the other's current password is no longer that.
            if not await store.change_password(session, principal.owner_id, old, hashed):
                raise WrongPassword
            await store.remove_other_sessions(
                session, principal.owner_id, None if kept is None else digest(kept)
            )

    def _count(self, peer: str) -> None:
        """Note an attempt before its password is looked at, so that a burst counts too."""
        now = time.monotonic()
        for known in [each for each, at in self._attempts.items() if now - at[-1] > _WINDOW_S]:
            del self._attempts[known]
        attempts = self._attempts.setdefault(peer, deque(maxlen=_ATTEMPTS_MAX))
        if len(attempts) == _ATTEMPTS_MAX and now - attempts[0] < _WINDOW_S:
            raise TooManyAttempts("too many failed attempts; wait a minute and try again")
        attempts.append(now)

    async def principal(self, cookie: str) -> Principal | None:
        async with self._db.begin() as session:
            user = await store.user_by_session(session, digest(cookie))
        return None if user is None else principal_of(user)

    async def sign_out(self, cookie: str) -> None:
        async with self._db.begin() as session:
            await store.remove_sessions(session, digest(cookie))
