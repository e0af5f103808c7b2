"""The process of one llama.cpp replica: `python -m modelry.engines.llama_cpp_runner REPLICA`.

It reads its configuration, the secret included, from standard input, so that
nothing private stands in its arguments or environment. It survives whoever
started it. On SIGTERM it finishes what it works on and exits; a second
SIGTERM, or one while it still loads, ends it at once. The argument is for
people who read `ps`.

It knows nothing of services, routes or the control plane, and imports of Modelry
only what reads a file's header, so that a replica costs no more than its engine.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelry.engines.gguf_kind import Kind, read_kind

EXIT_LIBRARY_MISSING = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_UNLOADABLE = 65  # EX_DATAERR
EXIT_OTHER_TASK = 78  # EX_CONFIG

_SPARE_HTTP_THREADS = 64
_NOWHERE = "/nonexistent"
_POLL_S = 0.05
# Idle several looks in a row: a request can be on its way from a gateway that has
# just been told to send no more.
_IDLE_LOOKS = 3


@dataclass(frozen=True)
class RunnerConfig:
    """`address`: `unix:<path>` or `tcp:<host>:<port>`. `context_tokens`: per slot.

    `temperature`, `top_p` and `max_tokens` are what a request gets that does not
    say. `task`: `chat`, `embedding` or `rerank`. `adapter`: a GGUF file of LoRA
    weights, for every request. `projector`: a GGUF file of what turns images into
    tokens. `arguments`: of llama.cpp's own server, by name, each with its number.
    """

    weights: str
    alias: str
    address: str
    secret: str
    slots: int
    context_tokens: int
    threads: int
    task: str = "chat"
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    adapter: str | None = None
    projector: str | None = None
    arguments: dict[str, float] = field(default_factory=dict)


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, address: str) -> None:
        kind, _, rest = address.partition(":")
        self._path = rest if kind == "unix" else None
        host, _, port = rest.rpartition(":") if kind == "tcp" else ("replica", "", "80")
        super().__init__(host, int(port), timeout=5)

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self._path)


def _busy(config: RunnerConfig) -> bool:
    """Whether the engine works on a request or holds one in its queue."""
    headers = {"authorization": f"Bearer {config.secret}"}
    try:
        connection = _SocketConnection(config.address)
        connection.request("GET", "/metrics", headers=headers)
        text = connection.getresponse().read().decode()
        connection.close()
    except (OSError, http.client.HTTPException):
        # It does not say: better to wait, and be ended by force at the deadline.
        return True
    wanted = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
    values = [line.split()[1] for line in text.splitlines() if line.startswith(wanted)]
    return any(float(value) > 0 for value in values)


def _kind(weights: Path) -> Kind:
    try:
        return read_kind(weights) or Kind()
    except OSError:
        # The engine opens them too, and says what is wrong.
        return Kind()


def _serve(config: RunnerConfig) -> None:
    try:
        # Here and not at the top: a missing system library must end in a
        # sentence, and importing this module must not load the engine.
        import xllamacpp  # type: ignore[import-untyped]
    except ImportError as error:
        print(
            f"{error}; install it (on Debian: apt-get install libgomp1 libstdc++6)",
            flush=True,
        )
        os._exit(EXIT_LIBRARY_MISSING)

    kind = _kind(Path(config.weights))
    refusal = kind.refusal(config.task)
    if refusal is not None:
        print(f"these weights do not do {config.task}: {refusal}", flush=True)
        os._exit(EXIT_OTHER_TASK)
    where, _, rest = config.address.partition(":")
    params = xllamacpp.CommonParams()
    params.model.path = config.weights
    params.model_alias = {config.alias}
    params.api_keys = [config.secret]
    params.n_parallel = config.slots
    # The engine divides its context among the slots.
    params.n_ctx = config.context_tokens * config.slots
    # Each open connection, kept ones included, occupies one of the engine's
    # HTTP threads; probes must find one free while every slot streams.
    params.n_threads_http = config.slots + _SPARE_HTTP_THREADS
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.threads
    if config.temperature is not None:
        params.sampling.temp = config.temperature
    if config.top_p is not None:
        params.sampling.top_p = config.top_p
    if config.max_tokens is not None:
        params.n_predict = config.max_tokens
    if config.adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(config.adapter, 1.0)]
    if config.task != "chat":
        _make_vectors(config, kind, params, xllamacpp.llama_pooling_type)
    if config.projector is not None:
        params.mmproj.path = config.projector
        # What it cannot open as an image it would hand to a program of this machine, as a film.
        params.video_ffmpeg_bin_dir = _NOWHERE
    _apply(config.arguments, params)
    params.cont_batching = True
    params.cache_prompt = True
    params.use_jinja = True
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    if where == "unix":
        Path(rest).unlink(missing_ok=True)
        params.hostnames = [rest]
    else:
        host, _, port = rest.rpartition(":")
        params.hostnames = [host]
        params.port = int(port)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(f"{error}", flush=True)
        os._exit(EXIT_UNLOADABLE)

    stop = threading.Event()

    def asked_to_stop(_number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(0)
        stop.set()

    signal.signal(signal.SIGTERM, asked_to_stop)
    print(f"ready on {server.listening_address}", flush=True)
    stop.wait()
    idle = 0
    while idle < _IDLE_LOOKS:
        idle = 0 if _busy(config) else idle + 1
        time.sleep(_POLL_S)
    print("drained, ending", flush=True)
    # The engine's own threads need no farewell, and must not delay one.
    os._exit(0)


def _make_vectors(config: RunnerConfig, kind: Kind, params: Any, pooling: Any) -> None:
    """Have it give vectors, or scores, of whole inputs.

    An input is worked on at once, so a batch has room for the longest. One of more tokens than the
    model has places for would end the engine: there, what its makers say is the bound.
    """
    context = min(config.context_tokens, kind.context_tokens or config.context_tokens)
    params.n_ctx = context * config.slots
    params.n_batch = params.n_ubatch = context
    params.embedding = True
    if config.task == "rerank":
        params.pooling_type = pooling.LLAMA_POOLING_TYPE_RANK
    elif kind.pooling is None:
        # As Sentence Transformers does where a model names none.
        params.pooling_type = pooling.LLAMA_POOLING_TYPE_MEAN


def _apply(arguments: dict[str, float], params: Any) -> None:
    if "--threads" in arguments:
        params.cpuparams.n_threads = int(arguments["--threads"])
        params.cpuparams_batch.n_threads = int(arguments["--threads"])
    if "--batch-size" in arguments:
        params.n_batch = int(arguments["--batch-size"])
    if "--ubatch-size" in arguments:
        params.n_ubatch = int(arguments["--ubatch-size"])
    if "--rope-freq-base" in arguments:
        params.rope_freq_base = arguments["--rope-freq-base"]
    if "--rope-freq-scale" in arguments:
        params.rope_freq_scale = arguments["--rope-freq-scale"]
    if "--no-repack" in arguments:
        params.no_extra_bufts = True


def main() -> None:
    # A person's ^C in the terminal is for `up`, which stops replicas in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    config = RunnerConfig(**json.load(sys.stdin))
    sys.stdin.close()
    _serve(config)


if __name__ == "__main__":
    main()
