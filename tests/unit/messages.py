"""Routes and keys for tests, with everything that does not matter filled in."""

import hashlib

from modelry.routing.messages import KeyGrant, ReplicaAddress, Route

OWNER = "u-0123456789ab"
STRANGER = "u-ba9876543210"


def route(
    service_id: str = "svc",
    path: str = f"{OWNER}/test",
    replicas: tuple[str, ...] = (),
    *,
    state: str = "running",
    created_at: int = 0,
) -> Route:
    """Owned by the first half of its path; operators' shared ones by a user of their own."""
    owner, _, _ = path.partition("/")
    return Route(
        service_id=service_id,
        access_path=path,
        owner_id="u-000000000000" if owner == "public" else owner,
        tasks=("chat",),
        state=state,
        message="",
        created_at=created_at,
        replicas=tuple(address(name) for name in replicas),
    )


def address(name: str, slots: int = 4) -> ReplicaAddress:
    return ReplicaAddress(name, f"unix:/run/{name}.sock", f"secret of {name}", slots)


def grant(
    key: str = "sk-key",
    *,
    id_: str = "key",
    owner: str = OWNER,
    services: tuple[str, ...] | None = None,
    expires_at: float | None = None,
    probe: bool = False,
) -> KeyGrant:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return KeyGrant(id_, digest, owner, services, expires_at, probe=probe)
