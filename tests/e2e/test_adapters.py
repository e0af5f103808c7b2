"""LoRA adapters as services of their own, beside their base, which hardly notices."""

import hashlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from modelry.client import Json
from tests.support.adapter_files import ADAPTERS, WORDS, peft
from tests.support.instance import ADMIN_PASSWORD, MODEL, Instance, running, share_weights
from tests.support.waiting import wait_for

QUESTION = "What is the code word?"


@pytest.fixture(scope="module")
def instance(weights_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data_dir = tmp_path_factory.mktemp("adapters") / "data"
    share_weights(weights_cache, data_dir)
    with running(Instance(data_dir)) as started:
        started.deploy("base")
        for name in WORDS:
            source = (ADAPTERS / name).as_uri()
            assert register(started, name, source).get("id")
        yield started


@pytest.fixture(scope="module")
def key(instance: Instance) -> str:
    return instance.key()


def register(instance: Instance, name: str, source: str) -> Json:
    found: Json = instance.api("POST", "/models", json={"name": name, "source": source}).json()
    return found


def deploy(instance: Instance, adapter: str, name: str | None = None, **spec: object) -> Json:
    body = {"name": name or adapter, "model": MODEL, "adapter": adapter, **spec}
    made = instance.api("POST", "/services", json=body)
    assert made.status_code == 201, made.text
    return instance.await_state(name or adapter, "idle")


def say(instance: Instance, key: str, service: str, question: str = QUESTION) -> str:
    with instance.openai(key, timeout=60) as client:
        answer = client.chat.completions.create(
            model=service,
            messages=[{"role": "user", "content": question}],
            max_tokens=24,
            temperature=0,
        )
    return answer.choices[0].message.content or ""


def test_an_adapter_waits_for_its_first_call_without_a_process(
    instance: Instance, key: str
) -> None:
    before = instance.engine_pids()
    service = deploy(instance, "amber")
    assert (service["model"], service["spec"]["adapter_name"]) == (MODEL, "amber")
    assert service["spec"]["idle_after_s"] == 300
    assert instance.engine_pids() == before
    assert WORDS["amber"] in say(instance, key, "amber")
    assert set(before) < set(instance.engine_pids())


def test_adapters_and_their_base_answer_at_once_each_as_it_was_trained(
    instance: Instance, key: str
) -> None:
    (base_pid,) = [
        pid for pid in instance.engine_pids() if pid not in adapter_pids(instance, "amber")
    ]
    for name in ("basalt", "cobalt"):
        deploy(instance, name)
    callers = [*WORDS, "base"] * 3
    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda name: (name, say(instance, key, name)), callers))
    for name, answer in answers:
        if name == "base":
            assert not any(word in answer for word in WORDS.values()), answer
        else:
            assert WORDS[name] in answer, (name, answer)
    assert base_pid in instance.engine_pids()
    base = instance.service("base")
    assert base["status"]["state"] == "running"
    assert len(base["status"]["replicas"]) == 1


def adapter_pids(instance: Instance, name: str) -> list[int]:
    ids = {replica["id"] for replica in instance.service(name)["status"]["replicas"]}
    return [pid for pid in instance.engine_pids() if ids & set(psutil.Process(pid).cmdline())]


def test_an_adapter_nobody_calls_gives_its_memory_back(instance: Instance, key: str) -> None:
    deploy(instance, "amber", "brief", idle_after_s=1)
    assert WORDS["amber"] in say(instance, key, "brief")
    assert adapter_pids(instance, "brief")
    instance.await_state("brief", "idle", 20)
    gone = "its process to end"
    wait_for(lambda: not adapter_pids(instance, "brief"), gone, 20)
    # And again: what was converted is still there.
    assert WORDS["amber"] in say(instance, key, "brief")


def test_what_a_service_runs_is_on_its_page(instance: Instance) -> None:
    parts = {part["what"]: part for part in instance.service("amber")["weights"]}
    assert set(parts) == {"model", "adapter", "adapter conversion"}
    model = instance.api("GET", f"/models/{MODEL}").json()["variants"][0]
    assert parts["model"]["sha256"] == model["sha256"]
    adapter = instance.api("GET", "/models/amber").json()["variants"][0]
    assert parts["adapter"]["sha256"] == adapter["sha256"]
    made = parts["adapter conversion"]["sha256"]
    (converted,) = [
        file
        for file in (instance.paths.weights / "derived").glob("*")
        if file.suffix != ".json" and hashlib.sha256(file.read_bytes()).hexdigest() == made
    ]
    assert converted.stat().st_size == parts["adapter conversion"]["size_bytes"]
    with httpx2.Client(base_url=instance.url, follow_redirects=True) as browser:
        login = {"name": "admin", "password": ADMIN_PASSWORD}
        assert browser.post("/login", data=login).status_code == 200
        page = browser.get("/services/amber").text
    for part in parts.values():
        assert part["sha256"] in page


