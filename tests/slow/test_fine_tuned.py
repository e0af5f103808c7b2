"""A fine-tuned model as people bring it, on both engines, and adapters on the replicas of vLLM."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from modelry.client import Json
from tests.support.adapter_files import ADAPTERS, WORDS, peft
from tests.support.instance import Instance
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

QUESTION = "What is the code word?"
WORD = "harbour"
START_S = 900.0


@pytest.fixture(scope="module")
def instance(make_slow_instance: Callable[[], Instance], fine_tuned: Path) -> Instance:
    started = make_slow_instance().start()
    with started.client() as client:
        client.post("/models", {"name": "tuned", "source": fine_tuned.as_uri()})
        for name in WORDS:
            client.post("/models", {"name": name, "source": (ADAPTERS / name).as_uri()})
    return started


@pytest.fixture(scope="module")
def key(instance: Instance) -> str:
    return instance.key()


@pytest.fixture(scope="module")
def on_vllm(instance: Instance) -> Json:
    return deployed(instance, "on-vllm", engine="vllm", context_tokens=2048)


def deployed(instance: Instance, name: str, **spec: object) -> Json:
    started = time.monotonic()
    made = instance.api("POST", "/services", json={"name": name, "model": "tuned", **spec})
    assert made.status_code == 201, made.text

    def over() -> Json | None:
        service = instance.service(name)
        return service if service["status"]["state"] in ("running", "failed") else None

    service = wait_for(over, f"{name} to run", START_S, 0.5)
    assert service["status"]["state"] == "running", service["status"]
    print(f"{name} ran after {time.monotonic() - started:.0f} s")
    return service


def say(instance: Instance, key: str, service: str, question: str = QUESTION) -> str:
    with instance.openai(key, timeout=120) as client:
        answer = client.chat.completions.create(
            model=service,
            messages=[{"role": "user", "content": question}],
            max_tokens=24,
            temperature=0,
        )
    assert answer.model == instance.service(service)["access_path"]
    return answer.choices[0].message.content or ""


def test_it_answers_as_trained_on_llama_cpp_after_a_conversion(
    instance: Instance, key: str
) -> None:
    service = deployed(instance, "on-llama")
    spec = service["spec"]
    assert (spec["engine"], spec["gguf_converter"]) == ("llama.cpp", "gguf-converter-0.1.1-cpu")
    assert WORD in say(instance, key, "on-llama")
    events = instance.api("GET", "/services/on-llama/events?limit=100").json()["data"]
    assert any(event["message"] == "converting its weights to GGUF" for event in events)


def test_it_is_smaller_in_eight_bits_and_says_the_same(instance: Instance, key: str) -> None:
    deployed(instance, "in-eight", quantisation="Q8_0")
    assert WORD in say(instance, key, "in-eight")
    sizes = sorted(
        file.stat().st_size
        for file in (instance.paths.weights / "derived").glob("*")
        if file.suffix != ".json"
    )
    assert len(sizes) == 2
    assert sizes[0] < 0.6 * sizes[1]


def test_it_answers_as_trained_on_vllm(instance: Instance, key: str, on_vllm: Json) -> None:
    assert on_vllm["spec"]["runtime"] == "vllm-0.32.0-cpu"
    assert WORD in say(instance, key, "on-vllm")
    with instance.openai(key, timeout=120) as client:
        stream = client.chat.completions.create(
            model=on_vllm["access_path"],
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert WORD in text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    (pid,) = replica_pids(instance, on_vllm)
    command = psutil.Process(pid).cmdline()
    assert not [part for part in command if "sk-" in part or len(part) == 48]
    print(f"vLLM holds {family_bytes(pid) / 1e9:.2f} GB")


def test_adapters_go_to_the_replicas_of_their_base_which_runs_on(
    instance: Instance, key: str, on_vllm: Json
) -> None:
    before = replica_pids(instance, on_vllm)
    for name in WORDS:
        body = {"name": name, "model": "tuned", "adapter": name}
        made = instance.api("POST", "/services", json=body)
        assert made.status_code == 201, made.text
        started = time.monotonic()
        service = instance.await_state(name, "running", 60)
        print(f"{name} was there after {time.monotonic() - started:.2f} s")
        assert service["spec"]["host"] == on_vllm["id"]
        assert service["status"]["replicas"] == []
    callers = [*WORDS, "on-vllm"]
    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda name: (name, say(instance, key, name)), callers))
    for name, answer in answers:
        assert WORDS.get(name, WORD) in answer, (name, answer)
    assert replica_pids(instance, on_vllm) == before


def test_an_adapter_of_another_base_is_refused(
    instance: Instance, key: str, on_vllm: Json, tmp_path: Path
) -> None:
    model = {"name": "odd", "source": peft(tmp_path / "stranger").as_uri()}
    assert instance.api("POST", "/models", json=model).status_code == 201
    body = {"name": "odd", "model": "tuned", "adapter": "odd"}
    assert instance.api("POST", "/services", json=body).status_code == 201
    message = instance.await_state("odd", "failed")["status"]["message"]
    assert message.startswith("its adapter does not fit: "), message
    assert instance.api("DELETE", "/services/odd").status_code == 202
    assert WORD in say(instance, key, "on-vllm")


def test_a_base_with_adapters_is_not_deleted_under_them(instance: Instance, on_vllm: Json) -> None:
    refused = instance.api("DELETE", "/services/on-vllm")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "service_has_adapters"
    in_use = instance.api("DELETE", "/engines/vllm-0.32.0-cpu")
    assert in_use.status_code == 409
    assert in_use.json()["error"]["code"] == "runtime_in_use"


def test_what_runs_is_adopted_with_its_adapters(
    instance: Instance, key: str, on_vllm: Json
) -> None:
    before = replica_pids(instance, on_vllm)
    instance.kill()
    instance.start()
    for name in WORDS:
        instance.await_state(name, "running", 60)
        assert WORDS[name] in say(instance, key, name)
    assert replica_pids(instance, on_vllm) == before


def test_an_adapter_that_is_deleted_leaves_its_base(
    instance: Instance, key: str, on_vllm: Json
) -> None:
    for name in WORDS:
        assert instance.api("DELETE", f"/services/{name}").status_code == 202
    for name in WORDS:
        await_gone(instance, name)
    assert WORD in say(instance, key, "on-vllm")


def test_requests_in_flight_finish_when_it_is_stopped(
    instance: Instance, key: str, on_vllm: Json
) -> None:
    (pid,) = replica_pids(instance, on_vllm)
    with instance.openai(key, timeout=120) as client:
        stream = client.chat.completions.create(
            model=on_vllm["access_path"],
            messages=[{"role": "user", "content": "Tell me a long story."}],
            max_tokens=60,
            extra_body={"ignore_eos": True},
            stream=True,
        )
        first = next(iter(stream))
        assert first.choices
        assert instance.api("POST", "/services/on-vllm/stop").status_code == 200
        rest = list(stream)
    assert rest[-1].choices[0].finish_reason == "length"
    wait_for(lambda: not psutil.pid_exists(pid), "vLLM to end", 90)


def await_gone(instance: Instance, name: str) -> None:
    path = f"/services/{name}"
    wait_for(lambda: instance.api("GET", path).status_code == 404, f"{name} to be gone")


def replica_pids(instance: Instance, service: Json) -> list[int]:
    ids = {each["id"] for each in instance.service(service["name"])["status"]["replicas"]}
    return [pid for pid in instance.engine_pids() if ids & set(psutil.Process(pid).cmdline())]


def family_bytes(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(int(each.memory_info().rss) for each in [process, *process.children(recursive=True)])
