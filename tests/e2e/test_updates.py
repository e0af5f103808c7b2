"""A service that is changed under load: not one request fails."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modelry.client import Json
from tests.support.calls import ask, finished, steady_calls, streaming
from tests.support.instance import MODEL, Instance
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf

TOKENS = 40


@pytest.fixture(scope="module")
def busy(shared: Instance) -> Iterator[str]:
    """The access path of a service that is there to be changed."""
    yield str(shared.deploy("busy", slots=2, context_tokens=512)["access_path"])
    shared.api("DELETE", "/services/busy")
    gone = "the service to be gone"
    wait_for(lambda: shared.api("GET", "/services/busy").status_code == 404, gone)


@contextmanager
def steady_streams(instance: Instance, key: str, model: str) -> Iterator[list[object]]:
    """Streams one after another, to the block's end; what became of each."""
    ends: list[object] = []
    stop = threading.Event()

    def stream_on() -> None:
        while not stop.is_set():
            try:
                with streaming(instance, key, model, TOKENS) as stream:
                    ends.append(finished(stream))
            except Exception as error:
                ends.append(repr(error))

    threads = [threading.Thread(target=stream_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: ends, "the first stream", 60)
        yield ends
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def change(shared: Instance, **fields: object) -> Json:
    with shared.client() as client:
        return client.patch("/services/busy", fields)


def settled(shared: Instance, revision: int) -> Json:
    """The service once that revision alone serves."""

    def look() -> Json | None:
        service = shared.service("busy")
        replicas = service["status"]["replicas"]
        over = service["status"]["state"] == "running" and replicas
        return service if over and {each["revision"] for each in replicas} == {revision} else None

    return wait_for(look, f"revision {revision} to serve", 90)


def test_slots_and_context_change_under_load_and_no_request_fails(
    shared: Instance, demo_key: str, busy: str
) -> None:
    with (
        steady_calls(shared, demo_key, busy) as traffic,
        steady_streams(shared, demo_key, busy) as ends,
    ):
        for slots, context_tokens in ((4, 1024), (1, 256), (2, 512)):
            before = shared.service("busy")
            changed = change(shared, slots=slots, context_tokens=context_tokens)
            assert changed["revision"] == before["revision"] + 1
            assert changed["status"]["state"] in ("updating", "running")
            answered, streamed = traffic.answered, len(ends)
            now = settled(shared, changed["revision"])
            assert (now["spec"]["slots"], now["spec"]["context_tokens"]) == (slots, context_tokens)

            def went_on(answered: int = answered, streamed: int = streamed) -> bool:
                return traffic.answered > answered + 2 and len(ends) > streamed + 1

            wait_for(went_on, "calls and streams to go on", 60)
    assert traffic.failed == []
    assert {*ends} == {("length", TOKENS)}


def test_a_change_that_is_taken_back_and_two_in_a_row_drop_nothing(
    shared: Instance, demo_key: str, busy: str
) -> None:
    first = settled(shared, shared.service("busy")["revision"])
    (serving,) = (each["id"] for each in first["status"]["replicas"])
    with steady_calls(shared, demo_key, busy) as traffic:
        change(shared, slots=3)
        back = change(shared, slots=first["spec"]["slots"])
        assert back["spec"] == first["spec"]
        shared.await_state("busy", "running")
        now = [each["id"] for each in shared.service("busy")["status"]["replicas"]]
        assert serving in now

        change(shared, slots=3)
        last = change(shared, slots=4)
        assert settled(shared, last["revision"])["spec"]["slots"] == 4
    assert traffic.failed == []
    wait_for(lambda: len(shared.engine_pids()) == 2, "what is not wanted to end")


def test_a_revision_that_cannot_start_leaves_the_service_answering_and_another_mends_it(
    shared: Instance, demo_key: str, busy: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("models") / "no model.gguf"
    file.write_bytes(gguf(100))
    with shared.client() as client:
        client.post("/models", {"name": "unloadable", "source": file.as_uri(), "tasks": ["chat"]})
    before = shared.service("busy")
    with steady_calls(shared, demo_key, busy) as traffic:
        change(shared, model="unloadable")

        def stuck() -> Json | None:
            service = shared.service("busy")
            return service if service["status"]["stuck"] else None

        told = wait_for(stuck, "the change to be given up", 60)
        assert told["status"]["state"] == "updating"
        assert "does not start" in told["status"]["message"]
        assert "the one before serves on" in told["status"]["message"]
        assert told["status"]["log_tail"]
        assert ask(shared, demo_key, busy)

        result = shared.cli("update", "busy", "--slots", "3")
        assert result.returncode == 1
        assert "does not start" in result.stderr

        mended = change(shared, model=MODEL)
        assert mended["spec"]["variant"] == before["spec"]["variant"]
        settled(shared, mended["revision"])
    assert traffic.failed == []
    assert ask(shared, demo_key, busy)
    assert shared.api("DELETE", "/models/unloadable").status_code == 204


def test_the_command_line_changes_a_service(shared: Instance, busy: str) -> None:
    told = shared.cli("update", "busy", "--slots", "2", "--context-tokens", "512")
    assert told.returncode == 0, told.stderr
    revision = shared.service("busy")["revision"]
    assert told.stdout.strip() == f"busy runs revision {revision}"
    same = shared.cli("update", "busy", "--slots", "2")
    assert same.stdout.strip() == "busy is as it was"
    reset = shared.cli("update", "busy", "--reset", "slots", "--no-wait", "--json")
    assert json.loads(reset.stdout)["spec"]["slots"] == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to change"),
        (["--reset", "name"], "none of its options"),
        (["--reset", "slots", "--slots", "2"], "do not go together"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_the_command_line_says_what_cannot_be(
    shared: Instance, busy: str, arguments: list[str], told: str
) -> None:
    result = shared.cli("update", "busy", *arguments)
    assert result.returncode == 1
    assert told in result.stderr
