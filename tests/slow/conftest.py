"""What takes minutes to make is made once a machine: runtimes of gigabytes, a fine-tuned model.

In `MODELRY_TEST_CACHE`, by default `~/.cache/modelry-tests`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelry.catalog.cards import load_cards
from modelry.client import Json
from tests.support.instance import MODEL, Instance, end, share_weights
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
START_S = 1800.0
"""Its runtime may have to be installed first."""


@pytest.fixture(scope="session")
def kept() -> Path:
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "modelry-tests"
    folder = Path(os.environ.get("MODELRY_TEST_CACHE") or usual)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def make_slow_instance(
    kept: Path, weights_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Instance]]:
    """Instances that share one folder of runtimes: what one has installed, the next finds."""
    made: list[Instance] = []
    runtimes = kept / "runtimes"
    runtimes.mkdir(exist_ok=True)

    def make() -> Instance:
        data_dir = tmp_path_factory.mktemp("slow") / "data"
        share_weights(weights_cache, data_dir)
        (data_dir / "runtimes").symlink_to(runtimes)
        instance = Instance(data_dir)
        made.append(instance)
        return instance

    yield make
    for instance in made:
        end(instance)


@pytest.fixture(scope="session")
def fine_tuned(kept: Path, weights_cache: Path) -> Path:
    """A Hugging Face folder: the embedded chat model after some real steps of training."""
    scripts = [SCRIPTS / "finetune.py", SCRIPTS / "train_adapter.py"]
    digest = hashlib.sha256(b"".join(script.read_bytes() for script in scripts)).hexdigest()
    folder = kept / f"fine-tuned-{digest[:12]}"
    if not folder.exists():
        draft = kept / "fine-tuned.new"
        shutil.rmtree(draft, ignore_errors=True)
        base = weights_cache / "blobs" / str(load_cards()[MODEL].default_variant.sha256)
        python = _training_environment(kept)
        command = [str(python), str(scripts[0]), str(draft), "--base", str(base)]
        subprocess.run(command, check=True, timeout=1500)
        draft.rename(folder)
    return folder


def _training_environment(kept: Path) -> Path:
    requirements = SCRIPTS / "train_requirements.txt"
    folder = kept / f"train-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0"]
        subprocess.run([*install, "-r", str(requirements)], check=True, timeout=1800)
        (folder / "ready").touch()
    return python


def running(instance: Instance, name: str, **spec: Any) -> Json:
    """A new service, once it runs."""
    made = instance.api("POST", "/services", json={"name": name, **spec})
    assert made.status_code == 201, made.text

    def over() -> Json | None:
        service = instance.service(name)
        return service if service["status"]["state"] in ("running", "failed") else None

    service = wait_for(over, f"{name} to run", START_S, 0.5)
    assert service["status"]["state"] == "running", service["status"]
    return service


@pytest.fixture(scope="module")
def reranker(instance: Instance, kept: Path) -> Path:
    folder = kept / "reranker"
    if not folder.exists():
        [base] = instance.paths.weights.joinpath("trees").iterdir()
        [python] = instance.paths.data.glob("runtimes/gguf-converter-*/bin/python")
        script = SCRIPTS / "make_reranker.py"
        subprocess.run([str(python), str(script), str(base), str(folder)], check=True, timeout=1800)
    return folder
