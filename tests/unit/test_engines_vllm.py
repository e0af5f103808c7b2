"""vLLM: how a replica is started on what a machine has, and what its last words mean."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.engines.base import Command, Defaults, Endpoint, ReplicaPlan
from modelry.engines.inventory import Inventory, parse_gpus, usable_cores
from modelry.engines.options import Options
from modelry.engines.vllm import Vllm, cache_gib, read_config, takes_lora
from modelry.executors.local import TAIL_LINES
from modelry.executors.logs import LogFile
from modelry.services.placement import place_gpus

engine = Vllm()
ENDPOINT = Endpoint("unix:/run/a.sock", "the secret")

NO_GPU = Inventory(cores=2, memory_bytes=8 * 1024**3)
GIB = 1024**3

# As `nvidia-smi` printed them.
MACHINES = {
    1: "0, NVIDIA L4, 23034\n",
    2: "0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 4090, 24564\n",
    4: "".join(f"{n}, NVIDIA A100-SXM4-80GB, 81920\n" for n in range(4)),
}

# The configurations of SmolLM2-135M-Instruct and of GPT-2, as far as they are read.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "torch_dtype": "bfloat16",
}
GPT2 = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_head": 12, "n_layer": 12}


def weights(folder: Path, config: object = SMOLLM2) -> Path:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    return folder


def plan(folder: Path, *, gpus: tuple[int, ...] = (), **more: object) -> ReplicaPlan:
    made = ReplicaPlan(
        replica_id="rep_0123456789abcdef",
        access_path="u-8105f7322477/test",
        weights=folder,
        tasks=("chat",),
        slots=3,
        context_tokens=512,
        runtime=Path("/runtimes/vllm-0.32.0-cpu"),
        gpus=gpus,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def value(command: Command, argument: str) -> str | None:
    """What the engine takes: the last of its kind counts."""
    found = None
    for at, each in enumerate(command.argv):
        if each == argument:
            found = command.argv[at + 1]
    return found


# -- the command ---------------------------------------------------------------


def test_a_replica_is_told_what_to_run_and_where_to_listen(tmp_path: Path) -> None:
    command = engine.command(plan(weights(tmp_path)), ENDPOINT)
    assert command.argv[0] == "/runtimes/vllm-0.32.0-cpu/bin/python"
    assert "rep_0123456789abcdef" in command.argv
    assert value(command, "-m") == "vllm.entrypoints.openai.api_server"
    assert value(command, "--model") == str(tmp_path)
    assert value(command, "--served-model-name") == "u-8105f7322477/test"
    assert value(command, "--uds") == "/run/a.sock"
    assert "--port" not in command.argv
    assert value(command, "--max-num-seqs") == "3"
    assert value(command, "--max-model-len") == "512"
    assert "--enable-prompt-tokens-details" in command.argv
    assert "--trust-remote-code" not in command.argv


@pytest.mark.parametrize("task", ["embedding", "rerank"])
def test_whole_inputs_are_another_runner_s(tmp_path: Path, task: str) -> None:
    assert engine.supports("safetensors", (task,)) is None
    assert "in one replica" in (engine.supports("safetensors", ("chat", task)) or "")
    command = engine.command(plan(weights(tmp_path), tasks=(task,)), ENDPOINT)
    assert value(command, "--runner") == "pooling"
    assert value(engine.command(plan(weights(tmp_path)), ENDPOINT), "--runner") is None


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("tcp:127.0.0.1:8001", "127.0.0.1", "8001"), ("tcp:::1:8001", "::1", "8001")],
)
def test_it_listens_on_a_port_where_that_is_asked(
    tmp_path: Path, address: str, host: str, port: str
) -> None:
    command = engine.command(plan(weights(tmp_path)), Endpoint(address, "the secret"))
    assert (value(command, "--host"), value(command, "--port")) == (host, port)
    assert "--uds" not in command.argv


def test_the_secret_is_a_variable_and_no_argument(tmp_path: Path) -> None:
    options = Options((), {"VLLM_API_KEY": "another", "VLLM_LOGGING_LEVEL": "DEBUG"})
    command = engine.command(plan(weights(tmp_path), options=options), ENDPOINT)
    assert command.env["VLLM_API_KEY"] == "the secret"
    assert command.env["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert "the secret" not in " ".join(command.argv)
    assert "the secret" not in repr(command)


def test_it_fetches_nothing_and_tells_nobody(tmp_path: Path) -> None:
    env = engine.command(plan(weights(tmp_path)), ENDPOINT).env
    assert (env["HF_HUB_OFFLINE"], env["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    assert (env["VLLM_NO_USAGE_STATS"], env["DO_NOT_TRACK"]) == ("1", "1")
    assert env["VLLM_HOST_IP"] == "127.0.0.1"


def test_on_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = engine.command(plan(weights(tmp_path)), ENDPOINT)
    assert value(command, "--dtype") == "float32"
    assert "--enforce-eager" in command.argv
    assert "--tensor-parallel-size" not in command.argv
    assert "--gpu-memory-utilization" not in command.argv
    assert "CUDA_VISIBLE_DEVICES" not in command.env
    assert command.env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert command.env["OMP_NUM_THREADS"] == str(usable_cores())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert engine.command(plan(weights(tmp_path)), ENDPOINT).env["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("machine", "taken", "count", "visible"),
    [
        (1, (), 1, "0"),
        (2, (), 1, "0"),
        (2, (0,), 1, "1"),
        (2, (), 2, "0,1"),
        (4, (), 4, "0,1,2,3"),
        (4, (0, 2), 2, "1,3"),
    ],
)
def test_on_gpus(
    tmp_path: Path, machine: int, taken: tuple[int, ...], count: int, visible: str
) -> None:
    inventory = Inventory(32, 128 * GIB, parse_gpus(MACHINES[machine]))
    gpus = place_gpus(inventory, taken, count)
    assert gpus is not None
    command = engine.command(plan(weights(tmp_path), gpus=gpus), ENDPOINT)
    assert value(command, "--tensor-parallel-size") == str(count)
    assert command.env["CUDA_VISIBLE_DEVICES"] == visible
    fraction = value(command, "--gpu-memory-utilization")
    assert fraction is not None
    assert 0.5 < float(fraction) < 1
    assert "--dtype" not in command.argv
    assert "--enforce-eager" not in command.argv
    assert "VLLM_CPU_KVCACHE_SPACE" not in command.env


def test_what_its_owner_gives_counts_more_than_what_is_usual(tmp_path: Path) -> None:
    options = Options(
        ("--gpu-memory-utilization", "0.5", "--dtype", "half"), {"VLLM_CPU_KVCACHE_SPACE": "9"}
    )
    command = engine.command(plan(weights(tmp_path), gpus=(0,), options=options), ENDPOINT)
    assert value(command, "--gpu-memory-utilization") == "0.5"
    command = engine.command(plan(weights(tmp_path), options=options), ENDPOINT)
    assert value(command, "--dtype") == "half"
    assert command.env["VLLM_CPU_KVCACHE_SPACE"] == "9"


def test_code_that_comes_with_weights_runs_where_that_is_allowed(tmp_path: Path) -> None:
    allowed = plan(weights(tmp_path), allow_remote_code=True)
    assert "--trust-remote-code" in engine.command(allowed, ENDPOINT).argv


@pytest.mark.parametrize(
    ("defaults", "told"),
    [
        (Defaults(), None),
        (Defaults(temperature=0), {"temperature": 0}),
        (
            Defaults(temperature=0.2, top_p=0.9, max_tokens=64),
            {"temperature": 0.2, "top_p": 0.9, "max_new_tokens": 64},
        ),
    ],
)
def test_requests_that_do_not_say_get_the_models_defaults(
    tmp_path: Path, defaults: Defaults, told: dict[str, float] | None
) -> None:
    command = engine.command(plan(weights(tmp_path), defaults=defaults), ENDPOINT)
    given_ = value(command, "--override-generation-config")
    assert (None if given_ is None else json.loads(given_)) == told


# -- adapters ------------------------------------------------------------------

LORA = ("--enable-lora", "--max-lora-rank", "--max-loras", "--max-cpu-loras")


def test_a_model_that_takes_adapters_has_room_for_them(tmp_path: Path) -> None:
    command = engine.command(plan(weights(tmp_path)), ENDPOINT)
    assert set(LORA) <= set(command.argv)
    assert command.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


@pytest.mark.parametrize("config", [GPT2, {}, {"architectures": "LlamaForCausalLM"}, "no JSON"])
def test_one_that_does_not_is_not_told_of_any(tmp_path: Path, config: object) -> None:
    command = engine.command(plan(weights(tmp_path, config)), ENDPOINT)
    assert not set(LORA) & set(command.argv)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in command.env


@pytest.mark.parametrize(
    ("architectures", "takes"),
    [
        (["LlamaForCausalLM"], True),
        (["Unknown", "Qwen3ForCausalLM"], True),
        (["GPT2LMHeadModel"], False),
        ([], False),
        ([None, 1, ["LlamaForCausalLM"], {"LlamaForCausalLM": 1}], False),
        ({"LlamaForCausalLM": 1}, False),
        (None, False),
    ],
)
def test_its_architecture_says_whether_a_model_takes_adapters(
    architectures: object, takes: bool
) -> None:
    assert takes_lora({"architectures": architectures}) is takes


# -- a configuration that somebody else wrote ----------------------------------

HOSTILE = {
    "deep": "[" * 200_000,
    "deep objects": '{"a":' * 200_000,
    "cut short": '{"architectures": ["LlamaForCausalLM"',
    "a list": '["LlamaForCausalLM"]',
    "a number": "1",
    "nothing": "",
    "a long number": '{"hidden_size": ' + "9" * 10_000 + "}",
    "infinite": json.dumps({**SMOLLM2, "num_hidden_layers": float("inf")}),
    "beyond a float": json.dumps(SMOLLM2).replace("30", "1e999"),
    "no number": json.dumps({**SMOLLM2, "num_attention_heads": float("nan")}),
    "huge numbers": json.dumps({**SMOLLM2, "num_hidden_layers": 10**400}),
    "below zero": json.dumps({**SMOLLM2, "num_hidden_layers": -30}),
    "no heads": json.dumps({**SMOLLM2, "num_attention_heads": 0}),
    "words": json.dumps({**SMOLLM2, "hidden_size": "wide"}),
    "lists": json.dumps({key: [1] for key in SMOLLM2}),
    "objects": json.dumps({key: {"a": None} for key in SMOLLM2}),
    "nulls": json.dumps(dict.fromkeys(SMOLLM2)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_configuration_keeps_a_replica_from_being_planned(tmp_path: Path, text: str) -> None:
    command = engine.command(plan(weights(tmp_path, text)), ENDPOINT)
    assert 1 <= int(command.env["VLLM_CPU_KVCACHE_SPACE"]) <= 1024


def test_what_is_no_file_is_no_configuration(tmp_path: Path) -> None:
    assert read_config(tmp_path) == {}
    assert read_config(tmp_path / "gone") == {}
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff\xfe"}')
    assert read_config(tmp_path) == {}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    assert read_config(tmp_path) == {}


def test_a_file_that_is_too_long_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(" " * (11 * 1024 * 1024) + json.dumps(SMOLLM2))
    assert read_config(tmp_path) == {}
    (tmp_path / "config.json").write_text(" " * (9 * 1024 * 1024) + json.dumps(SMOLLM2))
    assert read_config(tmp_path) == SMOLLM2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = [
    "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "num_hidden_layers",
    "architectures",
]  # fmt: skip


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, json_values)))
def test_any_values_at_all_give_some_cache(config: dict[str, object]) -> None:
    assert 1 <= cache_gib(plan(Path("/w")), config) <= 1024
    assert not takes_lora(config)


# -- memory for keys and values ------------------------------------------------

shapes = st.fixed_dictionaries(
    {
        "num_attention_heads": st.integers(1, 128),
        "hidden_size": st.integers(128, 20_000),
        "num_hidden_layers": st.integers(1, 200),
    },
    optional={
        "num_key_value_heads": st.none() | st.integers(1, 128),
        "head_dim": st.none() | st.integers(1, 512),
    },
)


@given(shapes, st.integers(1, 200), st.integers(1, 56), st.integers(64, 10**6))
def test_more_slots_never_get_less_memory(
    config: dict[str, int], slots: int, more: int, context_tokens: int
) -> None:
    fewer = plan(Path("/w"), slots=slots, context_tokens=context_tokens)
    assert cache_gib(fewer, config) <= cache_gib(replace(fewer, slots=slots + more), config)
    longer = replace(fewer, context_tokens=context_tokens + more)
    assert cache_gib(fewer, config) <= cache_gib(longer, config)


@pytest.mark.parametrize(
    ("config", "slots", "context_tokens", "gib"),
    [
        # 2 vectors * 30 layers * 3 heads of 64 numbers * 4 bytes: 46 080 bytes a token.
        (SMOLLM2, 1, 8192, 1),
        (SMOLLM2, 8, 8192, 3),
        (SMOLLM2, 256, 8192, 90),
        # Llama 3.1 8B, 128 KiB a token in 16 bits: 256 KiB in 32.
        (
            {
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "hidden_size": 4096,
                "num_hidden_layers": 32,
            },
            4,
            4096,
            4,
        ),
        # Qwen3 0.6B, whose heads are wider than its layers are when divided by their number.
        (
            {
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "hidden_size": 1024,
                "num_hidden_layers": 28,
            },
            4,
            4096,
            4,
        ),
        # Every head has keys of its own.
        ({"num_attention_heads": 8, "hidden_size": 1024, "num_hidden_layers": 16}, 1, 65536, 8),
        (GPT2, 4, 1024, 4),
        (SMOLLM2, 256, 10_000_000, 1024),
    ],
)
def test_every_slots_context_has_room(
    config: dict[str, object], slots: int, context_tokens: int, gib: int
) -> None:
    wanted = plan(Path("/w"), slots=slots, context_tokens=context_tokens)
    assert cache_gib(wanted, config) == gib


# -- what it runs --------------------------------------------------------------


def test_what_it_can_run_and_what_it_takes() -> None:
    assert engine.supports("safetensors", ("chat", "completion")) is None
    assert "not gguf" in (engine.supports("gguf", ("chat",)) or "")
    assert "does not do image here" in (engine.supports("safetensors", ("chat", "image")) or "")
    assert engine.converts("gguf") is None
    assert engine.gpus(NO_GPU) == 0
    assert engine.gpus(Inventory(32, 128 * GIB, parse_gpus(MACHINES[4]))) == 1


# -- its end -------------------------------------------------------------------

# Ends of logs of vLLM 0.32, as it wrote them, without most of the frames.
TOO_LONG = """\
(EngineCore pid=5597) ERROR 11-25 15:03:54 [core.py:1510] EngineCore failed to start.
(EngineCore pid=5597) ERROR 11-25 15:03:54 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=5597) ERROR 11-25 15:03:54 [core.py:1510]     raise ValueError(
(EngineCore pid=5597) ERROR 11-25 15:03:54 [core.py:1510] ValueError: To serve at least one \
request with the model's max seq len (150000), (2.29 GiB KV cache is needed, which is larger than \
the available KV cache memory (1.0 GiB). Based on the available memory, the estimated maximum \
model length is 65408.
(EngineCore pid=5597) ERROR 11-25 15:04:01 [multiproc_executor.py:315] Worker proc VllmWorker-0 \
died unexpectedly (exit code: None), shutting down executor.
(EngineCore pid=5597) INFO 11-25 15:04:01 [multiproc_executor.py:479] [shutdown] Executor: \
waiting for worker exit count=1
Process EngineCore:
Traceback (most recent call last):
  File "vllm/v1/core/kv_cache_utils.py", line 1030, in _check_enough_kv_cache_memory
    raise ValueError(
ValueError: To serve at least one request with the model's max seq len (150000), (2.29 GiB KV \
cache is needed, which is larger than the available KV cache memory (1.0 GiB). Based on the \
available memory, the estimated maximum model length is 65408.
""".splitlines()
OF_ITS_SERVER = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)
NO_SUCH_ARCHITECTURE = """\
  File "vllm/engine/arg_utils.py", line 1955, in create_model_config
    return ModelConfig(
           ^^^^^^^^^^^^
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures ['NobodyForCausalLM'] are not supported for now. Supported \
architectures: dict_keys(['AfmoeForCausalLM'])
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
""".splitlines()
ADDRESS_IN_USE = """\
    sock.bind(path)
OSError: [Errno 98] Address already in use
""".splitlines()
# In PyTorch's words.
OUT_OF_MEMORY = """\
(EngineCore pid=712) ERROR 11-25 14:02:11 [core.py:1510] torch.OutOfMemoryError: CUDA out of \
memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 21.98 GiB of which 101.44 \
MiB is free.
""".splitlines()


@pytest.mark.parametrize(
    ("log", "told", "lasting"),
    [
        (TOO_LONG, "ValueError: To serve at least one request with the model's max seq len", True),
        ([*TOO_LONG, OF_ITS_SERVER], "ValueError: To serve at least one request", True),
        (
            [*OUT_OF_MEMORY, OF_ITS_SERVER],
            "OutOfMemoryError: CUDA out of memory. Tried to allocate",
            False,
        ),
        (NO_SUCH_ARCHITECTURE, "ValidationError: 1 validation error for ModelConfig", True),
        (ADDRESS_IN_USE, "OSError: [Errno 98] Address already in use", False),
    ],
)
def test_the_reason_is_told_in_its_own_words(log: list[str], told: str, lasting: bool) -> None:
    failure = engine.explain(1, log)
    assert failure.message.startswith(f"vLLM could not start: {told}")
    assert failure.lasting is lasting
    assert "See root cause above" not in failure.message
    assert "pid=" not in failure.message


def test_the_reason_is_found_however_much_its_server_says_of_its_end() -> None:
    """In as much of the log as the executor shows."""
    recorded = Path(__file__).parent / "recorded" / "vllm-0.32.0-context-too-long.log"
    tail = LogFile(recorded).tail(TAIL_LINES)
    assert "Engine core initialization failed" in "".join(tail)
    failure = engine.explain(1, tail)
    assert failure.message.startswith("vLLM could not start: ValueError: To serve at least one")
    assert failure.lasting


@pytest.mark.parametrize(
    ("exit_code", "told"),
    [
        (None, "nobody watched"),
        (-signal.SIGKILL, "memory ran out"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGABRT, "SIGABRT"),
    ],
)
def test_an_end_by_a_signal_is_told_as_such(exit_code: int | None, told: str) -> None:
    failure = engine.explain(exit_code, TOO_LONG)
    assert told in failure.message
    assert "ValueError" not in failure.message
    assert not failure.lasting


@pytest.mark.parametrize("log", [[], ["INFO: all is well"], [OF_ITS_SERVER]])
def test_an_end_without_a_reason_is_told_with_its_status(log: list[str]) -> None:
    failure = engine.explain(3, log)
    assert (failure.message, failure.lasting) == ("vLLM exited with status 3", False)


def test_arguments_that_it_does_not_take_are_told_and_not_tried_again() -> None:
    log = [
        "usage: api_server.py [-h] [--headless]",
        "api_server.py: error: argument --seed: invalid int value: 'abc'",
    ]
    failure = engine.explain(2, log)
    assert failure.message == (
        "vLLM does not take its arguments: argument --seed: invalid int value: 'abc'"
    )
    assert failure.lasting
    assert not engine.explain(2, ["something else"]).lasting


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired",
        "ValueError: No available memory for the cache blocks. Try increasing it.",
    ],
)
def test_memory_that_another_still_holds_is_waited_for(line: str) -> None:
    failure = engine.explain(1, [f"(EngineCore pid=1) {line}"])
    assert line in failure.message
    assert not failure.lasting
