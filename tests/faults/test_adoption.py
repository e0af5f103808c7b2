"""What a start does with engine processes that it finds."""

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import psutil

from tests.support.calls import ask, await_serving
from tests.support.engines import only_replica, record_file
from tests.support.instance import Instance
from tests.support.starts import processes_on
from tests.support.waiting import wait_for


def test_a_process_with_another_secret_is_not_adopted(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    (engine,) = instance.engine_pids()
    record = record_file(instance, only_replica(instance, "demo"))
    stranger = psutil.Process(engine)
    instance.kill()
    try:
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "secret": "0" * 48}))

        instance.start()
        await_serving(instance, key, path)
        (replica,) = [
            replica
            for replica in instance.service("demo")["status"]["replicas"]
            if replica["state"] == "ready"
        ]
        assert replica["id"] != content["replica_id"]
        # It knows another secret, so it is somebody else's and is let be.
        assert stranger.is_running()
        assert stranger.status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()


def test_a_process_whose_pid_has_a_new_owner_is_not_touched(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    (engine,) = instance.engine_pids()
    record = record_file(instance, only_replica(instance, "demo"))
    instance.kill()
    psutil.Process(engine).kill()
    wait_for(lambda: not instance.engine_pids(), "the engine to end")
    bystander = psutil.Popen(["sleep", "600"], start_new_session=True)
    try:
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "pid": bystander.pid}))
        instance.start()
        await_serving(instance, key, path)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_engine_that_no_service_has_is_stopped(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance().start()
    kept = instance.deploy("kept")["access_path"]
    (wanted,) = instance.engine_pids()
    instance.deploy("forgotten")
    (unwanted,) = set(instance.engine_pids()) - {wanted}
    key = instance.key()
    instance.kill()
    wait_for(lambda: not processes_on(instance.paths.data), "the control plane to go")
    with closing(sqlite3.connect(instance.paths.database)) as database, database:
        database.execute("pragma foreign_keys=on")
        assert database.execute("delete from services where name='forgotten'").rowcount == 1

    instance.start()
    wait_for(lambda: unwanted not in instance.engine_pids(), "the unwanted engine to end")
    assert instance.engine_pids() == [wanted]
    assert ask(instance, key, kept)
    assert instance.api("GET", "/services/forgotten").status_code == 404
    wait_for(lambda: len(list(instance.paths.replicas.iterdir())) == 1, "its folder to be removed")


def test_a_process_that_ended_meanwhile_is_replaced(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start("--keep-replicas")
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    (engine,) = instance.engine_pids()
    assert instance.stop() == 0
    psutil.Process(engine).send_signal(signal.SIGKILL)
    wait_for(lambda: not instance.engine_pids(), "the engine to end")

    instance.start()
    await_serving(instance, key, path)
    (successor,) = instance.engine_pids()
    assert successor != engine
