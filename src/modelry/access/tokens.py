"""Access tokens, which call the management API: what their owner makes and revokes.

A call finds its token in the database, so one that is deleted is of no use from then on.
"""

import asyncio
from datetime import datetime

from modelry.access import store
from modelry.access.credentials import new_access_token
from modelry.access.principal import Principal
from modelry.db import Database
from modelry.errors import Conflict, NotFound

TOKENS_MAX = 100
"""Of one user; those that a start makes are not counted."""


class Tokens:
    def __init__(self, db: Database) -> None:
        self._db = db
        # Two at once could both be the last that there is room for.
        self._creating = asyncio.Lock()

    async def create(
        self, principal: Principal, name: str, expires_at: datetime | None
    ) -> tuple[store.AccessTokenRow, str]:
        """The new row, and the token itself, which is nowhere to be had again.

        Raises `Conflict` where there are too many.
        """
        token = new_access_token()
        async with self._creating, self._db.begin() as session:
            if await store.count_tokens(session, principal.owner_id) >= TOKENS_MAX:
                raise Conflict(
                    f"you have {TOKENS_MAX} access tokens already",
                    hint="delete those that are not used any more",
                    code="too_many_tokens",
                )
            row = store.add_token(session, principal.owner_id, name, token, expires_at=expires_at)
        return row, token

    async def delete(self, principal: Principal, token_id: str) -> None:
        """Raises `NotFound`, and `Conflict` for the local command line's."""
        async with self._db.begin() as session:
            row = await store.token_of(session, principal.owner_id, token_id)
            if row is None:
                raise NotFound(f"there is no access token {token_id}", code="token_not_found")
            if row.origin == store.Origin.LOCAL:
                # It would be back at the next start, and no command would work until then.
                raise Conflict(
                    f"{token_id} is the command line's on the machine that Modelry runs on",
                    hint="each start of Modelry replaces it by a fresh one",
                    code="local_token",
                )
            await session.delete(row)
