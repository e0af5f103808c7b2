"""A service in the gateway: its replicas, and who gets a slot of them next.

A replica never gets more than its slots. A request beyond them waits its turn
(`waiting.py`). Where a service is coming or idle, its requests wait for it the
same way; an idle one is woken. Decides; it sends nothing.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from modelry.gateway.balance import choose
from modelry.gateway.metrics import ServiceMeter
from modelry.gateway.replica import Replica, replica_of
from modelry.gateway.replies import Reply, error, model_not_found
from modelry.gateway.waiting import Call, WaitingLine
from modelry.routing.messages import EndpointAddress, ReplicaAddress, Route, ServiceLoad

_COMING = frozenset({"pending", "fetching", "starting", "updating", "idle"})
_RETRY_AFTER_S = 2
_SHARE_S = 10.0
"""A key counts as one to share with for this long after its last request."""
_KEYS_REMEMBERED = 1024
_RETRY_SLOT_S = 0.01


_UNUSED = ServiceMeter()


@dataclass(frozen=True)
class Terms:
    """On what terms requests wait. `wake` is told the id of a service that is needed;
    `live` says whether the feed has been heard. `slots` are those shared with
    other gateway processes; `crowded`: there are others all the time.
    """

    queue_max: int = 1000
    queue_wait_s: float = 60.0
    start_wait_s: float = 20.0
    wake: Callable[[str], None] = lambda service_id: None
    live: Callable[[], bool] = lambda: True
    slots: "SlotClaims | None" = None
    crowded: bool = False


class SlotClaims(Protocol):
    """Slots that several gateway processes share."""

    def take(self, replica_id: str, slots: int) -> bool: ...
    def release(self, replica_id: str) -> None: ...
    def enlist(self, replica_id: str) -> None: ...
    def forget(self, replica_id: str) -> None: ...


class Service:
    def __init__(self, route: Route, terms: Terms) -> None:
        self.route = route
        self.replicas: dict[str, Replica] = {}
        self._only: Replica | None = None
        """Its replica, where it has one alone."""
        self.gone = False
        self.meter = _UNUSED
        self.last_used_at = 0.0
        """Unix seconds."""
        self._terms = terms
        self._line = WaitingLine(self._patience_s, self._out_of_time)
        self._held: dict[str, int] = {}
        self._probes = 0
        """Slots that probes hold."""
        self._seen: dict[str, float] = {}
        self._again: asyncio.TimerHandle | None = None
        self._kept: asyncio.TimerHandle | None = None
        self._leaving: dict[str, Replica] = {}
        """Replicas off the route that still have requests."""
        self.update(route)

    # -- what the feed says --------------------------------------------------

    def update(self, route: Route) -> None:
        self.route = route
        before, self.replicas = self.replicas, {}
        addresses: list[ReplicaAddress | EndpointAddress] = [*route.replicas, *route.endpoints]
        for address in addresses:
            replica = before.get(address.id) or self._leaving.pop(address.id, None)
            if replica is None or replica.address != address:
                replica = replica_of(address, route)
                if self._terms.slots is not None:
                    self._terms.slots.enlist(replica.id)
            replica.route = route
            replica.upstream.open()
            self.replicas[address.id] = replica
        self._only = next(iter(self.replicas.values())) if len(self.replicas) == 1 else None
        self._close(before)
        self._look_again()

    def drop(self) -> None:
        """Its route is gone: nobody need wait any longer."""
        self.gone = True
        before, self.replicas = self.replicas, {}
        self._only = None
        self._close(before)
        self._look_again()

    @property
    def load(self) -> ServiceLoad:
        inflight = sum(self._held.values()) - self._probes
        return ServiceLoad(inflight, len(self._line), self.last_used_at)

    # -- what requests do ----------------------------------------------------

    def enter(self, call: Call) -> None:
        """Give the call a slot, now or when its turn comes."""
        key_id = call.key_id
        if call.probe:
            self._enter_probe(call)
            return
        if self.meter is _UNUSED:
            # One for each of 10,000 services that nobody calls would be 15 MB.
            self.meter = ServiceMeter()
        self.last_used_at = time.time()
        seen = self._seen
        seen[key_id] = now = time.monotonic()
        if len(seen) > _KEYS_REMEMBERED:
            self._seen = {key: at for key, at in seen.items() if now - at < _SHARE_S}
        if not self._line:
            replica = self._slot_for(call)
            if replica is not None:
                held = self._held
                held[key_id] = held.get(key_id, 0) + 1
                replica.inflight += 1
                call.granted(replica)
                return
        self._wait(call, again=False)

    def _enter_probe(self, call: Call) -> None:
        """It is no use of the service, and no other key to share with."""
        replica = None if self._line else self._slot_for(call)
        if replica is not None:
            self._grant(call, replica)
        else:
            self._wait(call, again=False)

    def enter_again(self, call: Call) -> None:
        """The same for a call whose replica failed: it has waited its turn already."""
        replica = self._slot_for(call)
        if replica is not None:
            self._grant(call, replica)
        else:
            self._wait(call, again=True)

    def withdraw(self, call: Call) -> None:
        """The call waits no longer: its caller hung up."""
        self._line.remove(call)

    def leave(self, call: Call, replica: Replica, used_tokens: int | None) -> None:
        """Give the slot back. `used_tokens`: what the call used, where that is known."""
        replica.inflight -= 1
        if call.probe:
            self._probes -= 1
        claims = self._claims(replica)
        if claims is not None:
            claims.release(replica.id)
        if not replica.inflight and self._leaving.get(replica.id) is replica:
            self._forget(replica)
        left = self._held[call.key_id] - 1
        if left:
            self._held[call.key_id] = left
        else:
            del self._held[call.key_id]
        if call.charged and used_tokens is not None:
            self._line.settle(call, used_tokens)
        if self._line:
            if self._terms.crowded:
                # Taking it back at once would leave the other gateways none.
                self._try_again_soon()
            else:
                self._pump()

    def has_other(self, tried: list[str]) -> bool:
        """Whether there is a replica that was not tried."""
        return any(id_ not in tried for id_ in self.replicas)

    def let_in(self) -> None:
        """A replica is back: whoever waits for one may go."""
        if self._line:
            self._pump()

    # ------------------------------------------------------------------------

    def _slot_for(self, call: Call) -> Replica | None:
        """A slot the call may take now, taken."""
        if len(self._seen) > 1 and not self._may(call.key_id):
            return None
        only = self._only
        without: Collection[str] = call.tried
        if only is not None and only.weighted and not without and not self._terms.crowded:
            return only if only.inflight < only.slots else None
        replicas = self.replicas.values()
        prefix = call.prefix if only is None else None
        while True:
            replica = choose(replicas, without=without, prefix=prefix)
            if replica is None or (replica.out and call.patient):
                return None
            claims = self._claims(replica)
            if claims is None or claims.take(replica.id, replica.slots):
                return replica
            # Full by other gateways' requests.
            without = {*without, replica.id}

    def _claims(self, replica: Replica) -> SlotClaims | None:
        """Endpoints elsewhere have no slots that a moment with two gateways could overrun."""
        return None if replica.weighted and not self._terms.crowded else self._terms.slots

    def _may(self, key_id: str) -> bool:
        """The last free slot is kept for a key that was here lately and holds fewer.

        So a tenant that floods a service leaves the others a way in, and has
        every slot to itself where there are no others.
        """
        held = self._held.get(key_id, 0)
        if not held:
            return True
        if sum(replica.free for replica in self.replicas.values()) > 1:
            return True
        lately = time.monotonic() - _SHARE_S
        return not any(
            at > lately and key != key_id and self._held.get(key, 0) < held
            for key, at in self._seen.items()
        )

    def _grant(self, call: Call, replica: Replica) -> None:
        replica.inflight += 1
        self._held[call.key_id] = self._held.get(call.key_id, 0) + 1
        if call.probe:
            self._probes += 1
        call.granted(replica)

    def _wait(self, call: Call, *, again: bool) -> None:
        refusal = self._refusal(call)
        if refusal is None and call.probe:
            # Nor does it wake an idle service.
            refusal = self._overloaded("a probe waits for nobody")
        refusal = refusal or self._make_room(call)
        if refusal is not None:
            call.refused(refusal)
            return
        if self.route.state == "idle":
            self._terms.wake(self.route.service_id)
        call.waiting()
        self._line.add(call, again=again)
        if len(self._line) > 1:
            # There may be a slot that is kept from those who wait already.
            self._pump()
        if self._line:
            self._try_again_soon()
            if self._kept is None and any(each.free > 0 for each in self.replicas.values()):
                # Kept for keys that may not come again.
                loop = asyncio.get_running_loop()
                self._kept = loop.call_later(_SHARE_S, self._keep_no_longer)

    def _keep_no_longer(self) -> None:
        self._kept = None
        self.let_in()

    def _make_room(self, call: Call) -> Reply | None:
        """Where the queue is full, the key that has most waiting gives way."""
        if len(self._line) < self._terms.queue_max:
            return None
        refusal = self._overloaded("too many requests wait for it")
        other = self._line.gives_way(call)
        if other is None:
            return refusal
        self._line.remove(other)
        other.refused(refusal)
        return None

    def _refusal(self, call: Call) -> Reply | None:
        """Why waiting is hopeless, if it is."""
        route = self.route
        if self.gone:
            return model_not_found(route.access_path)
        if route.state in _COMING:
            return None
        if route.state != "running":
            reason = route.message or f"it is {route.state}"
            message = f"{route.access_path} does not serve now: {reason}"
            return error(503, "service_unavailable", message)
        if not call.tried or self.has_other(call.tried):
            return None
        if not self._terms.live() and route.replicas:
            # The snapshot on disk names replicas that are gone: the feed will
            # say which there are now, or a probe that one is back.
            call.tried.clear()
            call.patient = True
            return None
        message = "The replica stopped before answering. Please try again."
        if route.endpoints:
            message = f"The endpoint that this service stands on did not answer: {call.why}."
        return error(502, "bad_gateway", message)

    def _look_again(self) -> None:
        """The route changed: some may go on, for others there is no hope left."""
        for call in self._line.calls:
            refusal = self._refusal(call)
            if refusal is not None and call.waiter is not None:
                self._line.remove(call)
                call.refused(refusal)
        if self._line:
            if self.route.state == "idle":
                self._terms.wake(self.route.service_id)
            self._pump()

    def _pump(self) -> None:
        """Let those in who can go now."""
        passed_over: list[Call] = []
        try:
            while self._line and any(replica.free > 0 for replica in self.replicas.values()):
                call = self._line.next(self._may)
                if call is None:
                    break
                replica = self._slot_for(call)
                if replica is None:
                    # It has tried those that are free; others may go.
                    passed_over.append(call)
                    continue
                self._line.let_go(call)
                self._grant(call, replica)
        finally:
            for call in reversed(passed_over):
                if call.waiter is not None:
                    self._line.back(call)

    def _patience_s(self) -> float:
        return self._terms.queue_wait_s if self.replicas else self._terms.start_wait_s

    def _out_of_time(self, call: Call) -> None:
        if self.replicas:
            call.refused(self._overloaded("no slot became free in time"))
            return
        route = self.route
        message = f"{route.access_path} is not ready yet: {route.message or route.state}"
        call.refused(error(503, "service_starting", message, retry_after_s=_RETRY_AFTER_S))

    def _overloaded(self, why: str) -> Reply:
        message = f"{self.route.access_path} is busy: {why}. Please try again in a moment."
        return error(503, "overloaded", message, retry_after_s=_RETRY_AFTER_S)

    def _try_again_soon(self) -> None:
        """Slots that other gateways give back are heard of by looking."""
        if self._terms.slots is not None and self._again is None:
            loop = asyncio.get_running_loop()
            # By chance, so that every gateway with somebody waiting has one.
            pause_s = _RETRY_SLOT_S * random.random()  # noqa: S311 - fairness, not secrecy
            self._again = loop.call_later(pause_s, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        self._pump()
        if self._line:
            self._try_again_soon()

    def _close(self, before: dict[str, Replica]) -> None:
        for replica in before.values():
            if self.replicas.get(replica.id) is not replica:
                replica.upstream.close()
                if replica.inflight:
                    # It may come back, and its slots are held until then.
                    self._leaving[replica.id] = replica
                else:
                    self._forget(replica)

    def _forget(self, replica: Replica) -> None:
        self._leaving.pop(replica.id, None)
        if self._terms.slots is not None:
            self._terms.slots.forget(replica.id)
