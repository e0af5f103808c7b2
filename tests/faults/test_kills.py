"""kill -9 of one part after another: what is left goes on, what is gone comes back."""

import os
import signal
from collections.abc import Callable

import psutil

from modelry.client import Json
from tests.support.calls import ask, await_serving, steady_calls
from tests.support.instance import Instance
from tests.support.waiting import wait_for


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def await_end(*pids: int) -> None:
    def gone() -> bool:
        return not [pid for pid in pids if runs(pid)]

    wait_for(gone, f"the end of {pids}")


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def events(instance: Instance, name: str) -> list[Json]:
    return list(instance.api("GET", f"/services/{name}/events").json()["data"])


def test_a_service_survives_one_kill_of_its_engine_after_another(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    assert ask(instance, key, path)
    killed: list[int] = []
    for _ in range(3):
        (pid,) = instance.engine_pids()
        assert pid not in killed
        kill(pid)
        killed.append(pid)
        await_serving(instance, key, path)

    service = instance.await_state("demo", "running")
    assert [replica["state"] for replica in service["status"]["replicas"]] == ["ready"]
    failures = [event for event in events(instance, "demo") if event["state"] == "failed"]
    assert len(failures) == 3
    assert len({event["replica"] for event in failures}) == 3
    assert all("killed" in event["message"] for event in failures)
    again = [event["message"] for event in events(instance, "demo") if "again" in event["message"]]
    assert again


def test_a_call_during_the_restart_of_an_engine_waits_for_it(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    (pid,) = instance.engine_pids()
    kill(pid)
    instance.await_state("demo", "starting")
    assert ask(instance, key, path)
    assert instance.service("demo")["status"]["state"] == "running"


def test_a_killed_gateway_comes_back_and_the_rest_never_notices(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    engine, gateway, control = (
        instance.engine_pids(),
        instance.pid_of("gateway"),
        instance.pid_of("control"),
    )
    kill(gateway)
    await_end(gateway)
    # On the same port, for callers know no other.
    await_serving(instance, key, path)
    assert instance.pid_of("gateway") != gateway
    assert instance.pid_of("control") == control
    assert instance.engine_pids() == engine
    # It hears of changes again.
    assert ask(instance, instance.key("later"), path)


def test_no_call_fails_while_the_control_plane_is_killed_and_comes_back(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    engine, control = instance.engine_pids(), instance.pid_of("control")
    with steady_calls(instance, key, path) as traffic:
        kill(control)
        await_end(control)
        before = traffic.answered
        wait_for(lambda: back(instance), "the control plane to be back")
        wait_for(lambda: traffic.answered > before + 3, "calls after the kill")
    assert traffic.failed == []
    assert instance.pid_of("control") != control
    assert instance.engine_pids() == engine
    service = instance.service("demo")
    assert service["status"]["state"] == "running"
    assert [replica["state"] for replica in service["status"]["replicas"]] == ["ready"]
    # It publishes to the gateway that stayed.
    assert ask(instance, instance.key("later"), path)


def test_a_change_is_carried_through_a_kill_of_the_control_plane_and_no_call_fails(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo", slots=2)["access_path"]
    key = instance.key()
    control = instance.pid_of("control")
    with steady_calls(instance, key, path) as traffic:
        with instance.client() as client:
            client.patch("/services/demo", {"slots": 4})
        kill(control)
        await_end(control)
        wait_for(lambda: back(instance), "the control plane to be back")

        def taken_over() -> bool:
            replicas = instance.service("demo")["status"]["replicas"]
            return [(each["revision"], each["state"]) for each in replicas] == [(2, "ready")]

        wait_for(taken_over, "the new revision to serve", 90)
    assert traffic.failed == []
    wait_for(lambda: len(instance.engine_pids()) == 1, "the old replica to end")


def back(instance: Instance) -> bool:
    return instance.api("GET", "/services/demo").status_code == 200


def test_a_killed_up_takes_its_parts_along_and_leaves_the_replica_to_the_next(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    engine = instance.engine_pids()
    parts = instance.pid_of("gateway"), instance.pid_of("control")
    instance.kill()
    await_end(*parts)
    assert instance.engine_pids() == engine

    instance.start()
    assert ask(instance, key, path)
    assert instance.engine_pids() == engine
    service = instance.service("demo")
    assert service["status"]["state"] == "running"
    assert not [event for event in events(instance, "demo") if event["state"] == "failed"]


def test_everything_killed_at_once_comes_back_with_the_next_start(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance().start()
    path = instance.deploy("demo")["access_path"]
    key = instance.key()
    assert instance.process is not None
    (engine,) = instance.engine_pids()
    parts = instance.pid_of("gateway"), instance.pid_of("control"), engine
    for pid in (instance.process.pid, *parts):
        kill(pid)
    instance.kill()
    await_end(*parts)
    assert instance.engine_pids() == []

    instance.start()
    await_serving(instance, key, path)
    (successor,) = instance.engine_pids()
    assert successor != engine
    (failure,) = [event for event in events(instance, "demo") if event["state"] == "failed"]
    assert "nobody watched" in failure["message"]
