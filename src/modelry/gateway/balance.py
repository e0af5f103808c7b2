"""Which replica gets a request: pure choices over replicas and their load.

Chats go where their conversation has been before: consistent hashing with
bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016) on the prompt's
prefix, by rendezvous hashing, so that replicas come and go without moving
other conversations. Everything else takes the less loaded of two picked at
random. Endpoints elsewhere share by weight, smoothly in turn.
"""

import hashlib
import math
import random
from collections.abc import Container, Iterable, Sequence

from modelry.gateway.replica import Replica

BOUND = 1.25
"""How far over the mean load a conversation's own replica may be."""


def choose(
    replicas: Iterable[Replica],
    *,
    without: Container[str] = (),
    prefix: bytes | None = None,
) -> Replica | None:
    """A replica with a free slot, those in `without` left out.

    One that failed lately is chosen only where every other was tried.
    """
    untried = [replica for replica in replicas if replica.id not in without]
    healthy = [replica for replica in untried if not replica.out]
    candidates = [replica for replica in healthy or untried if replica.free > 0]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    if candidates[0].weighted:
        return _in_turn(candidates)
    if prefix is not None:
        own = max(healthy or untried, key=lambda replica: _rank(prefix, replica))
        if own.free > 0 and own.inflight < _bound(healthy or untried):
            return own
    one, other = random.sample(candidates, 2)
    return one if one.inflight <= other.inflight else other


def _rank(prefix: bytes, replica: Replica) -> bytes:
    return hashlib.blake2b(prefix + replica.id.encode(), digest_size=8).digest()


def _bound(replicas: Sequence[Replica]) -> int:
    load = 1 + sum(replica.inflight for replica in replicas)
    return math.ceil(BOUND * load / len(replicas))


def _in_turn(candidates: list[Replica]) -> Replica:
    """Smooth weighted round robin: shares are by weight, without runs of the heaviest."""
    for replica in candidates:
        replica.credit += replica.weight
    chosen = max(candidates, key=lambda replica: replica.credit)
    chosen.credit -= sum(replica.weight for replica in candidates)
    return chosen
