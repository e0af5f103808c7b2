"""Which fields of a call an engine of ours goes by, and which it would ignore without a word.

docs/guides/parameters.md lists them; a test keeps it true. What was ignored is told in the header
`x-modelry-ignored`, and a strict key's calls are refused instead.
"""

import re

import msgspec

from modelry.gateway import body as bodies
from modelry.gateway.replies import Reply, error
from modelry.gateway.request import CHAT, COMPLETION

_NAMES_TOLD = 20
_PLAIN = re.compile(r"[A-Za-z0-9_.\[\]$-]{1,64}")
_LISTS_MOST = 4096
_LETTERS_MOST = 1024
"""Of a list of names that is remembered: callers choose them."""
_LONG = 64

_SAMPLING = frozenset(
    {
        *("model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "seed"),
        *("stop", "max_tokens", "n", "logprobs", "logit_bias"),
        *("presence_penalty", "frequency_penalty", "ignore_eos"),
    }
)
LABELS = frozenset(
    {
        *("user", "metadata", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    }
)
"""They tell whose a call is, and change no answer: nothing is lost where nobody reads them."""
_CHATS = frozenset(
    {
        *("messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice"),
        *("parallel_tool_calls", "response_format", "reasoning_effort", "chat_template_kwargs"),
        *("add_generation_prompt", "continue_final_message"),
    }
)
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, and server-schema.cpp.
_LLAMA = _SAMPLING | frozenset(
    {
        *("adaptive_decay", "adaptive_target", "backend_sampling", "cache_prompt", "grammar"),
        *("dry_allowed_length", "dry_base", "dry_multiplier", "dry_penalty_last_n", "json_schema"),
        *("dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range", "id_slot", "lora"),
        *("min_keep", "mirostat", "mirostat_eta", "mirostat_tau", "n_cache_reuse", "n_discard"),
        *("n_indent", "n_keep", "n_predict", "n_probs", "post_sampling_probs", "repeat_last_n"),
        *("repeat_penalty", "response_fields", "return_progress", "return_tokens", "samplers"),
        *("sse_ping_interval", "t_max_predict_ms", "t_max_prompt_ms", "timings_per_token"),
        *("top_n_sigma", "typical_p", "verbose", "xtc_probability", "xtc_threshold"),
    }
)
_LLAMA_CHATS = frozenset(
    {
        *("reasoning_format", "reasoning_budget_tokens", "reasoning_budget_message"),
        *("reasoning_control", "thinking_budget_tokens"),
    }
)
# vLLM 0.32: vllm/entrypoints/openai/{chat_completion,completion}/protocol.py.
_VLLM = _SAMPLING | frozenset(
    {
        *("use_beam_search", "repetition_penalty", "watermarking", "length_penalty"),
        *("stop_token_ids", "include_stop_str_in_output", "min_tokens", "skip_special_tokens"),
        *("spaces_between_special_tokens", "truncate_prompt_tokens", "truncation_side"),
        *("prompt_logprobs", "logprob_token_ids", "allowed_token_ids", "bad_words", "echo"),
        *("add_special_tokens", "response_format", "structured_outputs", "priority"),
        *("request_id", "session_id", "return_tokens_as_token_ids", "return_token_ids"),
        *("routed_experts_prompt_start", "return_token_offsets", "mm_payload"),
        *("return_mm_kwargs", "cache_salt", "kv_transfer_params", "ec_transfer_params"),
        *("vllm_xargs", "repetition_detection", "thinking_token_budget", "stream_interval"),
    }
)
_VLLM_CHATS = frozenset(
    {
        *("include_reasoning", "documents", "chat_template", "media_io_kwargs"),
        *("mm_processor_kwargs", "return_prompt_text"),
    }
)

KNOWN: dict[tuple[str, bytes], frozenset[str]] = {
    ("llama.cpp", CHAT): _LLAMA | _CHATS | _LLAMA_CHATS,
    ("llama.cpp", COMPLETION): _LLAMA | {"prompt"},
    ("vllm", CHAT): _VLLM | _CHATS | _VLLM_CHATS,
    ("vllm", COMPLETION): _VLLM | {"prompt", "suffix", "prompt_embeds"},
}
"""What each engine goes by, by its dialect and the endpoint. What a name is not found in is not
looked at.
"""

REFUSED: dict[tuple[str, bytes], frozenset[str]] = {("vllm", COMPLETION): frozenset({"suffix"})}
"""Of these, what an engine refuses by itself."""

# Values with which a field asks for nothing that there would not be without it.
_NEUTRAL: dict[str, frozenset[bytes]] = {
    "store": frozenset({b"false"}),
    "service_tier": frozenset({b'"auto"', b'"default"'}),
    "modalities": frozenset({b'["text"]'}),
    "verbosity": frozenset({b'"medium"'}),
    "echo": frozenset({b"false"}),
    "suffix": frozenset({b'""'}),
    "best_of": frozenset({b"1"}),
    "function_call": frozenset({b'"none"'}),
    "functions": frozenset({b"[]"}),
}

_unknown: dict[tuple[str, bytes, tuple[str, ...]], tuple[str, ...]] = {}


def ignored(dialect: str, path: bytes, body: bytes | bytearray) -> tuple[str, ...]:
    """The fields of a call's body that its engine would ignore, though they ask for something."""
    known = KNOWN.get((dialect, path))
    if known is None:
        return ()
    fields = bodies.fields(body)
    names = tuple(fields)
    listed = _unknown.get((dialect, path, names))
    if listed is None:
        listed = tuple(name for name in names if name not in known and name not in LABELS)
        if len(names) <= _LONG and sum(map(len, names)) <= _LETTERS_MOST:
            # Callers send the same fields over and over.
            if len(_unknown) >= _LISTS_MOST:
                _unknown.clear()
            _unknown[dialect, path, names] = listed
    return tuple(name for name in listed if not is_neutral(name, fields[name])) if listed else ()


def is_neutral(name: str, value: msgspec.Raw) -> bool:
    """Whether a field with this value asks for nothing."""
    said = b"".join(bytes(memoryview(value)[:_LONG]).split())
    return said == b"null" or said in _NEUTRAL.get(name, ())


def header_line(names: tuple[str, ...]) -> bytes:
    told = [name for name in names if _PLAIN.fullmatch(name)][:_NAMES_TOLD]
    return b"x-modelry-ignored: %b\r\n" % ",".join(told or ["?"]).encode()


def refusal(names: tuple[str, ...]) -> Reply:
    """Of a strict key's call."""
    told = ", ".join([name for name in names if _PLAIN.fullmatch(name)][:_NAMES_TOLD]) or "?"
    message = f"This key is strict, and the service would ignore: {told}. Leave that out."
    return error(400, "unsupported_parameter", message, param=told.partition(",")[0])
