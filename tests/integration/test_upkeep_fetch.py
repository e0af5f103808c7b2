"""Weights that are fetched for a person, before any service needs them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.integration.conftest import KeptConnection
from tests.integration.test_api import error_of
from tests.support.file_server import Fault
from tests.support.hub import Hub
from tests.support.instance import ADMIN_TOKEN, Instance, running
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors

HALF = 3_000_000


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    served = Hub()
    for seed, name in enumerate(("one", "two", "three", "four", "five", "six", "seven")):
        served.add(f"org/{name}", {f"{name}.gguf": gguf(2 * HALF, seed)})
    served.add("org/whole", {"model.safetensors": safetensors(5000), "config.json": b"{}"})
    yield served
    served.close()


@pytest.fixture(scope="module")
def instance(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("upkeep") / "data"
    made = KeptConnection(data_dir, MODELRY_HF_ENDPOINT=hub.url)
    with made.http, running(made):
        yield made


@pytest.fixture
def gate(hub: Hub) -> Iterator[threading.Event]:
    """Every file stops half-way until it is opened."""
    opened = threading.Event()
    hub.always = Fault(gate=opened)
    yield opened
    opened.set()
    hub.always = None


def register(instance: Instance, name: str) -> None:
    body = {"name": name, "source": f"hf://org/{name}"}
    assert instance.api("POST", "/models", json=body).status_code == 201


def variant(instance: Instance, name: str) -> dict[str, Any]:
    (only,) = instance.api("GET", f"/models/{name}").json()["variants"]
    return dict(only)


def await_weights(instance: Instance, name: str, state: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen = variant(instance, name)
        return seen if seen["weights"] == state else None

    return wait_for(look, f"the weights of {name} to be {state}")


def await_half(instance: Instance, name: str) -> None:
    def look() -> bool:
        progress = variant(instance, name)["progress"]
        return progress is not None and progress["done_bytes"] >= HALF // 2

    wait_for(look, f"half of {name}")


def test_weights_come_without_a_service(instance: Instance) -> None:
    register(instance, "whole")
    answer = instance.api("POST", "/models/whole/fetch")
    assert answer.status_code == 202
    assert answer.json()["name"] == "whole"
    here = await_weights(instance, "whole", "here")
    assert (here["progress"], here["message"]) == (None, None)
    again = instance.api("POST", "/models/whole/fetch", json={"variant": "default"})
    assert again.json()["variants"][0]["weights"] == "here"


def test_a_fetch_that_nobody_but_a_person_wants_is_kept(
    instance: Instance, gate: threading.Event
) -> None:
    register(instance, "one")
    instance.api("POST", "/models/one/fetch")
    await_half(instance, "one")
    # Each change of a service makes the reconciler look at what is wanted.
    for _ in range(3):
        body = {"name": "elsewhere", "endpoint": {"url": "http://127.0.0.1:9/v1"}}
        assert instance.api("POST", "/services", json=body).status_code == 201
        assert instance.api("DELETE", "/services/elsewhere").status_code == 202
        wait_for(
            lambda: instance.api("GET", "/services/elsewhere").status_code == 404, "it to be gone"
        )
    assert variant(instance, "one")["progress"]["total_bytes"] == 2 * HALF
    gate.set()
    await_weights(instance, "one", "here")


def test_a_fetch_that_is_stopped_goes_on_from_there(
    instance: Instance, hub: Hub, gate: threading.Event
) -> None:
    register(instance, "two")
    instance.api("POST", "/models/two/fetch")
    await_half(instance, "two")
    threading.Timer(0.3, gate.set).start()
    stopped = instance.api("DELETE", "/models/two/fetch")
    assert stopped.status_code == 200
    assert stopped.json()["variants"][0]["weights"] == "absent"
    hub.always = None
    instance.api("POST", "/models/two/fetch")
    await_weights(instance, "two", "here")
    assert hub.requests[-1].range is not None


def test_what_a_service_waits_for_is_not_stopped_by_hand(
    instance: Instance, gate: threading.Event
) -> None:
    register(instance, "three")
    instance.api("POST", "/services", json={"name": "waiting", "model": "three"})
    await_half(instance, "three")
    refused = instance.api("DELETE", "/models/three/fetch")
    assert refused.status_code == 409
    assert error_of(refused)["code"] == "weights_wanted"
    assert "service waiting waits" in error_of(refused)["message"]
    assert instance.api("DELETE", "/services/waiting").status_code == 202
    gate.set()


def test_a_failure_is_told_and_the_next_wish_tries_again(instance: Instance, hub: Hub) -> None:
    register(instance, "four")
    hub.always = Fault(status=403)
    instance.api("POST", "/models/four/fetch")
    failed = await_weights(instance, "four", "failed")
    assert "403" in failed["message"]
    done = instance.cli("models", "fetch", "four")
    assert done.returncode == 1
    assert "403" in done.stderr
    hub.always = None
    instance.api("POST", "/models/four/fetch")
    await_weights(instance, "four", "here")


def test_a_variant_that_is_not_there_is_refused(instance: Instance) -> None:
    register(instance, "five")
    for method in ("POST", "DELETE"):
        where = {"json": {"variant": "q2"}} if method == "POST" else {"params": {"variant": "q2"}}
        refused = instance.api(method, "/models/five/fetch", **where)
        assert refused.status_code == 404
        assert error_of(refused)["hint"] == "it has default"
    assert instance.api("POST", "/models/none/fetch").status_code == 404


def test_a_command_fetches_what_a_source_names(instance: Instance) -> None:
    begun = instance.cli("models", "fetch", "hf://org/five", "--no-wait")
    assert (begun.returncode, begun.stdout) == (0, "five is on its way\n")
    done = instance.cli("models", "fetch", "hf://org/five")
    assert (done.returncode, done.stdout) == (0, "five is here, 6.0 MB\n"), done.stderr


@pytest.mark.parametrize(("name", "its_own"), [("six", True), ("seven", False)])
def test_an_interrupt_stops_only_what_the_command_began(
    instance: Instance, gate: threading.Event, name: str, its_own: bool
) -> None:
    register(instance, name)
    if not its_own:
        instance.api("POST", f"/models/{name}/fetch")
        await_half(instance, name)
    command = [sys.executable, "-m", "modelry", "models", "fetch", name]
    settings = {"MODELRY_URL": instance.url, "MODELRY_TOKEN": ADMIN_TOKEN}
    with subprocess.Popen(
        command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True
    ) as waiting:
        if its_own:
            await_half(instance, name)
        process = psutil.Process(waiting.pid)
        wait_for(lambda: bool(process.net_connections()), "the command to talk to Modelry")
        waiting.send_signal(signal.SIGINT)
        threading.Timer(0.5, gate.set).start()
        _, told = waiting.communicate(timeout=30)
        assert waiting.returncode == 130
    assert ("stopped" in told) is its_own
    await_weights(instance, name, "absent" if its_own else "here")
