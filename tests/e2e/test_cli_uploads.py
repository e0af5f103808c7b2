"""`modelry models upload`, against a real Modelry on loopback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.instance import ADMIN_TOKEN, Instance, running
from tests.support.waiting import wait_for
from tests.support.weights_files import gguf, safetensors

MB = 1024 * 1024


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(Instance(tmp_path_factory.mktemp("uploads") / "data")) as started:
        yield started


def large_gguf(path: Path, size: int) -> Path:
    """A GGUF file of which most is a hole: its bytes still travel one by one."""
    with path.open("wb") as file:
        file.write(gguf(1000, seed=size))
        file.truncate(size)
    return path


def start_upload(instance: Instance, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "modelry", "models", "upload", *arguments],
        env={**os.environ, "MODELRY_URL": instance.url, "MODELRY_TOKEN": ADMIN_TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def received(instance: Instance) -> int:
    uploads = instance.api("GET", "/uploads").json()["data"]
    return sum(file["received_bytes"] for upload in uploads for file in upload["files"])


def test_a_folder_becomes_a_model(instance: Instance, tmp_path: Path) -> None:
    folder = tmp_path / "My Model"
    (folder / "onnx").mkdir(parents=True)
    (folder / ".git").mkdir()
    wanted = {"config.json": b"{}", "model.safetensors": safetensors(200_000)}
    for name, data in {
        **wanted, "pytorch_model.bin": b"\x80", "onnx/model.onnx": b"x", ".git/config": b"x",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    done = instance.cli("models", "upload", str(folder), "--task", "embedding")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "my-model\n"
    assert "modelry deploy my-model" in done.stderr
    model = instance.api("GET", "/models/my-model").json()
    assert model["tasks"] == ["embedding"]
    (variant,) = model["variants"]
    assert [file["name"] for file in variant["files"]] == sorted(wanted)
    assert variant["weights"] == "here"


def test_what_cannot_be_uploaded_is_said_in_one_line(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.gguf").write_bytes(b"MZ" * 100)
    for place, words in (
        ("none", "no files"),
        ("empty", "no files"),
        ("a.bin", "run a program"),
        ("b.gguf", "damaged"),
    ):
        done = instance.cli("models", "upload", str(tmp_path / place))
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert instance.api("GET", "/uploads").json()["data"] == []


def test_an_upload_survives_the_end_of_the_control_plane(
    instance: Instance, tmp_path: Path
) -> None:
    file = large_gguf(tmp_path / "killed.gguf", 150 * MB)
    command = start_upload(instance, str(file))
    wait_for(lambda: received(instance) > 0, "the first bytes to arrive", pause_s=0.01)
    os.kill(instance.pid_of("control"), signal.SIGKILL)
    output, errors = command.communicate(timeout=60)
    assert command.returncode == 0, errors
    assert output == "killed\n"


def test_an_interrupted_upload_goes_on_when_it_is_run_again(
    instance: Instance, tmp_path: Path
) -> None:
    file = large_gguf(tmp_path / "again.gguf", 160 * MB)
    command = start_upload(instance, str(file))
    try:
        wait_for(lambda: received(instance) > 0, "the first bytes to arrive", pause_s=0.01)
        # It has nobody to send to now, so it cannot be done before it is interrupted.
        gateway = instance.pid_of("gateway")
        os.kill(gateway, signal.SIGSTOP)
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=20)
        os.kill(gateway, signal.SIGCONT)
    finally:
        command.kill()
    assert command.returncode == 130
    assert "goes on from here" in errors
    (upload,) = instance.api("GET", "/uploads").json()["data"]
    assert 0 < received(instance) < 160 * MB
    done = instance.cli("models", "upload", str(file))
    assert done.returncode == 0, done.stderr
    assert instance.api("GET", f"/uploads/{upload['id']}").status_code == 404
    assert instance.api("GET", "/uploads").json()["data"] == []


def test_a_large_upload_grows_neither_process(instance: Instance, tmp_path: Path) -> None:
    file = large_gguf(tmp_path / "large.gguf", 200 * MB)
    parts = {name: psutil.Process(instance.pid_of(name)) for name in ("gateway", "control")}
    before = {name: process.memory_info().rss for name, process in parts.items()}
    peak = dict(before)
    command = start_upload(instance, str(file))
    while command.poll() is None:
        for name, process in parts.items():
            peak[name] = max(peak[name], process.memory_info().rss)
        time.sleep(0.01)
    _, errors = command.communicate()
    assert command.returncode == 0, errors
    grown = {name: (peak[name] - before[name]) / MB for name in parts}
    print(f"grown by {grown} MB")
    assert max(grown.values()) < 30, grown
