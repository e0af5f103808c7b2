"""A process that counts and claims as a gateway does, one order at a time.

    python -m tests.support.sharing <folder> <limits of the key, as JSON>

Takes JSON, one order a line, and answers each with a line. See `_ORDERS`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from modelry.gateway.counters import Counters
from modelry.gateway.limits import Admitted, Limiter
from modelry.gateway.replies import Reply
from modelry.gateway.slots import SharedSlots
from modelry.routing.messages import KeyGrant, Limits


class Sharing:
    """The test's end of such a process."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sharing", str(folder), json.dumps(limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.result() == "ready"

    def do(self, order: str, **given: Any) -> Any:
        self.begin(order, **given)
        return self.result()

    def begin(self, order: str, **given: Any) -> None:
        """Give an order and do not wait for its result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"order": order, **given}) + "\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class _Process:
    def __init__(self, folder: Path, limits: Limits) -> None:
        self.limiter = Limiter(Counters(folder), crowded=True)
        self.slots = SharedSlots(folder)
        self.key = KeyGrant("key_1", "hash", "u-1", limits=limits, number=1)
        self.limits = limits
        self.admitted: list[Admitted] = []

    def look(self) -> None:
        """See which processes there are."""
        self.limiter.sweep(lambda key_id: True)

    def admit(self, times: int = 1, estimate: int = 1, at: float = 0.0) -> int:
        """Try so often, from the time `at` on; how many were let in."""
        while time.time() < at:
            pass
        before = len(self.admitted)
        for _ in range(times):
            try:
                self.admitted.append(self.limiter.admit(self.key, self.limits, estimate))
            except Reply:
                continue
        return len(self.admitted) - before

    def settle(self, tokens: int) -> None:
        """The oldest request under way ends."""
        self.admitted.pop(0).settle(tokens)

    def take(self, replica: str, slots: int, at: float = 0.0) -> int:
        """Take as many slots as there are to be had, from the time `at` on."""
        while time.time() < at:
            pass
        taken = 0
        while self.slots.take(replica, slots):
            taken += 1
        return taken

    def release(self, replica: str) -> None:
        self.slots.release(replica)

    def forget(self, replica: str) -> None:
        self.slots.forget(replica)

    def churn(self, replica: str, slots: int, times: int) -> list[tuple[int, int]]:
        """Take a slot and give it back so often; when it was held, in ns."""
        held: list[tuple[int, int]] = []
        while len(held) < times:
            if self.slots.take(replica, slots):
                start = time.monotonic_ns()
                held.append((start, time.monotonic_ns()))
                self.slots.release(replica)
        return held


_ORDERS = ("look", "admit", "settle", "take", "release", "forget", "churn")


def main(folder: str, limits: str) -> None:
    process = _Process(Path(folder), msgspec.json.decode(limits, type=Limits))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        given = json.loads(line)
        order = given.pop("order")
        assert order in _ORDERS
        print(json.dumps(getattr(process, order)(**given)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
