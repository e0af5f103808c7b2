"""Modelry's side: what its gateway finds on disk when it starts, routes and keys in a snapshot.

Routes stand on an external endpoint, the mock engine, as the peers' do.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.wire import HOST, MODEL
from modelry.gateway.snapshot import SnapshotFile
from modelry.routing.messages import (
    EndpointAddress,
    KeyGrant,
    Limits,
    ReplicaAddress,
    Route,
    Snapshot,
)
from modelry.settings import Paths

KEY = "sk-bench"

MANY_ROUTES = 10_000
MANY_KEYS = 100_000
CALLED = 64
"""Routes, and keys with limits, that calls go to when many are loaded."""

_OWNERS = 100
_SLOTS = 4096
# All four are checked and counted; none is ever reached.
_LIMITS = Limits(
    requests_per_minute=100_000_000,
    tokens_per_minute=1_000_000_000_000,
    concurrency=100_000,
    tokens_per_month=1_000_000_000_000_000,
)


@dataclass(frozen=True)
class Table:
    """`callers`: (API key, access path) of the calls that go to it."""

    routes: tuple[Route, ...]
    keys: tuple[KeyGrant, ...]
    callers: tuple[tuple[str, str], ...]


Target = EndpointAddress | ReplicaAddress


def endpoint(port: int, name: str = "bench") -> EndpointAddress:
    return EndpointAddress(f"end_{name}", f"http://{HOST}:{port}/v1", _SLOTS)


def replica(path: Path) -> ReplicaAddress:
    return ReplicaAddress("rep_bench", f"unix:{path}", "secret", _SLOTS)


def one_of_each(target: Target) -> Table:
    owner = MODEL.partition("/")[0]
    route = _route("svc_bench", MODEL, target)
    return Table((route,), (_key(1, KEY, owner, _LIMITS),), ((KEY, MODEL),))


def many(engine_port: int, routes: int, keys: int) -> Table:
    """Over `_OWNERS` owners. Every second key has limits.

    Calls go to the same `CALLED` pairs however many there are, so that two such tables
    differ in their size alone.
    """
    owners = [f"u-{number:012x}" for number in range(_OWNERS)]
    paths = [f"{owners[number % _OWNERS]}/service-{number}" for number in range(routes)]
    secrets = [f"sk-bench-{number:08}" for number in range(keys)]
    # An even number's key has limits, and its owner is that of the route of this number.
    called = range(0, 2 * CALLED, 2)
    return Table(
        tuple(
            _route(f"svc_{number:08}", path, endpoint(engine_port, f"{number:08}"))
            for number, path in enumerate(paths)
        ),
        tuple(
            _key(number + 1, secret, owners[number % _OWNERS], None if number % 2 else _LIMITS)
            for number, secret in enumerate(secrets)
        ),
        tuple((secrets[number], paths[number]) for number in called),
    )


def prepare(data: Path, table: Table) -> dict[str, str]:
    """Write the snapshot under `data`; the environment of a gateway that starts from it."""
    paths = Paths(data)
    paths.prepare()
    SnapshotFile(paths.feed_snapshot).write(Snapshot(1, table.routes, table.keys))
    return {"MODELRY_DATA_DIR": str(data)}


def _route(service_id: str, path: str, target: Target) -> Route:
    return Route(
        service_id,
        path,
        path.partition("/")[0],
        ("chat",),
        "running",
        "serving",
        0,
        replicas=(target,) if isinstance(target, ReplicaAddress) else (),
        endpoints=(target,) if isinstance(target, EndpointAddress) else (),
    )


def _key(number: int, secret: str, owner: str, limits: Limits | None) -> KeyGrant:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return KeyGrant(f"key_{number:08}", digest, owner, limits=limits, number=number)
