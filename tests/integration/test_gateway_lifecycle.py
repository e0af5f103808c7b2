"""The gateway's start, its end, and its life without a control plane."""

import os
import signal
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelry.gateway.snapshot import SnapshotFile
from tests.support.data_plane import GatewayProcess, Plane, chat
from tests.support.waiting import wait_for
from tests.support.wire import Broken, get, post

CHAT = "/v1/chat/completions"


@pytest.fixture
def own(make_plane: Callable[..., Plane]) -> Plane:
    return make_plane()


def call(plane: Plane, path: str) -> int:
    with plane.wire() as wire:
        return wire.ask(post(CHAT, plane.owner_key, chat(path))).status


def saved(plane: Plane, text: str) -> None:
    """Wait until the snapshot on disk has `text`."""
    file = plane.paths.feed_snapshot
    wait_for(lambda: file.exists() and text in file.read_text(), "the snapshot to be written")


def test_a_gateway_serves_from_its_snapshot_after_kill_9_and_without_a_control_plane(
    own: Plane,
) -> None:
    path = own.service(own.replica())
    saved(own, path)
    own.control.stop()
    own.gateway.kill()
    own.restart_gateway()
    assert call(own, path) == 200
    with own.wire() as wire:
        assert wire.ask(get("/healthz")).status == 200
        assert wire.ask(get("/readyz")).status == 503
        assert wire.ask(get("/v1/models", "sk-wrong")).status == 401


def test_a_gateway_that_ends_in_order_leaves_what_it_knew_last(own: Plane) -> None:
    path = own.service(own.replica())
    own.gateway.terminate()
    assert own.gateway.wait() == 0
    own.control.stop()
    own.restart_gateway()
    assert call(own, path) == 200


def test_the_snapshot_is_for_this_account_alone_and_holds_no_key(own: Plane) -> None:
    own.service(own.replica(), name="shown")
    saved(own, "shown")
    file = own.paths.feed_snapshot
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert own.owner_key not in file.read_text()
    assert SnapshotFile(file).load() is not None
    assert [found.name for found in file.parent.glob(f"{file.name}*")] == [file.name]


def test_a_damaged_snapshot_is_set_aside(own: Plane) -> None:
    path = own.service(own.replica())
    for content in (b"", b"{", b'{"type": "route_drop"}', b"\0" * 5000):
        own.gateway.kill()
        own.paths.feed_snapshot.write_bytes(content)
        own.restart_gateway()
        own.await_key(own.owner_key)
        assert call(own, path) == 200


def test_what_changed_while_the_feed_was_away_is_heard_when_it_is_back(own: Plane) -> None:
    path, gone = own.service(own.replica()), own.service(own.replica())
    key = own.key()
    own.control.stop()
    # Nothing is lost while it is away.
    assert call(own, path) == 200
    own.control.drop_route("svc_" + gone.partition("/")[2])
    own.control.drop_key(key.removeprefix("sk-secret-of-"))
    assert call(own, gone) == 200
    own.control.start()
    wait_for(lambda: call(own, gone) == 404, "the feed to be heard again", 5)
    with own.wire() as wire:
        assert wire.ask(get("/v1/models", key)).status == 401
    assert call(own, path) == 200


def test_a_stream_goes_on_while_the_control_plane_is_away(own: Plane) -> None:
    replica = own.replica()
    path = own.service(replica)
    with own.wire() as wire:
        wire.send(post(CHAT, own.owner_key, chat(path, do="stream", chunks=2, gated=True)))
        replica.go()
        wire.head()
        wire.chunk()
        own.control.stop()
        own.control.start()
        wait_for(lambda: call(own, path) == 200, "calls to be served")
        replica.go()
        rest = b"".join(iter(wire.chunk, b""))
        assert rest == b'data: {"number": 1}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_its_end_streams_finish_and_nobody_new_comes_in(own: Plane, number: int) -> None:
    replica = own.replica()
    path = own.service(replica)
    with own.wire() as wire, own.wire() as idle:
        assert idle.ask(get("/healthz")).status == 200
        wire.send(post(CHAT, own.owner_key, chat(path, do="stream", chunks=2, gated=True)))
        replica.go()
        wire.head()
        assert wire.chunk() == b'data: {"number": 0}\n\n'
        own.gateway.process.send_signal(number)
        assert idle.ended()
        wait_for(lambda: refused(own.gateway.port), "new connections to be refused", 5)
        assert own.gateway.process.poll() is None
        replica.go()
        assert b"".join(iter(wire.chunk, b"")) == b'data: {"number": 1}\n\ndata: [DONE]\n\n'
        assert wire.ended()
    assert own.gateway.wait(5) == 0


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_at_its_end_a_request_that_was_accepted_is_answered(own: Plane) -> None:
    replica = own.replica()
    path = own.service(replica)
    with own.wire() as wire:
        wire.send(post(CHAT, own.owner_key, chat(path, delay_s=0.5)))
        wait_for(lambda: replica.requests, "the request to arrive")
        own.gateway.terminate()
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.ended()
    assert own.gateway.wait(5) == 0


