"""The first start: the operator `admin` and its credentials."""

import logging
from dataclasses import dataclass

from modelry.access import store
from modelry.access.credentials import (
    hash_password,
    new_access_token,
    new_password,
    password_matches,
)
from modelry.access.store import Origin, UserRow
from modelry.db import Session

log = logging.getLogger(__name__)

ADMIN = "admin"
_ADMIN_TOKEN_NAME = "admin"  # noqa: S105 (a name, not a secret)
_LOCAL_TOKEN_NAME = "local command line"  # noqa: S105


@dataclass(frozen=True)
class MadeCredentials:
    """Credentials made just now, to be shown once; None where they were preset."""

    password: str | None
    token: str | None


async def ensure_operator(
    session: Session, password: str | None, token: str | None
) -> tuple[UserRow, MadeCredentials | None]:
    """The operator `admin`, made at the first start.

    What is preset counts at every start, so that automation can set it anew. Whoever signed in
    with another password since is signed out, as after any change of a password.
    """
    user = await store.user_by_name(session, ADMIN)
    made = None
    if user is None:
        made_password = password or new_password()
        made_token = token or new_access_token()
        user = await store.add_operator(session, ADMIN, hash_password(made_password))
        await store.replace_token(session, user.id, _ADMIN_TOKEN_NAME, made_token, Origin.START)
        made = MadeCredentials(
            password=None if password else made_password,
            token=None if token else made_token,
        )
        return user, made
    if token is not None:
        await store.replace_token(session, user.id, _ADMIN_TOKEN_NAME, token, Origin.START)
    if password is not None and not password_matches(password, user.password_hash or ""):
        log.warning("the operator's password is set to that of MODELRY_ADMIN_PASSWORD again")
        user.password_hash = hash_password(password)
        await store.remove_other_sessions(session, user.id, None)
        await store.remove_keys_of_other_sessions(session, user.id, None)
    return user, made


async def renew_local_token(session: Session, user: UserRow) -> str:
    """A fresh access token for the command line on this machine, in place of the last."""
    token = new_access_token()
    await store.replace_token(session, user.id, _LOCAL_TOKEN_NAME, token, Origin.LOCAL)
    return token
