"""llama.cpp: what it can run, how it is started, and what its own words on its end mean."""

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from modelry.engines.base import Endpoint, Probe, ReplicaPlan
from modelry.engines.llama_cpp import LlamaCpp
from modelry.engines.llama_cpp_runner import (
    EXIT_LIBRARY_MISSING,
    EXIT_OTHER_TASK,
    EXIT_UNLOADABLE,
    RunnerConfig,
)

engine = LlamaCpp()

# Logs of xllamacpp, as it wrote them.
CUT_SHORT = """\
0.00.016.268 I srv    load_model: loading model '/models/bad.gguf'
0.00.063.966 E llama_model_load: error loading model: tensor 'token_embd.weight' data is not \
within the file bounds, model is corrupted or incomplete
0.00.064.000 E llama_model_load_from_file_impl: failed to load model
0.00.092.186 E cmn  common_init_: failed to load model '/models/bad.gguf'
0.00.092.233 E srv    load_model: failed to load model, '/models/bad.gguf'
0.00.092.277 I srv    operator(): operator(): cleaning up before exit...
0.00.094.910 E srv          init: exiting due to model loading error
Failed to init server, please check the input params.
""".splitlines()
NO_GGUF = """\
0.00.012.291 E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'
0.00.012.351 E llama_model_load: error loading model: llama_model_loader: failed to load model \
from /models/bad.gguf
0.00.012.396 E llama_model_load_from_file_impl: failed to load model
0.00.012.440 E cmn  common_init_: failed to load model '/models/bad.gguf'
0.00.012.485 E srv    load_model: failed to load model, '/models/bad.gguf'
0.00.014.764 E srv          init: exiting due to model loading error
Failed to init server, please check the input params.
""".splitlines()
NO_ADDRESS = """\
0.00.004.532 E srv         start: couldn't bind HTTP server socket, hostname: /run/a.sock, port: 0
0.00.004.559 I srv    operator(): operator(): cleaning up before exit...
0.00.004.652 E srv          init: exiting due to HTTP server error
Failed to init server, please check the input params.
""".splitlines()
UNKNOWN_ARCHITECTURE = [
    "0.00.010.000 E llama_model_load: error loading model: error loading model architecture: "
    "unknown model architecture: 'newest'"
]


@pytest.mark.parametrize("tasks", [("chat",), ("completion",), ("chat", "completion"), ()])
def test_gguf_weights_that_write_text_can_be_run(tasks: tuple[str, ...]) -> None:
    assert engine.supports("gguf", tasks) is None


def test_other_weights_are_refused_by_name() -> None:
    assert "safetensors" in (engine.supports("safetensors", ("chat",)) or "")


def test_a_task_it_does_not_do_is_named_and_no_other() -> None:
    reason = engine.supports("gguf", ("chat", "image", "speech")) or ""
    assert "image, speech" in reason
    assert "chat" not in reason


@pytest.mark.parametrize("tasks", [("embedding",), ("rerank",), ("chat", "completion")])
def test_each_way_to_run_weights_is_one_of_its_own(tasks: tuple[str, ...]) -> None:
    assert engine.supports("gguf", tasks) is None
    assert "in one replica" in (engine.supports("gguf", (*tasks, "embedding", "chat")) or "")


@pytest.mark.parametrize("task", ["embedding", "rerank"])
def test_a_replica_is_told_its_task(task: str) -> None:
    command = engine.command(replace(plan(), tasks=(task,)), Endpoint("unix:/a", "s"))
    assert RunnerConfig(**json.loads(command.stdin)).task == task


def test_weights_of_another_task_are_no_passing_trouble() -> None:
    line = "these weights do not do chat: they are an embedding model's"
    failure = engine.explain(EXIT_OTHER_TASK, ["loading", line])
    assert (failure.message, failure.lasting) == (line, True)


def plan() -> ReplicaPlan:
    return ReplicaPlan(
        replica_id="rep_0123456789abcdef",
        access_path="u-8105f7322477/test",
        weights=Path("/models/a.gguf"),
        tasks=("chat",),
        slots=3,
        context_tokens=512,
    )


def test_a_replica_is_told_what_to_run() -> None:
    command = engine.command(plan(), Endpoint("unix:/run/a.sock", "the secret"))
    config = RunnerConfig(**json.loads(command.stdin))
    assert config.weights == "/models/a.gguf"
    assert config.alias == "u-8105f7322477/test"
    assert (config.address, config.secret) == ("unix:/run/a.sock", "the secret")
    assert (config.slots, config.context_tokens) == (3, 512)
    assert config.threads >= 1


def test_a_replica_is_told_of_its_projector() -> None:
    seeing = replace(plan(), projector=Path("/models/mmproj.gguf"))
    command = engine.command(seeing, Endpoint("unix:/run/a.sock", "the secret"))
    assert RunnerConfig(**json.loads(command.stdin)).projector == "/models/mmproj.gguf"