def test_draining_ends_when_its_time_is_up(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(drain_timeout_s="0.5")
    replica = plane.replica()
    path = plane.service(replica)
    with plane.wire() as wire:
        wire.send(post(CHAT, plane.owner_key, chat(path, do="hang")))
        wait_for(lambda: replica.requests, "the request to arrive")
        plane.gateway.terminate()
        with pytest.raises(Broken):
            wire.answer()
    assert plane.gateway.wait(5) == 0
    wait_for(lambda: replica.seen()["open"] == 0, "the replica to be hung up on")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"port {port} is taken"):
            GatewayProcess(tmp_path, port=str(port))


def test_a_gateway_that_ends_tells_the_last_of_what_it_counted(own: Plane) -> None:
    """However shortly before it was told to."""
    path = own.service(own.replica())
    for _ in range(3):
        assert call(own, path) == 200
    own.gateway.terminate()
    assert own.gateway.wait() == 0
    service_id = "svc_" + path.partition("/")[2]
    told = wait_for(lambda: own.control.reported.get(service_id), "its metrics", 5)
    assert told.requests == {200: 3}


def test_callers_who_come_all_at_once_are_kept_waiting(own: Plane) -> None:
    """Even while the gateway takes none for a moment."""
    pid = own.gateway.process.pid
    os.kill(pid, signal.SIGSTOP)
    with ExitStack() as wires:
        try:
            callers = [wires.enter_context(own.wire(timeout_s=5)) for _ in range(400)]
        finally:
            os.kill(pid, signal.SIGCONT)
        for caller in callers:
            assert caller.ask(get("/healthz")).status == 200


def test_a_gateway_that_started_alone_serves_once_the_control_plane_is_there(own: Plane) -> None:
    own.control.stop()
    own.gateway.kill()
    own.paths.feed_snapshot.unlink(missing_ok=True)
    own.restart_gateway()
    path = own.service(own.replica())
    with own.wire() as wire:
        assert wire.ask(get("/healthz")).status == 200
    assert call(own, path) in (401, 503)
    own.control.start()
    wait_for(lambda: call(own, path) == 200, "the feed to be heard", 5)


def test_a_replica_that_only_the_snapshot_knows_is_waited_for(
    make_plane: Callable[..., Plane],
) -> None:
    """After a restart of everything the replicas of before are gone, and new ones on their way."""
    plane = make_plane(start_wait_s="15")
    before = plane.replica()
    path = plane.service(before, name="kept")
    saved(plane, path)
    plane.control.stop()
    plane.gateway.kill()
    before.kill()
    plane.restart_gateway()
    plane.service(plane.replica(text='"new"'), name="kept")
    with ThreadPoolExecutor() as pool:
        held = pool.submit(call, plane, path)
        with pytest.raises(TimeoutError):
            held.result(0.5)
        plane.control.start()
        assert held.result(10) == 200


def test_a_caller_in_the_middle_of_a_head_does_not_hold_up_the_end(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(drain_timeout_s="15")
    with plane.wire() as wire:
        wire.send(b"GET /heal")
        with plane.wire() as other:
            assert other.ask(get("/healthz")).status == 200
        plane.gateway.terminate()
        assert plane.gateway.wait(8) == 0
