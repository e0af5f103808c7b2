"""vLLM: safetensors weights in a runtime of its own, on GPUs or, slowly, on the processor.

Its own server is started, without a runner of ours: on SIGTERM it finishes what it works on,
and it takes its key from its environment.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx2

from modelry.engines.base import (
    AdapterRefused,
    Command,
    Endpoint,
    Failure,
    Probe,
    ReplicaPlan,
)
from modelry.engines.inventory import Inventory, usable_cores
from modelry.engines.options import OptionRules, Options
from modelry.engines.probing import client, ended_from_outside, probe

_DRAIN_TIMEOUT_S = 60
_LOAD_TIMEOUT_S = 120.0
_GIB = 1024**3
_CONFIG_MAX = 10 * 1024 * 1024

# Of an adapter and how many at a time: more are kept in memory, and come from disk again.
_LORA_RANK_MAX = 64
_LORAS_AT_ONCE = 4
_LORAS_IN_MEMORY = 32

# https://docs.vllm.ai/en/stable/models/supported_models/: those it can run with LoRA adapters.
LORA_ARCHITECTURES = frozenset(
    {
        "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM",
        "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM",
        "Gemma3ForCausalLM", "Phi3ForCausalLM", "GraniteForCausalLM", "SmolLM3ForCausalLM",
        "Olmo2ForCausalLM",
    }
)  # fmt: skip

_RESERVED = frozenset(
    {
        "--model", "--served-model-name", "--uds", "--host", "--port", "--api-key",
        "--trust-remote-code", "--tensor-parallel-size", "--max-model-len", "--max-num-seqs",
        "--shutdown-timeout", "--root-path", "--ssl-keyfile", "--ssl-certfile",
        "--enable-prompt-tokens-details",
        "--enable-lora", "--no-enable-lora", "--lora-modules", "--max-lora-rank",
        "--device", "--headless", "--data-parallel-size", "--api-server-count", "--config",
    }
)  # fmt: skip
_FREE = frozenset(
    {
        "--dtype", "--seed", "--quantization", "--kv-cache-dtype", "--max-num-batched-tokens",
        "--gpu-memory-utilization", "--tool-call-parser", "--reasoning-parser", "--max-logprobs",
        "--max-seq-len-to-capture",
    }
)  # fmt: skip
_FLAGS = frozenset(
    {
        "--enforce-eager", "--enable-prefix-caching", "--no-enable-prefix-caching",
        "--enable-chunked-prefill", "--no-enable-chunked-prefill", "--enable-auto-tool-choice",
        "--disable-cascade-attn",
    }
)  # fmt: skip
_OURS = frozenset(
    {
        "VLLM_API_KEY", "VLLM_HOST_IP", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    }
)  # fmt: skip

# What `config.json` has of a model that reads images.
_OF_IMAGES = ("vision_config", "visual", "image_token_id", "image_token_index")

_ERROR = re.compile(r"(?P<reason>\b(?:[A-Z]\w*(?:Error|Exception)): .+)$")
# As Python's argparse says it.
_REFUSED = re.compile(r"\.py: error: (?P<reason>.+)$")
_EXIT_USAGE = 2
_BRIEF = re.compile(r"free memory|no available memory", re.IGNORECASE)
_LASTING = ("ValueError", "ValidationError", "KeyError", "NotImplementedError", "TypeError")


# One process gives tokens, or works on whole inputs: its other runner.
_POOLED = ("embedding", "rerank")


class Vllm:
    name = "vllm"
    tasks = ("chat", "completion", *_POOLED)
    formats = ("safetensors", "pytorch")
    stops_whole_answers = True
    embedded = False
    takes_adapters = True
    dialect = "vllm"
    adapter_rank_max: int | None = _LORA_RANK_MAX
    rules = OptionRules(
        free=_FREE | _FLAGS,
        flags=_FLAGS,
        reserved=_RESERVED,
        free_variables=frozenset({"VLLM_LOGGING_LEVEL"}),
        reserved_variables=_OURS,
    )

    def open_to_adapters(self, weights: Path) -> bool:
        return takes_lora(read_config(weights))

    def reads_images(self, weights: Path) -> bool:
        config = _read_config(weights)
        return any(config.get(name) is not None for name in _OF_IMAGES)

    def supports(self, format: str, tasks: tuple[str, ...]) -> str | None:
        if format not in self.formats:
            return f"vLLM runs safetensors weights, not {format}"
        missing = [task for task in tasks if task not in self.tasks]
        if missing:
            return f"vLLM does not do {', '.join(missing)} here"
        if len(tasks) > 1 and any(task in _POOLED for task in tasks):
            return "vLLM does not do " + " and ".join(tasks) + " in one replica"
        return None

    def converts(self, format: str) -> str | None:
        return None

    def preference(self, format: str, inventory: Inventory) -> int:
        # On a processor llama.cpp starts sooner, takes less memory and is quicker.
        return 10 if inventory.gpus else 30

    def gpus(self, inventory: Inventory) -> int:
        return 1 if inventory.gpus else 0

    def check(self, options: Options) -> None:
        """It checks its arguments itself, when it starts."""

    def command(self, plan: ReplicaPlan, endpoint: Endpoint) -> Command:
        assert plan.runtime is not None
        config = read_config(plan.weights)
        argv = [
            str(plan.runtime / "bin" / "python"),
            # Of no effect: by it a replica is found again, and people who read `ps` see it.
            *("-X", plan.replica_id),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(plan.weights), "--served-model-name", plan.access_path),
            *_listen(endpoint),
            *("--max-model-len", str(plan.context_tokens), "--max-num-seqs", str(plan.slots)),
            *("--shutdown-timeout", str(_DRAIN_TIMEOUT_S), "--disable-uvicorn-access-log"),
            # How much of a prompt was known from before, which callers pay less for elsewhere.
            "--enable-prompt-tokens-details",
            # A caller's image comes with the request: what an address leads to from here is
            # nobody's to fetch.
            *("--allowed-media-domains", "none.invalid"),
            *_lora(config),
            *(("--runner", "pooling") if _pools(plan) else _generation(plan)),
        ]
        if plan.gpus:
            argv += ["--tensor-parallel-size", str(len(plan.gpus))]
            argv += ["--gpu-memory-utilization", "0.9"]
        else:
            # What every processor can do; half precision is slow without AMX or AVX512-BF16.
            argv += ["--dtype", "float32", "--enforce-eager"]
        if plan.allow_remote_code:
            argv.append("--trust-remote-code")
        # Later ones count, so the owner's come last.
        argv += plan.options.arguments
        environment = {**_environment(plan, config), **plan.options.environment}
        environment["VLLM_API_KEY"] = endpoint.secret
        return Command(argv=tuple(argv), env=environment)

    async def probe(self, endpoint: Endpoint) -> Probe:
        return await probe(endpoint, "/v1/models")

    def explain(self, exit_code: int | None, log_tail: list[str]) -> Failure:
        outside = ended_from_outside("vLLM", exit_code)
        if outside is not None:
            return outside
        refused = next((match for line in log_tail if (match := _REFUSED.search(line))), None)
        if exit_code == _EXIT_USAGE and refused is not None:
            told = refused["reason"].strip()
            return Failure(f"vLLM does not take its arguments: {told}", lasting=True)
        reason = _reason(log_tail)
        if reason is None:
            return Failure(f"vLLM exited with status {exit_code}")
        # Memory that another process still holds is free a little later.
        lasting = reason.startswith(_LASTING) and not _BRIEF.search(reason)
        return Failure(f"vLLM could not start: {reason}", lasting=lasting)

    # -- adapters --------------------------------------------------------------

    async def adapters(self, endpoint: Endpoint) -> frozenset[str]:
        answer = await _ask(endpoint, "GET", "/v1/models", None)
        try:
            return frozenset(
                str(each["id"]) for each in answer["data"] if each.get("parent") is not None
            )
        except (KeyError, TypeError, AttributeError):
            raise AdapterRefused("vLLM does not say which adapters it has") from None

    async def load_adapter(self, endpoint: Endpoint, name: str, adapter: Path) -> None:
        body = {"lora_name": name, "lora_path": str(adapter)}
        await _ask(endpoint, "POST", "/v1/load_lora_adapter", body)

    async def unload_adapter(self, endpoint: Endpoint, name: str) -> None:
        await _ask(endpoint, "POST", "/v1/unload_lora_adapter", {"lora_name": name})


def read_config(weights: Path) -> dict[str, Any]:
    """`config.json` of a folder of weights, {} where it has none that can be read."""
    try:
        return _read_config(weights)
    except OSError:
        return {}


def _read_config(weights: Path) -> dict[str, Any]:
    """The same. Raises `OSError` where that says nothing of the weights."""
    try:
        with (weights / "config.json").open("rb") as file:
            found = json.loads(file.read(_CONFIG_MAX))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def takes_lora(config: dict[str, Any]) -> bool:
    architectures = config.get("architectures")
    return isinstance(architectures, list) and any(
        isinstance(each, str) and each in LORA_ARCHITECTURES for each in architectures
    )


def _pools(plan: ReplicaPlan) -> bool:
    """How it pools, or what its head is, the model's own files say."""
    return any(task in _POOLED for task in plan.tasks)


