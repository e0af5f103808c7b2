"""Who is compared: each contestant's configuration, and how it is started, found and ended.

A contestant is pinned to one core, all its threads and children with it, and stands before
the same engine. Where a peer's setting is a choice, the one that is cheaper for it is made:

- nginx: one worker, kept connections both ways, bodies in memory, no access log, no buffer
  for answers (the streams need it so, and whole answers cost no more). It checks no key.
- vllm-router: regular mode with one worker, policy `round_robin` (its default `cache_aware`
  keeps a tree of all prompts, and costs twice as much), log level `warning`. It checks no key.
- LiteLLM: one uvicorn worker, no database, its master key checked.
- Modelry: as it comes, with keys, limits, access log, metrics and usage, which it reports to
  a control plane's end of the feed on the engine's core; see `ours` and `control`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.gateway import installs, ours, wire
from bench.gateway.calls import Calls
from bench.gateway.wire import HOST, Unexpected

ROOT = Path(__file__).parents[2]
_START_S = 120.0


@dataclass(frozen=True)
class Contestant:
    """`pids`: all its processes. `callers`: the keys and models its load uses."""

    name: str
    port: int
    pids: tuple[int, ...]
    callers: tuple[tuple[str, str], ...] = ((ours.KEY, wire.MODEL),)


@dataclass(frozen=True)
class Stage:
    """Where everything happens: two cores, the engine, and a folder for the run's files."""

    gateway_core: int
    load_core: int
    engine_pid: int
    engine_port: int
    engine_socket: Path
    folder: Path


class NotStarted(Exception):
    """A contestant that did not come to answer, and the end of what it said."""


@contextmanager
def stage(gateway_core: int, load_core: int, folder: Path) -> Iterator[Stage]:
    """Starts the engine, and moves this process to the engine's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    path = folder / "engine.sock"
    command = [sys.executable, "-m", "bench.gateway.engine", "--unix", str(path)]
    engine = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert engine.stdout is not None
        port = int(engine.stdout.readline())
        yield Stage(gateway_core, load_core, engine.pid, port, path, folder)
    finally:
        engine.kill()
        engine.communicate()
        os.sched_setaffinity(0, before)


@contextmanager
def direct(stage: Stage) -> Iterator[Contestant]:
    yield Contestant("direct", stage.engine_port, ())


@contextmanager
def nginx(stage: Stage) -> Iterator[Contestant]:
    program = installs.nginx()
    folder = stage.folder / "nginx"
    folder.mkdir()
    port = _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, port=port, engine=stage.engine_port))
    with _started(stage, "nginx", [str(program), "-c", str(configuration)], port) as contestant:
        yield contestant


_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream engine {{
    server 127.0.0.1:{engine};
    keepalive 1100;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


@contextmanager
def vllm_router(stage: Stage) -> Iterator[Contestant]:
    port = _free_port()
    command = [
        str(installs.vllm_router()),
        "--worker-urls", f"http://{HOST}:{stage.engine_port}",
        "--host", HOST,
        "--port", str(port),
        "--prometheus-port", str(_free_port()),
        "--policy", "round_robin",
        "--log-level", "warning",
        "--worker-startup-check-interval", "1",
    ]  # fmt: skip
    with _started(stage, "vllm-router", command, port) as contestant:
        yield contestant


@contextmanager
def litellm(stage: Stage) -> Iterator[Contestant]:
    program = installs.litellm()
    port = _free_port()
    configuration = stage.folder / "litellm.yaml"
    configuration.write_text(
        _LITELLM.format(model=wire.MODEL, engine=stage.engine_port, key=ours.KEY)
    )
    command = [
        str(program), "--config", str(configuration), "--host", HOST, "--port", str(port),
        "--num_workers", "1", "--telemetry", "False",
    ]  # fmt: skip
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _started(stage, "litellm", command, port, environment) as contestant:
        yield contestant


_LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{engine}/v1
      api_key: sk-engine
general_settings:
  master_key: {key}
"""


@contextmanager
def modelry(
    stage: Stage, name: str = "modelry", table: ours.Table | None = None
) -> Iterator[Contestant]:
    """Modelry's gateway with `table`: one route and one key if None."""
    table = table or ours.one_of_each(ours.endpoint(stage.engine_port))
    data = stage.folder / name
    environment = ours.prepare(data, table)
    port = _free_port()
    environment["MODELRY_PORT"] = str(port)
    command = [str(installs.modelry()), "-m", "modelry.app.gateway"]
    with (
        _control_plane(data),
        _started(stage, name, command, port, environment, table.callers) as contestant,
    ):
        yield contestant


@contextmanager
def _control_plane(data: Path) -> Iterator[None]:
    """On the core of engine and load, where this process is."""
    command = [sys.executable, "-m", "bench.gateway.control", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise NotStarted(f"the control plane's end of the feed of {data.name}")
        yield
    finally:
        process.kill()
        process.communicate()


def modelry_replica(stage: Stage) -> AbstractContextManager[Contestant]:
    """As `modelry`, before a replica of its own on a Unix socket. Only where asked for."""
    return modelry(stage, "modelry-replica", ours.one_of_each(ours.replica(stage.engine_socket)))


CONTESTANTS: dict[str, Callable[[Stage], AbstractContextManager[Contestant]]] = {
    "direct": direct,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "litellm": litellm,
    "modelry": modelry,
    "modelry-replica": modelry_replica,
}
STANDARD = ("direct", "nginx", "vllm-router", "litellm", "modelry")


@contextmanager
def _started(
    stage: Stage,
    name: str,
    command: list[str],
    port: int,
    environment: dict[str, str] | None = None,
    callers: tuple[tuple[str, str], ...] = Contestant.callers,
) -> Iterator[Contestant]:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    log = stage.folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(stage.gateway_core), *command],
            cwd=stage.folder,
            env={**inherited, **(environment or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        try:
            _wait(process, port, callers)
        except NotStarted as error:
            said = log.read_text(errors="replace")[-1000:].strip()
            raise NotStarted(f"{name}: {error}: {said}") from None
        below = psutil.Process(process.pid).children(recursive=True)
        yield Contestant(name, port, (process.pid, *(each.pid for each in below)), callers)
    finally:
        # Its session, so that no worker outlives its master.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(
    process: "subprocess.Popen[bytes]", port: int, callers: tuple[tuple[str, str], ...]
) -> None:
    """Until every caller has had an answer."""
    requests = [wire.request(key, model, 300, stream=False) for key, model in callers]
    until = time.monotonic() + _START_S
    last: Exception | None = None
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotStarted(f"it ended with status {process.returncode}")
        try:
            for request in requests:
                Calls(port, [request], 1).finish()
        except (Unexpected, OSError) as error:
            last = error
            time.sleep(0.1)
        else:
            return
    raise NotStarted(f"no answer within {_START_S:.0f} s, but {last}")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
