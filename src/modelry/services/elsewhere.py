"""Endpoints elsewhere: who may stand a service on which, and how their keys are kept."""

import asyncio
import contextlib
import hmac
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelry.access.credentials import new_id
from modelry.access.principal import Principal
from modelry.errors import InvalidRequest, PermissionDenied
from modelry.routing.addresses import is_public
from modelry.sealing import Sealer, SecretUnreadable
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


@dataclass(frozen=True)
class EndpointChange:
    """An endpoint as a changed service is to have it. `id`: the one it has been until now; without
    it, it is that of the same address, or a new one. `named`: the fields that were given; of one
    that has been there the others stay, its key among them.
    """

    named: frozenset[str]
    id: str | None = None
    url: str | None = None
    api_key: Secret | None = None
    model: str | None = None
    weight: int = 1


async def change_endpoints(
    principal: Principal,
    present: tuple[EndpointSpec, ...],
    changes: tuple[EndpointChange, ...],
    sealer: Sealer,
) -> tuple[EndpointSpec, ...]:
    """The endpoints in the order of `changes`. Raises `InvalidRequest` or `PermissionDenied`."""
    befores = _befores(present, changes)
    found: list[EndpointSpec] = []
    for place, (change, before) in enumerate(zip(changes, befores, strict=True)):
        if before is None:
            if change.url is None:
                raise InvalidRequest(
                    f"endpoint.{place}.url: a new endpoint needs one", param=f"endpoint.{place}.url"
                )
            wish = EndpointWish(change.url, change.api_key, change.model, change.weight)
            found += await admit(principal, (wish,), sealer)
        else:
            found.append(await _changed(principal, before, change, place, sealer))
    return tuple(found)


async def _changed(
    principal: Principal, before: EndpointSpec, change: EndpointChange, place: int, sealer: Sealer
) -> EndpointSpec:
    url = change.url or before.url
    update: dict[str, object] = {"url": url}
    if url != before.url:
        if before.sealed_key is not None and "api_key" not in change.named:
            # Who may change a service need not know its keys, and is not to have them sent here.
            raise InvalidRequest(
                f"endpoint.{place}.api_key: the stored key is for {before.url} alone",
                hint="give the key of the new address, or null for none",
                param=f"endpoint.{place}.api_key",
            )
        if not principal.operator:
            await _require_public(url)
        update["public_only"] = not principal.operator
    for name in change.named & {"model", "weight"}:
        update[name] = getattr(change, name)
    if "api_key" in change.named:
        update |= _sealed(change.api_key, before, sealer)
    return before.model_copy(update=update)


def _sealed(key: Secret | None, before: EndpointSpec, sealer: Sealer) -> dict[str, object]:
    if key is None:
        return {"sealed_key": None, "key_tail": None}
    text = key.reveal()
    if before.sealed_key is not None:
        # One that can no longer be opened is there to be replaced.
        with contextlib.suppress(SecretUnreadable):
            known = sealer.open(before.sealed_key, before.id)
            if hmac.compare_digest(known.encode(), text.encode()):
                # Sealed again, it would look like another.
                return {}
    return {"sealed_key": sealer.seal(text, before.id), "key_tail": _tail(text)}


def _befores(
    present: tuple[EndpointSpec, ...], changes: tuple[EndpointChange, ...]
) -> list[EndpointSpec | None]:
    """Which of the present endpoints each change is of; None for a new one."""
    by_id = {endpoint.id: endpoint for endpoint in present}
    named = [change.id for change in changes if change.id is not None]
    for place, change in enumerate(changes):
        if change.id is not None and (change.id not in by_id or named.count(change.id) > 1):
            why = "is named twice" if change.id in by_id else "is none of its endpoints"
            raise InvalidRequest(
                f"endpoint.{place}.id: {change.id} {why}",
                hint="leave the id out for a new endpoint",
                param=f"endpoint.{place}.id",
            )
    left = [endpoint for endpoint in present if endpoint.id not in named]
    found: list[EndpointSpec | None] = []
    for place, change in enumerate(changes):
        if change.id is not None:
            found.append(by_id[change.id])
            continue
        alike = [endpoint for endpoint in left if endpoint.url == change.url]
        if len(alike) > 1:
            raise InvalidRequest(
                f"endpoint.{place}.id: several endpoints have this url",
                hint="name each by its id, as the service's spec shows it",
                param=f"endpoint.{place}.id",
            )
        left = [endpoint for endpoint in left if endpoint not in alike]
        found.append(alike[0] if alike else None)
    return found


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
        key_tail=None if key is None else _tail(key),
        public_only=public_only,
    )


def _tail(key: str) -> str:
    return key[-4:] if len(key) >= _TAIL_FROM else ""


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
