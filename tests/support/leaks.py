"""What a gateway must have given back once all is over."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.data_plane import Plane, Replica, chat
from tests.support.waiting import wait_for
from tests.support.wire import Answer, post

_NUMBER = re.compile(r":?\[?[0-9]+\]?(?=\.jsonl|$)")


def open_files(pid: int) -> Counter[str]:
    """What a process holds open: paths, whatever their number, and sockets by their kind alone."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        found[_NUMBER.sub("", target)] += 1
    return found


def warm(plane: Plane) -> None:
    """Have the gateway open what it opens once, and keeps."""
    with plane.wire() as wire:
        path = plane.service(plane.replica())
        assert wire.ask(post("/v1/chat/completions", plane.owner_key, chat(path))).status == 200
    plane.end_services()
    plane.end_replicas()


@contextmanager
def nothing_leaks(plane: Plane) -> Iterator[None]:
    """Fails where at the end the gateway, or a replica, holds a connection or a file more than
    before, where a request was accounted for twice, and where the gateway is gone.
    """
    process, pid = plane.gateway.process, plane.gateway.process.pid
    before = settled_files(pid)
    try:
        yield
        plane.end_services()
        for replica in plane.replicas:
            if replica.process.poll() is None:
                hung_up_on(replica)
    finally:
        plane.end_services()
        plane.end_replicas()
    assert plane.gateway.process is process, "this gateway is not the one that was looked at"
    assert process.poll() is None, "the gateway is gone"
    deadline = time.monotonic() + 5
    while (more := open_files(pid) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not more, f"the gateway still holds {dict(more)}"
    twice = [id_ for id_, times in Counter(accounted(plane)).items() if times > 1]
    assert not twice, "requests were accounted for twice"


def hung_up_on(replica: Replica) -> None:
    what = "the gateway to hang up on a replica that it no longer has"
    wait_for(lambda: replica.seen()["open"] == 0, what, 5, pause_s=0.01)


def settled_files(pid: int) -> Counter[str]:
    """What it holds open once that no longer changes."""
    last: list[Counter[str]] = []

    def same() -> bool:
        last.append(open_files(pid))
        return len(last) > 2 and last[-1] == last[-2] == last[-3]

    wait_for(same, "the gateway to come to rest", 5, pause_s=0.01)
    return last[-1]


def accounted(plane: Plane) -> list[str]:
    """Request ids of the usage events that have come."""
    return [event.request_id for event in plane.control.events]


def at_rest(plane: Plane, path: str) -> None:
    """Fails unless the gateway tells, after one more call, that nothing runs or waits."""
    since = time.time()
    with plane.wire() as wire:
        assert wire.ask(post("/v1/chat/completions", plane.owner_key, chat(path))).status == 200
    service_id = "svc_" + path.partition("/")[2]

    def nothing() -> bool:
        loads = [load for (_, id_), load in plane.control.loads.items() if id_ == service_id]
        latest = max(loads, key=lambda load: load.last_used_at, default=None)
        return (
            latest is not None
            and latest.last_used_at >= since
            and latest.inflight == latest.waiting == 0
        )

    wait_for(nothing, f"no request of {path} to run or wait", 5)


def accounted_once(plane: Plane, answers: list[Answer]) -> None:
    """Fails unless each of these answers, of calls of services, comes to one usage event."""
    ids = {answer.headers["x-request-id"] for answer in answers}
    wait_for(lambda: ids <= set(accounted(plane)), "the usage of every answer", 10)
    times = Counter(accounted(plane))
    assert {times[id_] for id_ in ids} == {1}