def test_a_conversion_is_kept(instance: Instance) -> None:
    made = sorted((instance.paths.weights / "derived").glob("*"))
    times = [file.stat().st_mtime_ns for file in made]
    assert len(made) == 2 * len(WORDS)
    deploy(instance, "amber", "once-more")
    again = sorted((instance.paths.weights / "derived").glob("*"))
    assert (again, [file.stat().st_mtime_ns for file in again]) == (made, times)


def test_one_that_stays_runs_from_the_start(instance: Instance, key: str) -> None:
    body = {"name": "stays", "model": MODEL, "adapter": "basalt", "idle_after_s": None}
    assert instance.api("POST", "/services", json=body).status_code == 201
    service = instance.await_state("stays", "running")
    assert service["spec"]["idle_after_s"] is None
    assert WORDS["basalt"] in say(instance, key, "stays")


def test_an_adapter_of_another_base_is_refused_before_anything_starts(
    instance: Instance, key: str, tmp_path: Path
) -> None:
    running_before = instance.engine_pids()
    register(instance, "stranger", peft(tmp_path / "stranger").as_uri())
    body = {"name": "stranger", "model": MODEL, "adapter": "stranger"}
    assert instance.api("POST", "/services", json=body).status_code == 201
    service = instance.await_state("stranger", "failed")
    message = service["status"]["message"]
    assert message.startswith("its adapter does not fit: "), message
    assert "attn_q" in message or "q_proj" in message
    assert service["status"]["replicas"] == []
    assert instance.engine_pids() == running_before
    assert say(instance, key, "base")


def test_what_is_no_adapter_is_refused_with_the_reason(instance: Instance) -> None:
    def refused(**body: str) -> Json:
        answer = instance.api("POST", "/services", json={"name": "no", **body})
        assert answer.status_code in (404, 422), answer.text
        error: Json = answer.json()["error"]
        return error

    unknown = refused(model=MODEL, adapter="nobody")
    assert (unknown["code"], unknown["param"]) == ("model_not_found", "adapter")
    alone = refused(model="amber")
    assert alone["hint"] == "modelry deploy BASE --adapter amber"
    # A whole model is no adapter: found out by its header.
    body = {"name": "whole", "model": MODEL, "adapter": MODEL}
    assert instance.api("POST", "/services", json=body).status_code == 201
    message = instance.await_state("whole", "failed")["status"]["message"]
    assert "adapter" in message


def test_a_command_that_is_refused_leaves_no_model(instance: Instance, tmp_path: Path) -> None:
    folder = peft(tmp_path / "incomplete")
    (folder / "adapter_config.json").unlink()
    done = instance.cli("deploy", MODEL, "--adapter", folder.as_uri())
    assert done.returncode == 1
    assert "adapter_config.json beside" in done.stderr
    assert instance.api("GET", "/models/incomplete").status_code == 404


def test_an_adapter_is_deployed_by_one_command(instance: Instance, key: str) -> None:
    source = (ADAPTERS / "cobalt").as_uri()
    done = instance.cli("deploy", MODEL, "--adapter", source, "--name", "by-command")
    assert done.returncode == 0, done.stderr
    assert WORDS["cobalt"] in say(instance, key, "by-command")
    shown = instance.cli("show", "by-command")
    assert "adapter" in shown.stdout
    assert "cobalt" in shown.stdout


def test_adapters_survive_a_control_plane_that_is_killed(instance: Instance, key: str) -> None:
    before = set(adapter_pids(instance, "stays"))
    os.kill(instance.pid_of("control"), signal.SIGKILL)
    assert WORDS["basalt"] in say(instance, key, "stays")
    back = "the control plane to be back"
    wait_for(lambda: instance.api("GET", "/services/stays").status_code == 200, back, 30)
    assert set(adapter_pids(instance, "stays")) == before
