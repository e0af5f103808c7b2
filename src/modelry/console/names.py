"""Names for new services: one that is free, and what is to be said of one that somebody types."""

import re
from collections.abc import Collection

from sqlalchemy import select

from modelry.db import Session
from modelry.services.spec import check_name
from modelry.services.store import ServiceRow

_LONGEST = 64


async def taken_names(session: Session, owner_id: str) -> frozenset[str]:
    """Also those of services that are being deleted: they are free once that is over."""
    names = select(ServiceRow.name).where(ServiceRow.owner_id == owner_id)
    return frozenset(await session.scalars(names))


def suggested(model: str, taken: Collection[str]) -> str:
    """After the model, as far as a service's name may be like it, with a number if need be."""
    stem = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    if len(stem) < 2 or not stem[0].isalpha():
        stem = f"model-{stem}".strip("-")
    for number in range(1, len(taken) + 2):
        end = "" if number == 1 else f"-{number}"
        name = stem[: _LONGEST - len(end)].rstrip("-") + end
        if name not in taken:
            return name
    raise AssertionError("one of them is free")


def said_of(name: str, taken: Collection[str]) -> str | None:
    """`against_rule`, `taken` or `free`; None of no name."""
    if not name:
        return None
    try:
        check_name(name)
    except ValueError:
        return "against_rule"
    return "taken" if name in taken else "free"
