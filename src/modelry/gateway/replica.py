"""What a gateway keeps of each replica, or endpoint elsewhere, that a service stands on."""

from urllib.parse import urlsplit

from modelry.gateway.upstream import Upstream
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route

_FIRST_OUT_S = 1.0
_LONGEST_OUT_S = 30.0


class Replica:
    """An address with its load, its health, and the connections kept to it.

    `out`: it failed, and is left out until a probe of it succeeds. `route`: the last that had it;
    what calls meet in it is as that one says, also once the service has gone on to another.
    """

    __slots__ = (
        "address",
        "credit",
        "failures",
        "heads",
        "id",
        "inflight",
        "model",
        "out",
        "route",
        "slots",
        "upstream",
        "weight",
        "weighted",
    )

    def __init__(
        self, address: ReplicaAddress | EndpointAddress, upstream: Upstream, route: Route
    ) -> None:
        self.address = address
        self.route = route
        self.id = address.id
        self.slots = address.slots
        self.weighted = isinstance(address, EndpointAddress)
        self.model = address.model
        self.weight = address.weight if isinstance(address, EndpointAddress) else 1
        self.upstream = upstream
        self.inflight = 0
        self.credit = 0
        self.failures = 0
        self.out = False
        self.heads: dict[bytes, bytes] = {}
        """Endpoint path → the part of a request's head that is always the same."""

    @property
    def free(self) -> int:
        return self.slots - self.inflight

    def failed(self) -> float:
        """Leave it out. Returns after how many seconds to probe it, longer each time in a row."""
        pause_s = min(_FIRST_OUT_S * 2.0**self.failures, _LONGEST_OUT_S)
        self.failures += 1
        self.out = True
        return pause_s

    def answered(self) -> None:
        self.failures = 0
        self.out = False


def replica_of(address: ReplicaAddress | EndpointAddress, route: Route) -> Replica:
    if isinstance(address, ReplicaAddress):
        return Replica(address, Upstream(address.address, learns=True), route)
    url = urlsplit(address.url)
    kind, port = ("tls", 443) if url.scheme == "https" else ("tcp", 80)
    where = f"{kind}:{url.hostname}:{url.port or port}"
    upstream = Upstream(where, public_only=address.public_only, learns=True)
    return Replica(address, upstream, route)