def test_a_projector_that_does_not_fit_is_told_in_the_engines_words() -> None:
    failure = engine.explain(
        EXIT_UNLOADABLE,
        [
            "0.02.103.696 E mtmd_init_from_file: error: mismatch between text model "
            "(n_embd = 576) and mmproj (n_embd = 640)",
            "0.02.103.743 E srv    load_model: failed to load multimodal model, 'mmproj.gguf'",
            "0.02.104.080 E srv          init: exiting due to model loading error",
        ],
    )
    assert "(n_embd = 576) and mmproj (n_embd = 640)" in failure.message
    assert failure.lasting


def test_a_replicas_secret_is_neither_argument_nor_variable() -> None:
    command = engine.command(plan(), Endpoint("unix:/run/a.sock", "the secret"))
    assert "the secret" not in "\0".join([*command.argv, *command.env, *command.env.values()])
    assert "the secret" not in repr(command)
    assert "rep_0123456789abcdef" in command.argv


def test_weights_that_are_cut_short_are_told_in_the_engines_words() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, CUT_SHORT)
    assert failure.message.endswith(
        ": tensor 'token_embd.weight' data is not within the file bounds, "
        "model is corrupted or incomplete"
    )
    assert "weights" in failure.message
    assert failure.lasting


def test_a_file_that_is_no_gguf_is_told_to_be_none() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, NO_GGUF)
    assert "expected 'GGUF'" in failure.message
    assert failure.lasting


def test_an_architecture_it_does_not_know_is_named() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, UNKNOWN_ARCHITECTURE)
    assert "unknown model architecture: 'newest'" in failure.message
    assert failure.lasting


def test_an_address_that_cannot_be_bound_is_not_laid_to_the_weights() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, NO_ADDRESS)
    assert "weights" not in failure.message
    assert "couldn't bind" in failure.message
    assert not failure.lasting


def test_unloadable_weights_without_a_word_in_the_log() -> None:
    failure = engine.explain(EXIT_UNLOADABLE, [])
    assert "weights" in failure.message
    assert failure.lasting


def test_a_missing_library_is_told_with_what_helps() -> None:
    line = "libgomp.so.1: cannot open; install it (on Debian: apt-get install libgomp1)"
    failure = engine.explain(EXIT_LIBRARY_MISSING, ["starting", line])
    assert line in failure.message
    assert failure.lasting
    assert engine.explain(EXIT_LIBRARY_MISSING, []).lasting


@pytest.mark.parametrize(
    ("exit_code", "told"),
    [
        (None, "nobody watched"),
        (-signal.SIGKILL, "memory ran out"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGABRT, "SIGABRT"),
        (-250, "signal 250"),
        (1, "status 1"),
        (0, "status 0"),
    ],
)
def test_an_end_of_another_kind_is_told_and_may_be_tried_again(
    exit_code: int | None, told: str
) -> None:
    failure = engine.explain(exit_code, [])
    assert told in failure.message
    assert not failure.lasting


def test_another_exit_status_comes_with_the_last_error_of_the_log() -> None:
    log = ["0.01.000.000 E srv    do_it: the first thing", "0.02.000.000 E srv    do_it: the last"]
    message = engine.explain(1, [*log, "0.03.000.000 I srv    do_it: no error"]).message
    assert message.endswith("status 1: the last")


# -- its probe ---------------------------------------------------------------


def probed(tmp_path: Path, answers: dict[str, bytes], secret: str = "mine") -> Probe:
    """What a probe finds of a server that answers so, to who knows `mine`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        known = path == "/health" or "authorization: Bearer mine\r\n" in head
        writer.write(answers[path] if known else b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        writer.close()

    async def ask() -> Probe:
        address = tmp_path / "replica.sock"
        async with await asyncio.start_unix_server(serve, str(address)):
            return await engine.probe(Endpoint(f"unix:{address}", secret))

    return asyncio.run(ask())


WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def test_a_replica_that_answers_and_knows_the_secret_is_ready(tmp_path: Path) -> None:
    assert probed(tmp_path, {"/health": WELL, "/slots": WELL}) is Probe.READY


def test_a_replica_that_does_not_serve_yet_is_loading(tmp_path: Path) -> None:
    loading = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    assert probed(tmp_path, {"/health": loading}) is Probe.LOADING


def test_a_server_that_does_not_know_the_secret_is_foreign(tmp_path: Path) -> None:
    assert probed(tmp_path, {"/health": WELL, "/slots": WELL}, "other") is Probe.FOREIGN


@pytest.mark.parametrize("noise", [b"", b"hello\r\n", b"\xff" * 100_000, b"HTTP/1.1 20"])
def test_what_speaks_no_http_is_unreachable(tmp_path: Path, noise: bytes) -> None:
    assert probed(tmp_path, {"/health": noise}) is Probe.UNREACHABLE


def test_where_nothing_listens_is_unreachable(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/none.sock", "tcp:127.0.0.1:1"):
        assert asyncio.run(engine.probe(Endpoint(address, "mine"))) is Probe.UNREACHABLE


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ({}, {"GOMP_SPINCOUNT": "300"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ],
)
def test_its_threads_wait_for_each_other_as_the_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], given: dict[str, str]
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert engine.command(plan(), Endpoint("unix:/run/a.sock", "s")).env == given
