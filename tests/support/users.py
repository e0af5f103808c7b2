"""Users beside the operator, put where the control plane of an instance finds them."""

import asyncio

from modelry.access.store import UserRow, add_token
from modelry.db import Database
from tests.support.instance import Instance


def add_user(instance: Instance, id_: str, name: str) -> str:
    """Somebody who is no operator; returns their access token."""
    token = f"pat-{name}-" + "s" * 40

    async def add() -> None:
        db = Database(None, instance.paths.database)
        async with db.begin() as session:
            session.add(UserRow(id=id_, name=name, operator=False))
            await session.flush()
            add_token(session, id_, "tests", token)
        await db.close()

    asyncio.run(add())
    return token
