"""Ends in good order: streams finish first, then replicas, then the rest."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

from modelry.errors import ModelryError
from tests.support.calls import ask, begun, finished, streaming
from tests.support.instance import Instance
from tests.support.starts import processes_on
from tests.support.waiting import wait_for

TOKENS = 100


def test_a_stream_finishes_before_everything_ends(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    assert instance.process is not None
    with streaming(instance, key, path, TOKENS) as stream:
        begun(stream)
        instance.process.send_signal(signal.SIGTERM)
        assert finished(stream) == ("length", TOKENS)
        assert instance.process.poll() is None
    assert instance.stop() == 0
    assert instance.engine_pids() == []
    assert processes_on(instance.paths.data) == []
    assert not instance.paths.local_login.exists()
    assert list(instance.paths.replicas.iterdir()) == []


def test_kept_replicas_stay_and_are_adopted(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance().start("--keep-replicas")
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    engine = instance.engine_pids()
    assert len(engine) == 1
    assert instance.stop() == 0
    assert instance.engine_pids() == engine
    assert processes_on(instance.paths.data) == []

    # The next start was not told to keep them.
    instance.start()
    assert ask(instance, key, path)
    assert instance.engine_pids() == engine
    assert instance.stop() == 0
    assert instance.engine_pids() == []


def test_services_that_ran_run_again_and_stopped_ones_stay_stopped(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    instance.deploy("runs")
    instance.deploy("rests")
    assert instance.api("POST", "/services/rests/stop").status_code == 200
    wait_for(lambda: len(instance.engine_pids()) == 1, "the one replica to end")
    assert instance.stop() == 0
    assert instance.engine_pids() == []

    instance.start()
    instance.await_state("runs", "running")
    assert instance.service("rests")["status"]["state"] == "stopped"
    assert len(instance.engine_pids()) == 1


def test_a_stream_of_a_stopped_service_finishes(shared: Instance) -> None:
    others = set(shared.engine_pids())
    path = shared.deploy("stopping")["access_path"]
    (engine,) = set(shared.engine_pids()) - others
    key = shared.key("stopping")
    with streaming(shared, key, path, TOKENS) as stream:
        begun(stream)
        stopped = shared.api("POST", "/services/stopping/stop").json()
        assert stopped["status"]["state"] == "stopped"
        assert engine in shared.engine_pids()
        assert finished(stream) == ("length", TOKENS)
    wait_for(lambda: engine not in shared.engine_pids(), "the replica to end")
    wait_for(
        lambda: shared.service("stopping")["status"]["replicas"] == [], "its end to be noticed"
    )
    shared.api("DELETE", "/services/stopping")


def test_a_stream_of_a_deleted_service_finishes(shared: Instance) -> None:
    others = set(shared.engine_pids())
    path = shared.deploy("leaving")["access_path"]
    (engine,) = set(shared.engine_pids()) - others
    key = shared.key("leaving")
    with streaming(shared, key, path, TOKENS) as stream:
        begun(stream)
        answer = shared.api("DELETE", "/services/leaving")
        assert answer.status_code == 202
        assert answer.json()["status"]["state"] == "deleting"
        assert engine in shared.engine_pids()
        assert finished(stream) == ("length", TOKENS)
    wait_for(lambda: engine not in shared.engine_pids(), "the replica to end")
    wait_for(
        lambda: shared.api("GET", "/services/leaving").status_code == 404,
        "the service to be gone",
    )


def test_replicas_end_too_where_the_control_plane_is_down_at_the_end(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    instance.deploy("demo")
    assert len(instance.engine_pids()) == 1
    assert instance.process is not None
    os.kill(instance.pid_of("control"), signal.SIGKILL)
    instance.process.send_signal(signal.SIGTERM)
    assert instance.stop() == 0
    assert instance.engine_pids() == []
    assert processes_on(instance.paths.data) == []


def test_a_log_that_is_followed_does_not_hold_up_the_end(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    instance.deploy("demo")
    with instance.client() as client:
        lines = client.lines("/services/demo/logs", follow=True)
        assert next(lines)
        begun_at = time.monotonic()
        assert instance.stop() == 0
        assert time.monotonic() - begun_at < 30
        with contextlib.suppress(ModelryError):
            list(lines)


def test_a_start_can_be_broken_off(make_instance: Callable[..., Instance]) -> None:
    """A database that never answers must not keep ^C from being heard."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        instance = make_instance(MODELRY_DATABASE_URL=f"postgresql://u:p@127.0.0.1:{port}/x")
        process = instance.spawn()
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        assert processes_on(instance.paths.data) == []


def test_a_start_that_is_broken_off_leaves_no_engine(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    instance.deploy("demo")
    assert instance.stop() == 0
    process = instance.spawn()
    wait_for(instance.engine_pids, "the engine to be started", pause_s=0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in (0, 130)
    assert instance.engine_pids() == []
    assert processes_on(instance.paths.data) == []