def _listen(endpoint: Endpoint) -> list[str]:
    kind, _, rest = endpoint.address.partition(":")
    if kind == "unix":
        return ["--uds", rest]
    host, _, port = rest.rpartition(":")
    return ["--host", host, "--port", port]


def _lora(config: dict[str, Any]) -> list[str]:
    """Adapters come later, to a replica that runs: room for them has to be there from its start."""
    if not takes_lora(config):
        return []
    return [
        "--enable-lora",
        *("--max-lora-rank", str(_LORA_RANK_MAX)),
        *("--max-loras", str(_LORAS_AT_ONCE)),
        *("--max-cpu-loras", str(_LORAS_IN_MEMORY)),
    ]


def _generation(plan: ReplicaPlan) -> list[str]:
    defaults = plan.defaults
    told = {
        "temperature": defaults.temperature,
        "top_p": defaults.top_p,
        "max_new_tokens": defaults.max_tokens,
    }
    given = {name: value for name, value in told.items() if value is not None}
    return ["--override-generation-config", json.dumps(given)] if given else []


def _environment(plan: ReplicaPlan, config: dict[str, Any]) -> dict[str, str]:
    environment = {
        # Its processes speak to each other over sockets of their own.
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # All that it needs is here; what it would fetch, nobody has looked at.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    if takes_lora(config):
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if plan.gpus:
        # As `nvidia-smi` counts them; by itself CUDA begins with the fastest.
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in plan.gpus)
    else:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(cache_gib(plan, config))
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(usable_cores()))
    return environment


