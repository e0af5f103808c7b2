"""Which services use a model, as far as looking after its weights must know of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from modelry.access.principal import Principal
from modelry.db import Session


@dataclass(frozen=True)
class Use:
    """A service of the model. `runs`: its owner wants it to."""

    service: str
    owner_id: str
    variant: str
    runs: bool


UsesOf: TypeAlias = Callable[[Session, str], Awaitable[Sequence[Use]]]
"""The services that use the model of this id, whoever owns them."""


def in_words(uses: Sequence[Use], principal: Principal) -> str:
    """Like `services a, b and 2 of other users`: what belongs to others stays unnamed."""
    own = [use.service for use in uses if use.owner_id == principal.owner_id]
    others = len(uses) - len(own)
    if not own:
        return f"{others} service{'s' if others > 1 else ''} of other users"
    told = [*own, f"{others} of other users"] if others else own
    listed = " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
    return f"service{'s' if len(uses) > 1 else ''} {listed}"
