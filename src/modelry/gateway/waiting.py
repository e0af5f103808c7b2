"""Those who wait for a slot of a service: in a line that is fair between keys, each for a time.

Keeps time and order. It knows neither replicas nor slots: the `Service` says who
may go, what to tell those who may not, and how patient everybody is.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from modelry.gateway.fairness import FairQueue
from modelry.gateway.replica import Replica
from modelry.gateway.replies import Reply


class Call(Protocol):
    """A request that wants a slot. It hears by `granted` or `refused`, maybe at once.

    `cost`: tokens it is expected to use. `prefix`: of its conversation, if any.
    `arrived_at`, and `waits_from`: when it first began to wait, on the loop's clock. `charged`: it
    waited, and its cost was charged. `patient`: only a replica that is well will do. `probe`: it
    is nobody's, and takes only what nobody wants.
    """

    key_id: str
    probe: bool
    cost: int
    tried: list[str]
    waiter: "Waiter | None"
    waits_from: float
    charged: bool
    patient: bool
    why: str

    @property
    def arrived_at(self) -> float: ...
    @property
    def prefix(self) -> bytes | None: ...
    def waiting(self) -> None: ...
    def granted(self, replica: Replica) -> None: ...
    def refused(self, reply: Reply) -> None: ...


class Waiter:
    """A call's place in the line, and the timer that ends it."""

    __slots__ = ("call", "timer")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.timer: asyncio.TimerHandle | None = None


class WaitingLine:
    """`patience_s`: how long anybody may wait, as things stand now. `out_of_time` is told of a
    call that has waited so long, and waits no more.
    """

    def __init__(
        self, patience_s: Callable[[], float], out_of_time: Callable[[Call], None]
    ) -> None:
        self._patience_s = patience_s
        self._out_of_time = out_of_time
        self._queue: FairQueue[Waiter] = FairQueue()

    def __len__(self) -> int:
        return self._queue.size

    @property
    def calls(self) -> list[Call]:
        return [waiter.call for waiter in self._queue.items()]

    def add(self, call: Call, *, again: bool) -> None:
        """Let it wait behind its key's other calls; `again`: where it stood among them."""
        waiter = call.waiter = Waiter(call)
        self._push(waiter, again=again)
        self._time(waiter)

    def remove(self, call: Call) -> None:
        """It waits no longer, if it does."""
        waiter = call.waiter
        if waiter is not None:
            self._queue.remove(call.key_id, waiter)
            _end(waiter)

    def next(self, may: Callable[[str], bool]) -> Call | None:
        """Take the next call of a key that `may` go out of the line, and charge it.

        Its time goes on: it is either `let_go` or put `back`.
        """
        waiter = self._queue.pop(may)
        return None if waiter is None else waiter.call

    def let_go(self, call: Call) -> None:
        assert call.waiter is not None
        call.charged = True
        _end(call.waiter)

    def back(self, call: Call) -> None:
        assert call.waiter is not None
        self._push(call.waiter, again=True)
        self._queue.settle(call.key_id, -call.cost)

    def settle(self, call: Call, used_tokens: int) -> None:
        """Correct what a call that waited was charged by what it used."""
        self._queue.settle(call.key_id, used_tokens - call.cost)

    def gives_way(self, call: Call) -> Call | None:
        """Who goes in favour of `call` where there is room for one only: the last of the key that
        has most waiting, if that is more than `call`'s key would have.
        """
        if not self._queue:
            return None
        key_id, last = self._queue.last_of_longest()
        if self._queue.waiting(key_id) <= self._queue.waiting(call.key_id) + 1:
            return None
        return last.call

    def _push(self, waiter: Waiter, *, again: bool) -> None:
        call = waiter.call

        def came_later(other: Waiter) -> bool:
            return other.call.arrived_at > call.arrived_at

        self._queue.push(call.key_id, call.cost, waiter, came_later if again else None)

    def _time(self, waiter: Waiter) -> None:
        until = waiter.call.waits_from + self._patience_s()
        waiter.timer = asyncio.get_running_loop().call_at(until, self._look, waiter)

    def _look(self, waiter: Waiter) -> None:
        call = waiter.call
        # libuv's timers may be early by a millisecond.
        if asyncio.get_running_loop().time() + 0.002 < call.waits_from + self._patience_s():
            self._time(waiter)
            return
        self.remove(call)
        self._out_of_time(call)


def _end(waiter: Waiter) -> None:
    waiter.call.waiter = None
    if waiter.timer is not None:
        waiter.timer.cancel()