def cache_gib(plan: ReplicaPlan, config: dict[str, Any]) -> int:
    """Whole GiB for the keys and values of every slot's context in float32, 1 at least.

    Two vectors of `num_key_value_heads * head_dim` a layer and token; 4 GiB where the
    model's configuration does not say.
    """
    try:
        heads = int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_dim = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        per_token = 2 * int(config["num_hidden_layers"]) * kv_heads * head_dim * 4
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return 4
    wanted = per_token * plan.context_tokens * plan.slots
    return max(1, min(-(-wanted // _GIB), 1024))


async def _ask(
    endpoint: Endpoint, method: str, path: str, body: dict[str, str] | None
) -> dict[str, Any]:
    try:
        async with client(endpoint, _LOAD_TIMEOUT_S) as http:
            answer = await http.request(method, path, json=body)
    except (httpx2.HTTPError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise AdapterRefused(f"vLLM does not answer: {reason}") from None
    try:
        found = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    except ValueError:
        found = {}
    if answer.status_code == 200:
        return found if isinstance(found, dict) else {}
    try:
        told = found["error"]["message"]
    except (KeyError, TypeError):
        told = f"it answered {answer.status_code}"
    raise AdapterRefused(f"vLLM did not take the adapter: {told}")


def _reason(log_tail: list[str]) -> str | None:
    """Its own last words, of the first process that said some: the others tell of that one."""
    for line in reversed(log_tail):
        match = _ERROR.search(line)
        if match and "See root cause above" not in line and "Failed core proc" not in line:
            return match["reason"].strip()
    return None
