"""A runner's process: how it treats signals, and where it leaves what it writes."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from modelry.runners.configuration import RunnerConfig
from tests.support import tiny_runner
from tests.support.waiting import wait_for


class Runner:
    """A process in `folder`, that has said it is ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = RunnerConfig(
            "tiny", f"unix:{folder}/a.sock", "secret", str(folder), slots=1, threads=1
        )
        self.process = subprocess.Popen(
            [sys.executable, str(Path(tiny_runner.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(config.encode())
        self.process.stdin.close()
        assert self.process.stdout.readline() == b"ready\n"

    def get(self, path: str) -> tuple[int, bytes]:
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(60)
            wire.connect(str(self.folder / "a.sock"))
            connection = http.client.HTTPConnection("tiny")
            connection.sock = wire
            headers = {"authorization": "Bearer secret", "connection": "close"}
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as answer:
                return answer.status, answer.read()

    def refuses(self) -> bool:
        """Whether it takes no more connections."""
        try:
            self.get("/health")
        except OSError:
            return True
        return False


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    runner.process.kill()
    runner.process.wait()
    assert runner.process.stdout is not None
    runner.process.stdout.close()


@pytest.fixture
def held(runner: Runner) -> Iterator["Future[tuple[int, bytes]]"]:
    """A request that the runner works on until it is let go."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(runner.get, "/hold")
        wait_for((runner.folder / "held").exists, "the request to be worked on")
        yield asked
        runner.process.kill()


def test_a_runner_finishes_what_it_works_on_and_ends_well(
    runner: Runner, held: "Future[tuple[int, bytes]]"
) -> None:
    runner.process.send_signal(signal.SIGTERM)
    wait_for(runner.refuses, "the runner to take no more")
    (runner.folder / "go").touch()
    assert held.result(30) == (200, b'{"held":true}')
    assert runner.process.wait(30) == 0


def test_a_second_signal_ends_a_runner_whatever_it_works_on(
    runner: Runner, held: "Future[tuple[int, bytes]]"
) -> None:
    runner.process.send_signal(signal.SIGTERM)
    wait_for(runner.refuses, "the runner to take no more")
    runner.process.send_signal(signal.SIGTERM)
    # Far less than it would wait for the request.
    assert runner.process.wait(20) == 0
    assert held.exception(20) is not None


def test_a_thread_that_nobody_waits_for_does_not_delay_the_end(runner: Runner) -> None:
    assert runner.get("/leave") == (200, b'{"left":true}')
    wait_for((runner.folder / "held").exists, "the thread to work")
    runner.process.send_signal(signal.SIGTERM)
    assert runner.process.wait(30) == 0


def test_a_key_pressed_in_the_terminal_does_not_reach_a_runner(runner: Runner) -> None:
    runner.process.send_signal(signal.SIGINT)
    for _ in range(3):
        assert runner.get("/health")[0] == 200
        with pytest.raises(subprocess.TimeoutExpired):
            runner.process.wait(0.3)
    runner.process.send_signal(signal.SIGTERM)
    assert runner.process.wait(30) == 0


def test_passing_files_lie_in_the_replicas_own_folder(runner: Runner) -> None:
    status, body = runner.get("/folder")
    assert status == 200
    said = json.loads(body)
    assert said["told"] == str(runner.folder / "tmp")
    assert Path(said["made"]).parent == runner.folder / "tmp"
    assert (runner.folder / "tmp").stat().st_mode & 0o077 == 0
