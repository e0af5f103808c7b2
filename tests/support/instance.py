"""A real Modelry: `modelry up` as a process of its own, on a free port of loopback."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from openai import OpenAI

from modelry.cli.login import read_login
from modelry.client import Client, Json
from modelry.settings import Paths
from tests.support.waiting import wait_for

ADMIN_TOKEN = "pat-" + "t" * 40
ADMIN_PASSWORD = "correct horse battery"
MODEL = "smollm2-135m-instruct"


class Instance:
    """One data directory and the `up` that works on it; may be started again after its end."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.paths = Paths(data_dir)
        self.environment = environment
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    # -- the process ---------------------------------------------------------

    def spawn(self, *options: str) -> subprocess.Popen[str]:
        """Start `modelry up` and return at once; its output is piped together."""
        # Modules are compiled once for all starts, whatever the environment says.
        kept = {
            name: value
            for name, value in os.environ.items()
            if "MODELRY" not in name and name != "PYTHONDONTWRITEBYTECODE"
        }
        environment = {
            **kept,
            "MODELRY_DATA_DIR": str(self.paths.data),
            "MODELRY_PORT": "0",
            "MODELRY_ADMIN_TOKEN": ADMIN_TOKEN,
            "MODELRY_ADMIN_PASSWORD": ADMIN_PASSWORD,
            # No other test's calls meet a probe.
            "MODELRY_CONFORMANCE": "asked",
            **self.environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelry", "up", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def start(self, *options: str) -> "Instance":
        """Start it and wait until it is ready."""
        process = self.spawn(*options)

        def ready() -> bool:
            if process.poll() is not None:
                assert process.stdout is not None
                raise AssertionError(f"up ended with {process.returncode}: {process.stdout.read()}")
            login = read_login(self.paths.local_login)
            if login is None:
                return False
            self.url = login.url
            try:
                return httpx2.get(f"{self.url}/readyz", timeout=2).status_code == 200
            except httpx2.HTTPError:
                return False

        wait_for(ready, "up to be ready")
        return self

    def stop(self, timeout_s: float = 90.0) -> int:
        """Ask it to end as a person's ^C does; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=timeout_s)
        return self.process.returncode

    def kill(self) -> None:
        """kill -9 of `up` itself."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def pid_of(self, part: str) -> int:
        """The pid of `gateway` or `control`."""
        assert self.process is not None
        wanted = f"modelry.app.{part}"
        for child in psutil.Process(self.process.pid).children():
            try:
                if wanted in child.cmdline():
                    return child.pid
            except psutil.Error:
                continue
        raise AssertionError(f"there is no {part}")

    def engine_pids(self) -> list[int]:
        """Pids of the replicas that run on this data directory, whoever started them."""
        ids = {folder.name for folder in self.paths.replicas.glob("rep_*")}
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            if ids.intersection(process.info["cmdline"] or ()):
                found.append(process.pid)
        return found

    # -- its interfaces ------------------------------------------------------

    def client(self, token: str = ADMIN_TOKEN) -> Client:
        return Client(self.url, token)

    def api(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """A call of the management API, as it comes back; `token=None` calls anonymously."""
        token = options.pop("token", ADMIN_TOKEN)
        headers = options.pop("headers", {})
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        url = f"{self.url}/api/v1{path}"
        return httpx2.request(method, url, headers=headers, timeout=60, **options)

    def deploy(self, name: str, model: str = MODEL, **spec: Any) -> Json:
        """A service of the real model, once it runs."""
        with self.client() as client:
            client.post("/services", {"name": name, "model": model, **spec})
        return self.await_state(name, "running")

    def service(self, name: str) -> Json:
        with self.client() as client:
            return client.get(f"/services/{name}")

    def await_state(self, name: str, state: str, timeout_s: float = 60.0) -> Json:
        def look() -> Json | None:
            service = self.service(name)
            return service if service["status"]["state"] == state else None

        return wait_for(look, f"{name} to be {state}", timeout_s)

    def key(self, name: str = "test", **grant: Any) -> str:
        with self.client() as client:
            return str(client.post("/keys", {"name": name, **grant})["key"])

    def openai(self, key: str, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1/", api_key=key, max_retries=0, **options)

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this instance."""
        environment = {
            **os.environ,
            "MODELRY_URL": self.url,
            "MODELRY_TOKEN": ADMIN_TOKEN,
            "XDG_CONFIG_HOME": str(self.paths.data / "xdg"),
            "COLUMNS": "200",
            **options.pop("env", {}),
        }
        return subprocess.run(
            [sys.executable, "-m", "modelry", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )


def share_weights(cache: Path, data_dir: Path) -> None:
    """Give a fresh data directory the weights that an earlier test fetched, by hard links."""
    if (cache / "blobs").is_dir():
        target = Paths(data_dir).weights
        shutil.copytree(cache, target, copy_function=os.link, dirs_exist_ok=True)


@contextmanager
def running(instance: Instance, *options: str) -> Iterator[Instance]:
    """Start it, and end it and its replicas whatever happens."""
    try:
        yield instance.start(*options)
    finally:
        end(instance)


def end(instance: Instance) -> None:
    try:
        if instance.process is not None:
            instance.stop()
    finally:
        for pid in instance.engine_pids():
            psutil.Process(pid).kill()
