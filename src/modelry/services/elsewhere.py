"""Endpoints elsewhere: who may stand a service on which, and how their keys are kept."""

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.errors import PermissionDenied
from modelry.routing.addresses import is_public
from modelry.sealing import Sealer
from modelry.services.spec import EndpointSpec
from modelry.settings import Secret

_RESOLVE_TIMEOUT_S = 5.0
# A shorter key would be half told by its end.
_TAIL_FROM = 8


@dataclass(frozen=True)
class EndpointWish:
    """An endpoint as its owner gives it: `url` has been checked for its form."""

    url: str
    api_key: Secret | None = None
    model: str | None = None
    weight: int = 1


async def admit(
    principal: Principal, wishes: tuple[EndpointWish, ...], sealer: Sealer
) -> tuple[EndpointSpec, ...]:
    """The endpoints as they are stored. Raises `PermissionDenied`.

    Operators may name any address, others none in our own networks; the gateway
    looks again whenever it connects, since a name may come to mean something else.
    """
    if not principal.operator:
        for wish in wishes:
            await _require_public(wish.url)
    return tuple(_spec(wish, sealer, public_only=not principal.operator) for wish in wishes)


def _spec(wish: EndpointWish, sealer: Sealer, *, public_only: bool) -> EndpointSpec:
    id_ = new_id("ep")
    key = None if wish.api_key is None else wish.api_key.reveal()
    return EndpointSpec(
        id=id_,
        url=wish.url,
        model=wish.model,
        weight=wish.weight,
        sealed_key=None if key is None else sealer.seal(key, id_),
        key_tail=None if key is None else key[-4:] if len(key) >= _TAIL_FROM else "",
        public_only=public_only,
    )


async def _require_public(url: str) -> None:
    split = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(split.hostname, split.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        found = []
    if not found or not all(is_public(str(address[0])) for *_, address in found):
        # The same words for a name that does not exist: which of ours do is our affair.
        raise PermissionDenied(
            f"endpoint: {split.hostname} has no public address, and others are for operators",
            hint="ask an operator to make the service",
            param="endpoint",
        )
