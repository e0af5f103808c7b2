"""Two hundred adapters on one base: what they cost while nobody calls, and how fast one wakes."""

import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.adapter_files import ADAPTERS, WORDS
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

COUNT = 200
QUESTION = "What is the code word?"


def test_two_hundred_adapters_are_each_called_once(
    make_slow_instance: Callable[[], Instance], tmp_path: Path
) -> None:
    instance = make_slow_instance().start()
    instance.deploy("base", slots=1, context_tokens=2048)
    key = instance.key()
    (base_pid,) = instance.engine_pids()
    empty = held_bytes(instance)
    names = list(WORDS)
    with instance.client() as client:
        for number in range(COUNT):
            name = f"adapter-{number}"
            folder = variant_of(ADAPTERS / names[number % len(names)], tmp_path / name, number)
            client.post("/models", {"name": name, "source": folder.as_uri()})
            body = {"name": name, "model": MODEL, "adapter": name, "idle_after_s": 1.0}
            client.post("/services", {**body, "slots": 1, "context_tokens": 2048})

        def all_idle() -> bool:
            services = client.list("/services")
            states = [each["status"]["state"] for each in services if each["name"] != "base"]
            assert "failed" not in states
            return states == ["idle"] * COUNT

        wait_for(all_idle, "every adapter to be converted", 600, 1.0)
    assert instance.engine_pids() == [base_pid], "an adapter that nobody calls has no process"
    registered = held_bytes(instance)

    wakes = []
    for number in range(COUNT):
        started = time.monotonic()
        with instance.openai(key, timeout=60) as caller:
            answer = caller.chat.completions.create(
                model=f"adapter-{number}",
                messages=[{"role": "user", "content": QUESTION}],
                max_tokens=16,
                temperature=0,
            )
        wakes.append(time.monotonic() - started)
        said = answer.choices[0].message.content or ""
        assert WORDS[names[number % len(names)]] in said, (number, said)
    wait_for(lambda: instance.engine_pids() == [base_pid], "all to be idle again", 120, 0.5)
    print(
        f"{COUNT} adapters: all processes hold {empty / 1e6:.0f} MB before they are registered, "
        f"{registered / 1e6:.0f} MB with all of them idle, {held_bytes(instance) / 1e6:.0f} MB "
        f"after each was called once; a wake and its answer take "
        f"{statistics.median(wakes):.2f} s, {max(wakes):.2f} s at most"
    )
    # What an idle one costs are rows and a route: far less than the least of replicas.
    assert registered - empty < COUNT * 1_000_000


def variant_of(adapter: Path, folder: Path, number: int) -> Path:
    """The same weights in another folder, with a digest of its own."""
    shutil.copytree(adapter, folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "revision": str(number)}))
    return folder


def held_bytes(instance: Instance) -> int:
    """Proportional to what is shared, of everything that runs on this data directory."""
    assert instance.process is not None
    family = [psutil.Process(instance.process.pid)]
    family += family[0].children(recursive=True)
    pids = {process.pid for process in family} | set(instance.engine_pids())
    return sum(int(psutil.Process(pid).memory_full_info().pss) for pid in pids)
